"""Sparsity, weight sharing, low rank: what they cost in accuracy and give in bytes.

python -m benchmarks.sparsity oneshot    # ResNet-20, -56: half the weights, 2:4; no training
python -m benchmarks.sparsity oneshot --images 1000
python -m benchmarks.sparsity condense   # ResNet-56: bytes by rate against distortion
python -m benchmarks.sparsity kmeans     # MobileNetV2: 4-bit codebooks, no labels
"""

from __future__ import annotations

import argparse
import time

import edgewise as ew

from .nets import load
from .pruning import top1
from .pruning_nets import training

__all__ = ["main"]

SAMPLES = 512


def oneshot(images: int) -> None:
    """Accuracy with half of all weights zero, by criterion, without training."""
    data = {"calibration": training(SAMPLES)}
    for name in ("resnet20", "resnet56"):
        net = load(name)
        model = ew.load(net.module, net.example)
        whole = top1(model, net, images)
        print(f"{name} whole: {whole:.2%} of {images}", flush=True)
        for pattern in ("", "2:4"):
            for criterion, reconstruct in (
                ("random", False), ("magnitude", False), ("wanda", False), ("wanda", True),
                ("sparsegpt", True),
            ):  # fmt: skip
                step = ew.Sparsify(
                    0.5, criterion, pattern=pattern, samples=SAMPLES, reconstruct=reconstruct
                )
                start = time.perf_counter()
                small = step(model, data)
                seconds = time.perf_counter() - start
                found = top1(small, net, images)
                print(
                    f"{name} {pattern or '50 %'} {criterion}{' solved' * reconstruct}: "
                    f"{found:.2%} ({100 * (found - whole):+.2f}), {seconds:.0f} s to make",
                    flush=True,
                )


def condense(images: int) -> None:
    """Accuracy of ResNet-56 and the bytes of its int8 weights, scales and biases, once coded.

    nncodec takes 279,079 bytes at 92.92 %.
    """
    net = load("resnet56")
    model = ew.load(net.module, net.example)
    data = {"calibration": training(SAMPLES)}
    whole = top1(model, net, images)
    for bits in (2.3, 2.0, 1.8):
        small = ew.Condense(bits, samples=SAMPLES)(model, data)
        found = top1(small, net, images)
        size = ew.coded_size(ew.Quantize("int8-weights")(small))
        print(f"{bits} bits: {found:.2%} ({100 * (found - whole):+.2f}), {size:,} B", flush=True)


def kmeans(images: int, per: tuple[str, ...] = ("channel", "scaled")) -> None:
    """Accuracy of MobileNetV2 with 16 values for each channel, or for each tensor, scaled.

    Without labels; forty images are looked at.
    """
    net = load("mobilenet_v2")
    model = ew.load(net.module, net.example)
    images = min(images, len(net.inputs))
    whole = top1(model, net, images, 16)
    print(f"mobilenet_v2 whole: {whole:.2%} of {images}", flush=True)
    for each in per:
        small = ew.Cluster(4, per=each, samples=40)(model, {"calibration": net.calibration})
        found = top1(small, net, images, 16)
        print(
            f"16 values, {each}: {found:.2%} ({100 * (found - whole):+.2f}), "
            f"{ew.coded_size(small):,} B",
            flush=True,
        )


COMMANDS = {"oneshot": oneshot, "condense": condense, "kmeans": kmeans}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--images", type=int, default=10_000, help="of the test set")
    arguments = parser.parse_args()
    COMMANDS[arguments.command](arguments.images)


if __name__ == "__main__":
    main()
