"""edgewise's float and int8 file for one runtime, made and timed as the peers' are.

python -m benchmarks.ours --net resnet20 --runtime litert --out benchmarks/out/resnet20/litert/ours

Beside the files it leaves ``float.pt2`` and ``int8.pt2``, the Models that they must agree with.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import edgewise as ew
from edgewise.edge.runners import RUNTIMES

from .making import Stages, arguments, make
from .nets import Net


def make_float(net: Net, folder: Path, stage: Stages, runtime: str) -> None:
    with stage("load"):
        model = ew.load(net.module, example=net.example)
    with stage("lower"):
        ew.lower(model, runtime, folder / f"float{RUNTIMES[runtime].suffixes[0]}")
    model.save(folder / "float.pt2")


def make_int8(net: Net, folder: Path, stage: Stages, runtime: str) -> None:
    with stage("load"):
        model = ew.load(net.module, example=net.example)
    with stage("quantize"):
        model = ew.Quantize("int8")(model, {"calibration": net.calibration})
    with stage("lower"):
        ew.lower(model, runtime, folder / f"int8{RUNTIMES[runtime].suffixes[0]}")
    model.save(folder / "int8.pt2")


if __name__ == "__main__":
    parser = arguments()
    parser.add_argument("--runtime", choices=RUNTIMES, required=True)
    given = parser.parse_args()
    makers = (partial(m, runtime=given.runtime) for m in (make_float, make_int8))
    make(given.net, given.out, *makers, ("torch", RUNTIMES[given.runtime].package))
