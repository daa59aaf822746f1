"""Every scheme of quantization on every runtime: latency as a multiple of float's.

    python -m benchmarks.schemes [--runtime NAME] [--net tokens|images] [--runs N]

``images`` is one image through MobileNetV2 (random weights: only time is measured), ``tokens`` 64
tokens through four transformer layers of width 256. The files of a runtime are timed in one run, in
turns, on one thread. `edgewise.lowering.capabilities` holds what came out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import nn

import edgewise as ew
from edgewise.compress.schemes import SCHEMES
from edgewise.edge import runners
from edgewise.edge.benchmark import benchmark, compare
from edgewise.errors import EdgewiseError
from edgewise.lowering.capabilities import capabilities

from .nets import MobileNetV2

TOKENS, WIDTH, LAYERS = 64, 256, 4
CALIBRATION = 16


class Encoder(nn.Module):
    """Transformer layers over vectors, and a head."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 10)
        for weight in self.parameters():  # the layers begin as copies, which files would share
            nn.init.normal_(weight, std=0.05)

    def forward(self, x):
        return self.head(self.layers(x).mean(1))


NETS = {"tokens": (Encoder, (TOKENS, WIDTH)), "images": (MobileNetV2, (3, 224, 224))}


def measure(name: str, runtime: str, runs: int, folder: Path) -> None:
    """Print one row for each scheme."""
    kind, shape = NETS[name]
    torch.manual_seed(0)
    net, x = kind().eval(), torch.randn(CALIBRATION, *shape)
    model = ew.load(net, example=x[:1])
    made: dict[str, Path] = {}
    supports = capabilities(runtime).schemes
    schemes = [s.scheme for s in supports if name == "tokens" or "conv" in s.layers]
    for scheme in ("float32", *schemes):
        path = folder / f"{name}-{scheme}{runners.get(runtime).suffixes[0]}"
        try:
            made[scheme] = lowered(model, x, scheme, runtime, path)
        except EdgewiseError as error:
            print(f"| {runtime} | {name} | {scheme} | {error} |", flush=True)
    timings = benchmark(list(made.values()), threads=1, runs=runs)
    reference = timings[0]
    for scheme, timing in zip(made, timings, strict=True):
        ratio = compare(timing, reference)
        size = sum(file.stat().st_size for file in folder.glob(f"{made[scheme].stem}.*") if
                   file.suffix != ".json")  # fmt: skip
        low, high = ratio.ci95
        print(
            f"| {runtime} | {name} | {scheme} | {ratio.value:.2f} [{low:.2f}, {high:.2f}] | "
            f"{timing.latency.p50:.2f} ms | {size / 1e3:.0f} kB |",
            flush=True,
        )


def lowered(model: ew.Model, x: torch.Tensor, scheme: str, runtime: str, path: Path) -> Path:
    if scheme != "float32":
        step = ew.Quantize(scheme, target=capabilities(runtime))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = step(
                model,
                {"calibration": x.numpy()} if SCHEMES[scheme].activations == "static" else None,
            )
    ew.lower(model, runtime, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=runners.RUNTIMES, action="append")
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--runs", type=int, default=300)
    given = parser.parse_args()
    print("| runtime | net | scheme | of float's latency | p50 | size |\n|---|---|---|---|---|---|")
    start = time.perf_counter()
    for runtime in given.runtime or runners.RUNTIMES:
        for name in given.net or NETS:
            with tempfile.TemporaryDirectory() as folder:
                measure(name, runtime, given.runs, Path(folder))
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
