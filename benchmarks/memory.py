"""Peak memory of everything that looks at data, with few samples and with many.

python -m benchmarks.memory                             ResNet-20 with 100 and 10,000 images
python -m benchmarks.memory --net mobilenet_v2 --images 256

Each figure is the peak resident memory of a fresh process, imports included. The images are made
when they are read (256 real ones, moved sideways), so that they take no memory of their own. Linux
alone tells such peaks.
``float`` is the float model run over the same images, 64 at a time, as an evaluation runs it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

import edgewise as ew
from edgewise.data import Data, load_data
from edgewise.model import Model

from .nets import NETS, load

BATCH = 64


class Moved(Dataset):
    """`count` images out of a few: the first ones again and again, moved sideways."""

    def __init__(self, images: np.ndarray, count: int):
        self.images = images
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        times, image = divmod(index, len(self.images))
        return np.roll(self.images[image], times, axis=-1)


def run(model: Model, data: Data, count: int) -> None:
    for inputs, _ in data.require("calibration").batches(BATCH):
        model(*inputs)


def rounded(method: str) -> Callable[[Model, Data, int], object]:
    return lambda m, d, n: ew.RoundWeights(method, n)(ew.Quantize("int8", n)(m, d), d)


WAYS: dict[str, Callable[[Model, Data, int], object]] = {
    "float": run,
    "min-max": lambda m, d, n: ew.Quantize("int8", n, ranges="minmax")(m, d),
    "auto ranges": lambda m, d, n: ew.Quantize("int8", n, ranges="auto")(m, d),
    "equalized": lambda m, d, n: ew.Quantize("int8", n)(ew.Equalize()(m), d),
    "bias correction": rounded("nearest"),
    "GPTQ": rounded("gptq"),
    "AdaRound": rounded("adaround"),
}


def measure(name: str, way: str, count: int) -> dict[str, float]:
    """Do it in this process: peak bytes and seconds."""
    net = load(name)
    images = net.calibration.copy()
    model = ew.load(net.module, example=net.example)
    del net
    data = load_data({"calibration": Moved(images, count)}, model.signature)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of reading the files
    start = time.perf_counter()
    WAYS[way](model, data, count)
    seconds = time.perf_counter() - start
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024
    return {"bytes": peak, "seconds": seconds}


def main(arguments: list[str] | None = None) -> None:
    """Print one row for each way: megabytes with each number of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=NETS, default="resnet20")
    parser.add_argument("--images", nargs="+", type=int, default=(100, 10_000))
    parser.add_argument("--way", nargs="+", choices=WAYS, default=tuple(WAYS))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.here:
        print(json.dumps(measure(given.net, given.way[0], given.images[0])))
        return
    print(f"| {given.net} | {' | '.join(f'{n:,} images' for n in given.images)} |", flush=True)
    for way in given.way:
        cells = []
        for count in given.images:
            command = [sys.executable, "-m", "benchmarks.memory", "--here", "--net", given.net]
            command += ["--way", way, "--images", str(count)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            cells.append(f"{found['bytes'] / 1e6:,.0f} MB, {found['seconds']:.0f} s")
        print(f"| {way} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
