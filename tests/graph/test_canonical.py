import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgewise.errors import ModelError
from edgewise.graph.canonical import layer
from edgewise.loading.torch import load_module

from ..nets import NETS, loaded, make


@pytest.mark.parametrize("name", NETS)
def test_a_model_computes_what_its_module_computes_at_any_batch(name):
    net, x = make(name)
    model = load_module(net, x[:1])
    for batch in (1, 2, 7):
        with torch.no_grad():
            assert torch.allclose(model(x[:batch]), net(x[:batch]), atol=1e-6)
    numpy = model(x[:3].numpy())
    assert torch.equal(torch.from_numpy(numpy), model(x[:3]))


@pytest.mark.parametrize("name", NETS)
def test_the_graph_is_canonical(name):
    graph = loaded(name)[0].graph.graph
    ops = {n.op for n in graph.nodes}
    assert ops <= {"placeholder", "get_attr", "call_function", "output"}
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        assert schema is None or not schema.is_mutable
        assert node.meta.keys() == {"shape"}


def test_parameters_keep_their_names_and_nodes_are_named_after_layers():
    net, x = make("residual")
    model = load_module(net, x[:1])
    assert dict(model.graph.named_parameters()).keys() == dict(net.named_parameters()).keys()
    assert "conv2_conv2d" in {n.name for n in model.graph.graph.nodes}
    layers = {layer(n) for n in model.graph.graph.nodes if n.op == "call_function"}
    assert {"conv1", "bn1", "conv2", "head"} <= layers


def test_loading_leaves_the_module_as_it_was():
    net, x = make("residual")
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    model = load_module(net, x[:1])
    assert net.training
    model.graph.conv1.weight.data.add_(1)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_train_mode_export_is_switched_to_eval():
    class Fixed(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5, training=True)

    model = load_module(Fixed(), torch.ones(2, 4))
    assert torch.equal(model(torch.ones(3, 4)), torch.ones(3, 4))


def test_in_place_operators_become_functional():
    class InPlace(nn.Module):
        def forward(self, x):
            y = x * 2
            y += 1
            y.relu_()
            return y - 1

    model = load_module(InPlace(), torch.ones(2, 4))
    x = torch.randn(3, 4)
    assert torch.equal(model(x), InPlace()(x))


class WritesToView(nn.Module):
    def forward(self, x):
        y = x * 2
        y[:, 0].add_(1)
        return y


class BatchFixed(nn.Module):
    def forward(self, x):
        return x.reshape(2, 4) + 1


class NoBatch(nn.Module):
    def forward(self, x):
        return x.sum()


@pytest.mark.parametrize(
    ("net", "word"),
    [(WritesToView(), "in place"), (BatchFixed(), "batch"), (NoBatch(), "axis 0")],
)
def test_what_cannot_be_a_model_is_refused_with_a_sentence(net, word):
    with pytest.raises(ModelError, match=word):
        load_module(net, torch.ones(2, 4))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value):
    net, x = make("perceptron")
    net.layers[0].weight.data[0, 0] = value
    with pytest.raises(ModelError, match=r"layers\.0\.weight"):
        load_module(net, x[:1])


def test_minus_infinity_may_mask():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.tensor([0.0, float("-inf"), 0.0]))

        def forward(self, input):
            return torch.softmax(input + self.mask, -1)

    model = load_module(Masked(), torch.ones(2, 3))
    assert model(torch.ones(2, 3))[:, 1].tolist() == [0, 0]
    assert model.signature.inputs[0].name == "input"
