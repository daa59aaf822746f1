"""Bundles: how small, how fast to decode, in how much memory, and what an update takes.

    python -m benchmarks.bundles files FILE...     # artifacts, beside zstd -19 and xz -9e
    python -m benchmarks.bundles sizes             # ResNet-56 with condensed weights, and how good
    python -m benchmarks.bundles decode            # 16 MB of int8 weights: speed and memory
    python -m benchmarks.bundles update            # ResNet-56, tuned further, against the full one

Decoding is timed in processor time of one thread, numpy alone. Memory is how much the peak of a
fresh process rises while it decodes, with the coded file mapped and the output dropped.
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgewise.bundling import bundle
from edgewise.bundling.segments import segments_of
from edgewise.edge import codec
from edgewise.edge.artifact import Artifact
from edgewise.edge.codec import Segment
from edgewise.edge.worker import peak_bytes, reset_peak

__all__ = ["main"]

REPEATS = 5
CALIBRATION = 512  # images


def files(paths: list[str]) -> None:
    """One line of figures for each artifact."""
    for path in paths:
        print(json.dumps({"file": path, **_figures(Artifact.open(path))}), flush=True)


def sizes(images: int) -> None:
    """An int8 ResNet-56 as it is, and with weights rounded by what their bytes are worth.

    nncodec takes 279,079 bytes for the weights alone at 92.92 %, 331,265 at 93.03 %.
    """
    import edgewise as ew

    from . import nets
    from .pruning_nets import training

    net = nets.load("resnet56")
    data = {"calibration": training(CALIBRATION)}
    evaluation = {"evaluation": (net.inputs[:images], net.labels[:images])}
    whole = ew.load(net.module, net.example)
    with tempfile.TemporaryDirectory() as folder:
        for bits in (None, 2.3, 1.8):
            model = ew.Condense(bits, samples=CALIBRATION)(whole, data) if bits else whole
            path = Path(folder) / f"{bits}.tflite"
            artifact = ew.lower(ew.Quantize("int8")(model, data), "litert", path)
            found = ew.measure(artifact, evaluation, runs=10, threads=1)
            row = {"bits": bits, "top1": found.value, "images": found.n, **_figures(artifact)}
            print(json.dumps(row), flush=True)


def _figures(artifact: Artifact) -> dict[str, Any]:
    """How large it is by our codec, as a bundle and by other coders; seconds of ours."""
    segments = segments_of(artifact)
    raw = b"".join((artifact.path.parent / name).read_bytes() for name in artifact.files)
    figures: dict[str, Any] = {"bytes": len(raw)}
    begin, coded, seconds = time.process_time(), 0, 0.0
    for name in artifact.files:
        data = (artifact.path.parent / name).read_bytes()
        made = codec.encode(data, segments.get(name, ()))
        coded += len(made)
        figures["encode_s"] = round(time.process_time() - begin, 2)
        seconds += _decode_seconds(made, len(data))
    figures |= {"coded": coded, "decode_s": round(seconds, 3)}
    weights = sum(segment.size for found in segments.values() for segment in found)
    figures["decode_mb_s"] = round(weights / seconds / 1e6, 1)
    with (
        tempfile.TemporaryDirectory() as folder,
        bundle(artifact, Path(folder) / "net.edge", name="net") as made,
    ):
        figures["bundle"] = made.path.stat().st_size
    figures["xz"] = len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME))
    zstd = subprocess.run(["zstd", "-19", "-c"], input=raw, capture_output=True, check=True)
    figures["zstd"] = len(zstd.stdout)
    return figures


def decode() -> None:
    """Speed and memory for four tensors of 4 MB, and for one of 16 MB."""
    for count, side in ((4, 2048), (1, 4096)):
        with tempfile.TemporaryDirectory() as folder:
            coded, size = _large(count, side)
            path = Path(folder) / "coded"
            path.write_bytes(coded)
            seconds = _decode_seconds(coded, size)
            code = f"from benchmarks.bundles import _peak; print(_peak({str(path)!r}, {size}))"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        figures = {
            "tensors": count,
            "bytes_of_one": side * side,
            "coded": len(coded),
            "decode_mb_s": round(size / seconds / 1e6, 1),
            "memory_of_one": round(int(done.stdout) / side**2, 2),
        }
        print(json.dumps(figures), flush=True)


def _large(count: int, side: int) -> tuple[bytes, int]:
    generator = np.random.default_rng(0)
    data, segments = b"", []
    for _ in range(count):
        spread = np.outer(generator.uniform(5, 30, side), generator.uniform(0.5, 1.5, side))
        values = np.rint(generator.standard_normal((side, side)) * spread)
        segments.append(Segment(len(data), "int8", (side, side)))
        data += np.clip(values, -127, 127).astype(np.int8).tobytes()
    return codec.encode(data, segments), len(data)


def _reader(data: bytes | np.ndarray) -> Callable[[int, int], bytes]:
    return lambda at, n: bytes(data[at : at + n])


def _decode_seconds(coded: bytes, size: int) -> float:
    times = []
    for _ in range(REPEATS):
        begin = time.process_time()
        codec.decode(_reader(coded), len(coded), size, len)
        times.append(time.process_time() - begin)
    return min(times)


def _peak(path: str, size: int) -> int:
    """Bytes by which decoding raises this process' peak."""
    warm = codec.encode(bytes(1000))
    codec.decode(_reader(warm), len(warm), 1000, len)
    with open(path, "rb") as file:

        def read(at: int, n: int) -> bytes:
            file.seek(at)
            return file.read(n)

        length = Path(path).stat().st_size
        before = reset_peak()
        codec.decode(read, length, size, len)
    return peak_bytes() - before


def update(samples: int) -> None:
    """Two versions of an int8 ResNet-56, the second tuned further on other images."""
    import edgewise as ew
    from edgewise.train.training import Optimizer, Training

    from . import nets

    net = nets.load("resnet56")
    with np.load(nets.shared("cifar10", "cifar10_train20k_test10k.npz")) as file:
        x, y = file["x_train"][: 2 * samples], file["y_train"][: 2 * samples].astype(np.int64)
    x = nets.normalise_cifar(x)
    training = Training(epochs=1, batch=64, optimizer=Optimizer(rate=1e-3), scales=False)
    tune = ew.Finetune(training=training)
    model = ew.Quantize("int8")(ew.load(net.module, net.example), (net.calibration,))
    first = tune(model, _training(x[:samples], y[:samples]))
    second = tune(first, _training(x[samples:], y[samples:]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, version in enumerate((first, second)):
            ew.lower(version, "litert", folder / f"{i}.tflite")
        full = [bundle(folder / f"{i}.tflite", folder / f"{i}.edge", version=i) for i in (0, 1)]
        options = {"version": 1, "base": full[0]}
        change = bundle(folder / "1.tflite", folder / "change.edge", **options)
        full[0].extract(folder / "old")
        change.extract(folder / "new", folder / "old")
        assert (folder / "new/model.tflite").read_bytes() == (folder / "1.tflite").read_bytes()
        old, new = (np.frombuffer((folder / f"{i}.tflite").read_bytes(), np.uint8) for i in (0, 1))
        sizes = [b.path.stat().st_size for b in (full[1], change)]
        figures: dict[str, Any] = {"full": sizes[0], "update": sizes[1]}
        figures["share"] = round(sizes[1] / sizes[0], 3)
        if len(old) == len(new):
            figures["bytes_changed"] = round(float((old != new).mean()), 3)
        print(json.dumps(figures), flush=True)


def _training(x: np.ndarray, y: np.ndarray) -> Any:
    import edgewise as ew

    return ew.load_data({"training": (x, y), "evaluation": (x[:64], y[:64])})


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("files").add_argument("files", nargs="+")
    kinds.add_parser("sizes").add_argument("--images", type=int, default=10_000)
    kinds.add_parser("decode")
    kinds.add_parser("update").add_argument("--samples", type=int, default=1000)
    given = parser.parse_args()
    if given.kind == "files":
        files(given.files)
    elif given.kind == "sizes":
        sizes(given.images)
    elif given.kind == "decode":
        decode()
    else:
        update(given.samples)


if __name__ == "__main__":
    main()
