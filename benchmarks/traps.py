"""What is slower than float though it looks small: each trap beside float and our int8.

    python -m benchmarks.traps [--runs 100] [--trap NAME]

The files of a trap are timed in one run, in turns, on one thread, with random inputs; `explain`
then names what it finds in the foreign one. bfloat16 is a setting of OpenVINO and not of a file:
that row is timed in one process, in turns as well.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgewise as ew
from edgewise.edge.benchmark import benchmark, compare
from edgewise.edge.runners import openvino

from . import foreign
from .nets import MobileNetV2, ResNet

SAMPLES = 8  # only time is measured: weights of MobileNetV2 and the encoder are random
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def networks() -> dict[str, tuple[nn.Module, np.ndarray]]:
    """Modules with inputs for them."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True)
    encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    for weight in encoder.parameters():
        nn.init.normal_(weight, std=0.02)
    shapes = {"resnet20": (3, 32, 32), "mobilenet_v2": (3, 224, 224), "encoder": (128, 768)}
    made = {"resnet20": ResNet(3), "mobilenet_v2": MobileNetV2(), "encoder": encoder}
    draw = np.random.default_rng(0)
    return {
        name: (net.eval(), draw.normal(size=(SAMPLES, *shapes[name])).astype(np.float32))
        for name, net in made.items()
    }


class Files:
    """Our files of one network, made when they are asked for."""

    def __init__(self, name: str, folder: Path) -> None:
        net, self.samples = networks()[name]
        self.name, self.folder = name, folder
        self.model = ew.load(net, example=torch.from_numpy(self.samples[:1]))

    def ours(self, runtime: str, suffix: str, scheme: str | None = None) -> Path:
        """Float, or quantized by a scheme."""
        model = self.model
        with quiet():
            if scheme:
                model = ew.Quantize(scheme)(model, self.samples)
            path = self.folder / f"{self.name}-{scheme or 'float'}{suffix}"
            return ew.lower(model, runtime, path, data=self.samples).path


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def s8s8(files: Files) -> tuple[Path, Path, Path]:
    plain = files.ours("onnxruntime", ".onnx")
    trap = foreign.signed(plain, files.folder / "s8s8.onnx", files.samples)
    return plain, files.ours("onnxruntime", ".onnx", "int8"), trap


def openvino_style(files: Files) -> tuple[Path, Path, Path]:
    plain = files.ours("onnxruntime", ".onnx")
    trap = foreign.inputs_only(plain, files.folder / "style.onnx")
    return plain, files.ours("onnxruntime", ".onnx", "int8"), trap


def sixteen(files: Files) -> tuple[Path, Path, Path]:
    parts = (files.ours("litert", ".tflite", s) for s in (None, "int8", "16x8"))
    return tuple(parts)


def dynamic(files: Files) -> tuple[Path, Path, Path]:
    plain = files.ours("litert", ".tflite")
    trap = foreign.at_run_time(plain, files.folder / "dynamic.tflite", CONVOLUTIONS)
    return plain, files.ours("litert", ".tflite", "int8"), trap


# Name -> network, what makes the float file, ours and the trap.
TRAPS: dict[str, tuple[str, Callable[[Files], tuple[Path, Path, Path]]]] = {
    "S8S8 on ONNX Runtime": ("resnet20", s8s8),
    "Q/DQ before layers only, on ONNX Runtime": ("mobilenet_v2", openvino_style),
    "16x8 on LiteRT": ("mobilenet_v2", sixteen),
    "dynamic int8 convolutions on LiteRT": ("mobilenet_v2", dynamic),
}
BFLOAT16 = "int8 transformer on OpenVINO beside bfloat16"


def measure(trap: str, runs: int, folder: Path) -> None:
    """Print one row for each file, and what `explain` says of the last."""
    net, make = TRAPS[trap]
    paths = make(Files(net, folder))
    timings = benchmark(paths, threads=1, runs=runs)
    print(f"{trap}, {net}")
    for name, timing in zip(("float", "our int8", "trap"), timings, strict=True):
        ratio = compare(timing, timings[0])
        low, high = ratio.ci95
        row = f"  {name:<9} {ratio.value:6.2f} [{low:.2f}, {high:.2f}] x float"
        print(f"{row}, {timing.latency.p50:.2f} ms", flush=True)
    named(paths[-1])


def named(path: Path) -> None:
    for finding in ew.explain(path, runs=10).findings:
        print(f"  explain: {finding.name}, {finding.share:.0%} of the time", flush=True)


def bfloat16(runs: int, folder: Path) -> None:
    """The float file in float32 and in bfloat16, and the int8 file, in turns."""
    files = Files("encoder", folder)
    plain, small = (files.ours("openvino", ".xml", s) for s in (None, "int8"))
    core, requests = openvino.sdk().Core(), {}
    for name, path, precision in (
        ("float32", plain, "f32"),
        ("bfloat16", plain, "bf16"),
        ("our int8", small, "f32"),
        ("our int8, the rest in bfloat16", small, "bf16"),
    ):
        options = openvino.settings(1) | {"INFERENCE_PRECISION_HINT": precision}
        requests[name] = core.compile_model(path, "CPU", options).create_infer_request()
    seconds: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(runs):
        for name, request in requests.items():
            begin = time.perf_counter()
            request.infer([files.samples[:1]])
            seconds[name].append(time.perf_counter() - begin)
    print(f"{BFLOAT16}, 4 layers of width 768, 128 tokens")
    base = np.array(seconds["float32"])
    for name, values in seconds.items():
        ratio = float(np.median(np.array(values) / base))
        print(f"  {name:<31} {ratio:.2f} x float32, {1e3 * np.median(values):.1f} ms", flush=True)
    named(small)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trap", choices=(*TRAPS, BFLOAT16), action="append")
    parser.add_argument("--runs", type=int, default=100)
    given = parser.parse_args()
    for trap in given.trap or (*TRAPS, BFLOAT16):
        with tempfile.TemporaryDirectory() as folder:
            if trap == BFLOAT16:
                bfloat16(given.runs, Path(folder))
            else:
                measure(trap, given.runs, Path(folder))


if __name__ == "__main__":
    main()
