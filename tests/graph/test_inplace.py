"""In-place operators: the canonical graph computes what the module computed, or is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgewise.errors import ModelError
from edgewise.loading.torch import load_module


class _Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor | tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.function = function
        self.drop = nn.Dropout()
        self.register_buffer("state", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.function(self, x)


def chain(net, x):
    y = x * 2
    y.relu_()
    y.add_(1)
    y += x
    return y


def result_and_source(net, x):
    y = x * 2
    z = y.relu_()
    return y + 1, z - 1


def view_that_is_not_read_again(net, x):
    y = (x * 2).reshape(x.shape[0], -1)
    y.relu_()
    return y.sum(1, keepdim=True)


def view_of_the_input(net, x):
    y = x.view(x.shape[0], -1)
    return torch.relu_(y)


def through_dropout(net, x):
    return net.drop(x * 2).relu_()


def copy_then_change(net, x):
    y = x * 2
    z = y.clone().relu_()
    return y + z


def piece_after_the_whole(net, x):
    y = x * 2
    total = y.sum(-1)
    a, b = y.chunk(2, dim=1)
    a.relu_()
    return a + b, total


def gates(net, x):
    i, f, g = (x * 2).split([1, 1, 2], dim=1)
    i.sigmoid_()
    f.tanh_()
    return i * f + g.squeeze(-1)


def two_readers_of_one_piece(net, x):
    y = x * 2
    a = y.chunk(2, dim=1)
    b = a[0][:, :1]
    a[1].relu_()
    return b + a[1]


def views_of_one_size(net, x):
    n = x.shape[0]
    a, b = (x * 2).view(n, -1), (x * 3).view(n, -1)
    a.relu_()
    return a + b, b.view_as(x).sum(-1)


SAME = [
    chain, result_and_source, view_that_is_not_read_again, view_of_the_input, through_dropout,
    copy_then_change,
    piece_after_the_whole, gates,
    two_readers_of_one_piece, views_of_one_size,
]  # fmt: skip


@pytest.mark.parametrize("function", SAME, ids=lambda f: f.__name__)
def test_computes_the_same(function: Callable) -> None:
    module = _Function(function).eval()
    model = load_module(module, torch.randn(1, 4, 4))
    assert not any(n.target._schema.is_mutable for n in calls(model.graph))
    for batch in (2, 5):
        x = torch.randn(batch, 4, 4)
        with torch.no_grad():
            found = model.graph(x)
            wanted = torch.utils._pytree.tree_leaves(module(x.clone()))
        assert all(map(torch.equal, found, wanted))


def view_taken_before(net, x):
    y = x * 2
    z = y.view(x.shape[0], -1)
    y.relu_()
    return z, y


def source_read_after(net, x):
    y = x * 2
    z = y.mT
    z.relu_()
    return y, z


def dropout_gives_its_input_back(net, x):
    y = x * 2
    z = net.drop(y)
    z.relu_()
    return y + z


def slice_of_it(net, x):
    y = x * 2
    y[:, 0] = 0
    return y


def view_of_a_view(net, x):
    y = x * 2
    z = y[:, 1:].transpose(1, 2)
    z.add_(1)
    return y, z


def view_of_the_piece(net, x):
    a, b = (x * 2).chunk(2, dim=1)
    c = a[:, :1]
    a.relu_()
    return b + c


def piece_and_whole_together(net, x):
    y = x * 2
    b = y.chunk(2, dim=1)[1]
    c, d = torch.broadcast_tensors(y, y[:, :1])
    c.relu_()
    return b, c, d


def the_input(net, x):
    return x.relu_()


def state(net, x):
    net.state.add_(x.sum((0, 1)))
    return x + net.state


def view_of_state(net, x):
    net.state.view(2, 2).add_(1)
    return x * 2


def comparison(net, x):
    y = x * 2
    y.gt_(0)
    return y


def other_dtype(net, x):
    y = (x * 2).half()
    y.mul_(x)
    return y


CHANGED = [
    view_taken_before, source_read_after, dropout_gives_its_input_back, slice_of_it,
    view_of_a_view, view_of_the_piece,
    piece_and_whole_together, the_input, state, view_of_state, comparison, other_dtype,
]  # fmt: skip


@pytest.mark.parametrize("function", CHANGED, ids=lambda f: f.__name__)
def test_refuses_what_others_would_see(function: Callable) -> None:
    with pytest.raises(ModelError, match="in place"):
        load_module(_Function(function).eval(), torch.randn(1, 4, 4))


def calls(graph: torch.fx.GraphModule) -> list[torch.fx.Node]:
    nodes = [n for n in graph.graph.nodes if n.op == "call_function"]
    return [n for n in nodes if hasattr(n.target, "_schema")]
