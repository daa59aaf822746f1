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


def accuracies(images: int, only: list[str]) -> None:
    """One-shot accuracy of ResNet-56."""
    rows = {
        f"{target} {scope} {criterion}": (target, scope, criterion)
        for target in ("1.30x", "1.98x")
        for criterion in ("l1", "taylor")
        for scope in ("layer", "global")
    }
    for name in only or rows:
        target, scope, criterion = rows[name]
        net = load(NET)
        fewer = prune_inner(net, criterion, scope, TARGETS[target])
        part = Net(
            net.name, net.module, net.example, net.calibration,
            net.inputs[:images], net.labels[:images],
        )  # fmt: skip
        print(f"{name}: {fewer:.2f}x fewer MACs, {accuracy(part):.2%} of {images}", flush=True)


def analysis() -> None:
    """Seconds to build the dependency graph and to list its groups."""
    for name, make in ANALYSED.items():
        net, example = make()
        net = net.requires_grad_(True)

        def graph(net=net, example=example) -> object:
            return tp.DependencyGraph().build_dependency(net, example_inputs=example)

        seconds = timed(graph, 3)
        print(f"{name}: {seconds:.4f} s for the dependency graph", flush=True)


def architectures(only: list[str]) -> None:
    """Prune 30 % of each architecture of the tests, then run it.

    First out of the box; where that fails, with the heads of attention layers named to it.
    """
    from tests.architectures import ARCHITECTURES

    for name in only or ARCHITECTURES:
        said = []
        for named in (False, True):
            try:
                said.append(_pruned(name, named))
                break
            except Exception as error:
                said.append(f"{type(error).__name__}: {str(error)[:120]}")
        print(f"{name}: " + "; with heads named: ".join(said), flush=True)


def _pruned(name: str, named: bool) -> str:
    from tests.architectures import build

    net, inputs = build(name, 2)
    example = inputs if len(inputs) > 1 else inputs[0]
    heads = _heads(net) if named else {}
    if named and not heads:
        raise ValueError("none found")
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
        pruning_ratio=0.3, ignored_layers=ignored, num_heads=heads,
        prune_num_heads=named, prune_head_dims=not named, head_pruning_ratio=0.3 * named,
    )  # fmt: skip
    pruner.step()
    with torch.no_grad():
        net(*inputs)
    after, _ = tp.utils.count_ops_and_params(net, example)
    return f"{before / after:.2f}x fewer MACs, runs"


def _heads(net: torch.nn.Module) -> dict[torch.nn.Module, int]:
    """How many heads the projections of attention layers of the transformers package hold."""
    found = {}
    for module in net.modules():
        size = getattr(module, "head_dim", None) or getattr(module, "attention_head_size", None)
        for child in ("query", "key", "value", "q_proj", "k_proj", "v_proj"):
            if isinstance(layer := getattr(module, child, None), torch.nn.Linear) and size:
                found[layer] = layer.out_features // size
    return found


def main() -> None:
    """Run one of the three."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("accuracy", "analysis", "architectures"))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", default=[], help="these rows or networks")
    given = parser.parse_args()
    print(f"torch-pruning {version('torch-pruning')}")
    if given.what == "accuracy":
        accuracies(given.images, given.only)
    else:
        architectures(given.only) if given.what == "architectures" else analysis()


if __name__ == "__main__":
    main()
