"""edgewise beside each runtime's own best tool: same network, data, machine and run.

python -m benchmarks.compare --net resnet20 mobilenet_v2 --runtime litert onnxruntime
python -m benchmarks.compare --check

Makes both sides' files (the peers' in their own environment, once), runs the whole test set
through each, times all files of one runtime interleaved, prints a table and writes
``benchmarks/out/comparison.json``. With ``--check`` only ours are made and run, and the command
fails (exit code 1) when accuracy or agreement fell below ``benchmarks/reference.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from edgewise.edge import benchmark
from edgewise.edge.artifact import Artifact
from edgewise.edge.machine import describe, versions
from edgewise.edge.runners import RUNTIMES

from . import judging, reference, table
from .making import RECORD
from .nets import NETS, Net, load

__all__ = ["Pair", "Row", "Side", "clock", "judge", "main", "make_ours", "make_peers"]

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out"
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
DEFAULT_NETS = ("resnet20", "resnet56", "mobilenet_v2")
KINDS = ("float", "int8")


@dataclass(frozen=True)
class Pair:
    """One network on one runtime: where both sides' files are."""

    net: str
    runtime: str

    @property
    def folders(self) -> dict[str, Path]:
        """Of either side."""
        at = OUT / self.net / self.runtime
        return {"ours": at / "ours", "peer": at}

    def file(self, side: str, kind: str) -> Path:
        """``ours`` or ``peer``, ``float`` or ``int8``."""
        return self.folders[side] / f"{kind}{RUNTIMES[self.runtime].suffixes[0]}"

    def record(self, side: str) -> dict[str, Any]:
        """What the command that made the files wrote down."""
        return json.loads((self.folders[side] / RECORD).read_text())


@dataclass(frozen=True)
class Side:
    """Figures of one file.

    Attributes:
        accuracy: share of the test images, through the runtime.
        size_bytes: on disk.
        seconds: wall time of each stage from the PyTorch module to the file.
        p50_ms: of one inference at batch 1; None when latency was not measured.
    """

    accuracy: float
    size_bytes: int
    seconds: dict[str, float]
    p50_ms: float | None = None


@dataclass(frozen=True)
class Row:
    """One network on one runtime in one precision; `peer` and `ratio` are None without it.

    Attributes:
        images: size of the test set.
        torch_accuracy: of the float network in PyTorch.
        agreement: of our file with our Model.
        ratio: our latency by the peer's: the median over the rounds, and the bounds that hold it
            with 95 % confidence.
        speedup: float latency by this file's, both ours, in the same run.
    """

    net: str
    runtime: str
    kind: str
    images: int
    torch_accuracy: float
    agreement: judging.Agreement
    ours: Side
    peer: Side | None = None
    ratio: tuple[float, float, float] | None = None
    speedup: float | None = None


@cache
def network(name: str) -> Net:
    """Loaded once."""
    return load(name)


def make_ours(pair: Pair) -> None:
    """Make our files, always anew."""
    options = ("--net", pair.net, "--runtime", pair.runtime, "--out", pair.folders["ours"])
    _command(sys.executable, "benchmarks.ours", *options)


def make_peers(pair: Pair, python: Path, *, fresh: bool = False) -> None:
    """Make the peer's files, unless they are there from an earlier run and `fresh` is false."""
    folder = pair.folders["peer"]
    if fresh or not (folder / RECORD).exists():
        _command(python, f"benchmarks.peers.{pair.runtime}", "--net", pair.net, "--out", folder)


def _command(python: Path | str, module: str, *options: object) -> None:
    """Run a module of this folder in that interpreter, showing what it prints only if it fails."""
    command = [str(python), "-m", module, *map(str, options)]
    print(" ".join(command[1:]), file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}\n{' '.join(command)} failed")


def judge(pair: Pair, sides: Iterable[str] = ("ours", "peer")) -> list[Row]:
    """Accuracy and agreement: one row each for float and int8, not yet timed."""
    net, shared = network(pair.net), OUT / pair.net
    in_torch = judging.top1(judging.torch_outputs(net, shared), net.labels)
    rows = []
    for kind in KINDS:
        found = {}
        for side in sides:
            file = pair.file(side, kind)
            images = net.images if side == "ours" else net.inputs
            logits = judging.outputs(file, images)
            found[side] = Side(
                accuracy=judging.top1(logits[-len(net.labels) :], net.labels),
                size_bytes=Artifact.open(file).size_bytes,
                seconds=pair.record(side)["seconds"][kind],
            )
            if side == "ours":
                want, step = judging.model_outputs(file.with_suffix(".pt2"), net, shared)
                agreement = judging.agreement(want, logits, step)
        rows.append(
            Row(pair.net, pair.runtime, kind, len(net.labels), in_torch, agreement, **found)
        )
    return rows


def clock(pair: Pair, rows: list[Row], threads: int | None = None) -> list[Row]:
    """Time all four files of a pair interleaved, and fill the figures in."""
    paths = {(side, kind): pair.file(side, kind) for side in pair.folders for kind in KINDS}
    timings = dict(
        zip(paths, benchmark.benchmark(list(paths.values()), threads=threads), strict=True)
    )
    timed = []
    for row in rows:
        ours, peer = timings["ours", row.kind], timings["peer", row.kind]
        ratio = benchmark.compare(ours, peer)
        timed.append(
            replace(
                row,
                ours=replace(row.ours, p50_ms=ours.latency.p50),
                peer=replace(row.peer, p50_ms=peer.latency.p50),
                ratio=(ratio.value, *ratio.ci95),
                speedup=benchmark.compare(timings["ours", "float"], ours).value,
            )
        )
    return timed


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare")
    parser.add_argument("--net", nargs="+", choices=NETS, default=DEFAULT_NETS)
    parser.add_argument("--runtime", nargs="+", choices=RUNTIMES, default=tuple(RUNTIMES))
    parser.add_argument("--peers-python", type=Path, default=PEERS_PYTHON)
    parser.add_argument("--fresh", action="store_true", help="make the peers' files anew")
    parser.add_argument("--threads", type=int, help="default: the number of processors")
    parser.add_argument("--check", action="store_true", help="ours against the reference only")
    parser.add_argument("--save-reference", action="store_true", help="make this the reference")
    given = parser.parse_args()

    rows: list[Row] = []
    for pair in (Pair(net, runtime) for net in given.net for runtime in given.runtime):
        make_ours(pair)
        if given.check:
            rows += judge(pair, ("ours",))
            continue
        make_peers(pair, given.peers_python, fresh=given.fresh)
        rows += clock(pair, judge(pair), given.threads)
    print(table.render(rows))
    if given.check:
        failures = reference.failures(rows)
        print("\n".join(failures) or "nothing fell below the reference")
        return int(bool(failures))
    write(rows)
    if given.save_reference:
        reference.save(rows, conditions())
    return 0


def conditions() -> dict[str, Any]:
    """When and where."""
    return {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": describe(), "versions": versions()}


def write(rows: list[Row]) -> None:
    """Everything measured, with its conditions."""
    text = json.dumps({**conditions(), "rows": [asdict(row) for row in rows]}, indent=1)
    (OUT / "comparison.json").write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
