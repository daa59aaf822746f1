import numpy as np
import pytest
import torch

from edgewise.compress.quantize import Quantize
from edgewise.graph import shelf
from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.graph.fold import CONVOLUTIONS
from edgewise.graph.shelf import Shelf
from edgewise.graph.twins import walk
from edgewise.loading.torch import load_module

from ..nets import make


class Plain(torch.fx.Interpreter):
    """Every value of a graph on one batch, with or without its fake-quantize nodes."""

    def __init__(self, module, floats):
        super().__init__(module, garbage_collect_values=False)
        self.floats = floats

    def run_node(self, node):
        if self.floats and node.target is FAKE_QUANTIZE:
            return self.env[node.args[0]]
        return super().run_node(node)


@pytest.mark.parametrize(
    ("name", "memory"), [("residual", 1 << 30), ("residual", 0), ("shuffle", 0), ("tokens", 0)]
)
def test_each_stop_sees_what_both_graphs_compute(name, memory, monkeypatch):
    monkeypatch.setattr(shelf, "MEMORY", memory)
    net, x = make(name)
    module = Quantize("int8")(load_module(net, x[:1]), {"calibration": x.numpy()}).graph
    stops = [node for node in module.graph.nodes if node.target in CONVOLUTIONS]
    seen = {node: ([], []) for node in stops}

    def look(pair):
        seen[pair.node][0].append(pair.rounded[0])
        seen[pair.node][1].append(pair.want)

    parts = x.split(24)
    walk(module, ((part,) for part in parts), stops, look, lambda node: node.target)
    for i, part in enumerate(parts):
        exact, rounded = Plain(module, True), Plain(module, False)
        with torch.no_grad():
            exact.run(part), rounded.run(part)
        for node, (taken, want) in seen.items():
            assert torch.equal(want[i], exact.env[node])
            assert torch.equal(taken[i], rounded.env[node.args[0]])


def test_what_a_stop_settles_is_seen_behind_it():
    net, x = make("perceptron")
    module = Quantize("int8")(load_module(net, x[:1]), {"calibration": x.numpy()}).graph
    stops = [node for node in module.graph.nodes if node.target in CONVOLUTIONS]
    taken = []

    def silent(node):
        return lambda *args: torch.zeros_like(node.target(*args))

    walk(module, [(x,)], stops, lambda pair: taken.append(pair.rounded[0]), silent)
    assert taken[0].any() and not taken[1].any()


@pytest.mark.parametrize("memory", [0, 100, 1 << 30])
def test_a_shelf_gives_back_what_was_put_there(memory, monkeypatch):
    monkeypatch.setattr(shelf, "MEMORY", memory)
    held, batches = Shelf(), []
    for i in range(4):
        a, b = torch.randn(3, i + 1), torch.arange(5).bool()
        batches.append(({"a": a, "n": 7, "pair": (a, b)}, {"again": a, "turned": a.mT}))
        held.put(*batches[-1])
    count = 0
    for (first, second), (want, other) in zip(held, batches, strict=True):
        assert torch.equal(first["a"], want["a"]) and first["n"] == 7
        assert first["pair"][0] is first["a"] is second["again"]
        assert torch.equal(first["pair"][1], want["pair"][1])
        assert np.array_equal(second["turned"], other["turned"])
        count += 1
    assert count == 4 and list(held) == []
