"""Torch-Pruning beside `benchmarks.pruning`: the same networks, in the peers' environment.

    python -m benchmarks.peers.torch_pruning accuracy
    python -m benchmarks.peers.torch_pruning analysis
    python -m benchmarks.peers.torch_pruning architectures

Its dependency graph takes the padded shortcuts of the CIFAR ResNets for something that it can cut
and then gives a network that does not run; so only the inner channels of each block are offered.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from importlib.metadata import version

import torch
import torch.nn.functional as F
import torch_pruning as tp

from ..nets import Net, accuracy, load
from ..pruning_nets import ANALYSED, NET, TARGETS, timed, training

__all__ = ["main"]


def prune_inner(net: Net, criterion: str, scope: str, share: float) -> float:
    """Prune the first convolution of each block until `share` of the MACs is gone; times fewer."""
    importance = {
        "l1": partial(tp.importance.GroupMagnitudeImportance, p=1),
        "taylor": tp.importance.GroupTaylorImportance,
    }[criterion]()
    module = net.module.requires_grad_(True)
    inner = {m.conv1 for m in module.modules() if hasattr(m, "conv2")}
    ignored = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
               and m not in inner]  # fmt: skip
    macs, _ = tp.utils.count_ops_and_params(module, net.example)
    pruner = tp.pruner.BasePruner(
        module, net.example, importance, global_pruning=scope == "global", pruning_ratio=0.98,
        ignored_layers=ignored, iterative_steps=200, round_to=1,
    )  # fmt: skip
    left = macs
    while left > (1 - share) * macs:
        if criterion == "taylor":
            module.zero_grad()
            images = torch.from_numpy(training(128))
            logits = module(images)
            F.cross_entropy(logits, logits.detach().argmax(1)).backward()
        pruner.step()
        left, _ = tp.utils.count_ops_and_params(module, net.example)
    return macs / left


def accuracies(images: int) -> None:
    """One-shot accuracy of ResNet-56."""
    for target in ("1.30x", "1.98x"):
        for criterion in ("l1", "taylor"):
            for scope in ("layer", "global"):
                net = load(NET)
                fewer = prune_inner(net, criterion, scope, TARGETS[target])
                part = Net(
                    net.name, net.module, net.example, net.calibration,
                    net.inputs[:images], net.labels[:images],
                )  # fmt: skip
                print(
                    f"{fewer:.2f}x fewer MACs, {criterion}, {scope}: {accuracy(part):.2%}",
                    flush=True,
                )


def analysis() -> None:
    """Seconds to build the dependency graph and to list its groups."""
    for name, make in ANALYSED.items():
        net, example = make()
        net = net.requires_grad_(True)

        def graph(net=net, example=example) -> object:
            return tp.DependencyGraph().build_dependency(net, example_inputs=example)

        seconds = timed(graph, 3)
        print(f"{name}: {seconds:.4f} s for the dependency graph", flush=True)


def architectures() -> None:
    """Prune 30 % of each architecture of the tests out of the box, then run it."""
    from tests.architectures import ARCHITECTURES, build

    for name in ARCHITECTURES:
        net, inputs = build(name, 2)
        example = inputs if len(inputs) > 1 else inputs[0]
        try:
            with torch.no_grad():
                outputs = net(*inputs).shape[-1]
            ignored = [
                m for m in net.modules()
                if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)
                and outputs in (getattr(m, "out_features", None), getattr(m, "out_channels", None))
            ]  # fmt: skip
            before, _ = tp.utils.count_ops_and_params(net, example)
            pruner = tp.pruner.BasePruner(
                net.requires_grad_(True), example, tp.importance.GroupMagnitudeImportance(p=1),
                pruning_ratio=0.3, ignored_layers=ignored,
            )  # fmt: skip
            pruner.step()
            with torch.no_grad():
                net(*inputs)
            after, _ = tp.utils.count_ops_and_params(net, example)
            print(f"{name}: {before / after:.2f}x fewer MACs, runs", flush=True)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error)[:120]}", flush=True)


def main() -> None:
    """Run one of the three."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("accuracy", "analysis", "architectures"))
    parser.add_argument("--images", type=int, default=10_000)
    given = parser.parse_args()
    print(f"torch-pruning {version('torch-pruning')}")
    if given.what == "accuracy":
        accuracies(given.images)
    else:
        {"analysis": analysis, "architectures": architectures}[given.what]()


if __name__ == "__main__":
    main()
