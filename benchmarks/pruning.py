"""Structured pruning: accuracy without training, analysis, architectures, latency.

    python -m benchmarks.pruning accuracy        # ResNet-56 at 1.3x and 2x fewer MACs; ten minutes
    python -m benchmarks.pruning analysis        # seconds to find the groups; three networks
    python -m benchmarks.pruning architectures   # which prune 30 % and run on all four runtimes
    python -m benchmarks.pruning latency         # ResNet-56 at 2x, all runtimes, in turns
    python -m benchmarks.pruning training        # distilled after it; see pruning_training.py
    python -m benchmarks.pruning sst2            # a BERT-style classifier; see pruning_sst2.py

`benchmarks.peers.torch_pruning` gives the peer's figures for the first three, in its own
environment.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import torch

import edgewise as ew

from .nets import Net, load
from .pruning_nets import ANALYSED, NET, TARGETS, timed, training

__all__ = ["main"]

# The peer cannot prune the residual stream of these networks; beside it, neither do we.
INNER = ("conv1", "layer2.0.conv2*", "layer3.0.conv2*")
SAMPLES = 512


def accuracy(images: int, only: list[str]) -> None:
    """One-shot accuracy of ResNet-56 on CIFAR-10's test images, without any training."""
    net = load(NET)
    model = ew.load(net.module, net.example)
    data = {"calibration": training(SAMPLES)}
    rows = {
        " ".join(filter(None, row)): row
        for row in [
            (target, scope, "l1", "reconstructed")
            for target in ("1.30x", "2x")
            for scope in ("global", "sensitivity")
        ] + [
            ("1.98x", scope, "l1", "recalibrated") for scope in ("layer", "global", "sensitivity")
        ] + [
            (target, "sensitivity", "l1", "") for target in ("1.98x", "1.30x")
        ] + [
            (target, scope, criterion, "")
            for target in ("1.98x", "1.30x")
            for criterion in ("l1", "taylor", "fisher", "random")
            for scope in ("layer", "global")
        ]
    }  # fmt: skip
    if not only:
        print(f"{NET} whole: {top1(model, net, images):.2%} of {images}", flush=True)
    for name in only or rows:
        target, scope, criterion, after = rows[name]
        solved = after == "reconstructed"
        step = ew.Prune(TARGETS[target], "macs", scope, criterion, INNER, 1, SAMPLES, solved)
        start, plans = time.perf_counter(), []
        small = step(model, data, show=plans.append)
        if after == "recalibrated":
            small = ew.Recalibrate(SAMPLES)(small, data)
        seconds = time.perf_counter() - start
        before, after = plans[0].macs
        print(
            f"{name}: {before / after:.2f}x fewer MACs, {top1(small, net, images):.2%} "
            f"of {images} ({seconds:.0f} s to make)",
            flush=True,
        )


def top1(model: ew.Model, net: Net, images: int, batch: int = 200) -> float:
    """Share of the first `images` evaluation images that are classified rightly."""
    right = 0
    for at in range(0, images, batch):
        inputs = torch.from_numpy(net.inputs[at : min(at + batch, images)])
        logits = model(inputs.contiguous(memory_format=torch.channels_last))
        right += int((logits.argmax(1).numpy() == net.labels[at : at + len(inputs)]).sum())
    return right / images


def analysis() -> None:
    """Seconds to find the groups of a loaded Model."""
    from edgewise.graph.axes import analyse

    for name, make in ANALYSED.items():
        model = ew.load(*make())
        seconds = timed(lambda model=model: analyse(model.graph, model.signature))
        groups = analyse(model.graph, model.signature).groups
        print(f"{name}: {seconds:.4f} s, {len(groups)} groups", flush=True)


def architectures(names: list[str]) -> None:
    """Prune 30 % of each architecture of the tests and lower it to every runtime."""
    from tests.architectures import ARCHITECTURES, build

    from edgewise.edge.runners import RUNTIMES
    from edgewise.errors import EdgewiseError

    folder = Path(__file__).parent / "out" / "pruned"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ARCHITECTURES:
        net, inputs = build(name, 2)
        model = ew.load(net, tuple(x[:1] for x in inputs))
        plans = []
        small = ew.Prune(0.3)(model, show=plans.append)
        (before, after), said = plans[0].macs, []
        for runtime, row in RUNTIMES.items():
            path = folder / f"{name}{row.suffixes[0]}"
            try:
                ew.lower(small, runtime, path)
                said.append(f"{runtime} yes")
            except EdgewiseError as error:
                try:
                    ew.lower(model, runtime, path)
                    whole = "the whole one runs"
                except EdgewiseError:
                    whole = "nor the whole one"
                said.append(f"{runtime} no ({whole}: {str(error)[:160]})")
        print(f"{name}: {before / after:.2f}x fewer MACs; " + "; ".join(said), flush=True)


def latency() -> None:
    """ResNet-56 at 2x fewer MACs beside the whole network, batch 1, one thread, in turns."""
    from edgewise.edge.runners import RUNTIMES

    folder = Path(__file__).parent / "out" / "pruned"
    folder.mkdir(parents=True, exist_ok=True)
    net = load(NET)
    model = ew.load(net.module, net.example)
    for multiple in (1, 4, 8):
        plans = []
        step = ew.Prune(TARGETS["2x"], "macs", "layer", "l1", INNER, multiple)
        small = step(model, show=plans.append)
        fewer = plans[0].macs[0] / plans[0].macs[1]
        for runtime, row in RUNTIMES.items():
            paths = [folder / f"{kind}{row.suffixes[0]}" for kind in ("whole", "small")]
            for subject, path in zip((model, small), paths, strict=True):
                ew.lower(subject, runtime, path)
            _, cut = ew.compare(*(str(p) for p in paths)).differences
            faster = 1 / cut.latency
            print(
                f"{runtime}, widths in multiples of {multiple}: {fewer:.2f}x fewer MACs, "
                f"{faster:.2f}x faster, {faster / fewer:.2f} as much",
                flush=True,
            )


def main() -> None:
    """Run one of the six."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    choices = ("accuracy", "analysis", "architectures", "latency", "training", "sst2")
    parser.add_argument("what", choices=choices)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", default=[], help="these rows or networks")
    given = parser.parse_args()
    if given.what == "accuracy":
        accuracy(given.images, given.only)
    elif given.what == "architectures":
        architectures(given.only)
    elif given.what == "training":
        from .pruning_training import ROWS, train_row

        for name in given.only or ROWS:
            train_row(name)
    elif given.what == "sst2":
        from .pruning_sst2 import run

        run()
    else:
        {"analysis": analysis, "latency": latency}[given.what]()


if __name__ == "__main__":
    main()
