import dataclasses

import numpy as np
import pytest
import torch

from edgewise.errors import DataError, ModelError
from edgewise.loading import load
from edgewise.model import Model
from edgewise.record import Event

from .nets import NETS, make


def model_of(name="residual"):
    net, x = make(name)
    return load(net, x[:1]), x


def test_is_frozen_and_gives_independent_copies():
    model, x = model_of()
    before = model(x)
    module = model.module()
    module.conv1.weight.data.zero_()
    assert torch.equal(model(x), before)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.graph = module


def test_a_copy_trains_like_the_module_it_came_from():
    net, x = make("perceptron")
    model = load(net, x[:1])
    target = torch.randint(0, 3, (64,), generator=torch.manual_seed(1))
    trained = model.module()
    for candidate, forward in ((net, net), (trained, lambda v: trained(v)[0])):
        optimizer = torch.optim.SGD(candidate.parameters(), 0.1)
        for _ in range(5):
            loss = torch.nn.functional.cross_entropy(forward(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        assert torch.allclose(Model.of(trained, like=model)(x), net(x), atol=1e-6)


def test_of_keeps_lineage_and_adds_the_event():
    model, _ = model_of()
    event = Event("step", {"a": 1})
    assert Model.of(model.module(), like=model, event=event).lineage == (*model.lineage, event)


def test_of_refuses_a_graph_that_gives_something_else():
    model, _ = model_of("perceptron")
    module = model.module()
    last = next(n for n in module.graph.nodes if n.op == "output")
    last.args = ((last.args[0][0].args[0],),)
    with pytest.raises(ModelError, match="its signature says"):
        Model.of(module, like=model)


def test_of_refuses_weights_that_are_not_finite():
    model, _ = model_of()
    module = model.module()
    module.conv2.weight.data[0] = float("nan")
    with pytest.raises(ModelError, match=r"conv2\.weight"):
        Model.of(module, like=model)


@pytest.mark.parametrize(
    ("inputs", "word"),
    [
        ((np.zeros((1, 3, 8, 8), np.float32),), r"shape \(batch, 3, 16, 16\)"),
        ((np.zeros((1, 3, 16, 16)),), "float64"),
        ((np.zeros((0, 3, 16, 16), np.float32),), "no sample"),
        ((), "1 inputs"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, word):
    model, _ = model_of()
    with pytest.raises(DataError, match=word):
        model(*inputs)


@pytest.mark.parametrize("name", NETS)
def test_saved_and_loaded_it_is_the_same_model(name, tmp_path):
    model, x = model_of(name)
    model = model.with_samples((x.numpy(),))
    again = load(model.save(tmp_path / "net.pt2"))
    assert torch.equal(again(x[:7]), model(x[:7]))
    assert (again.signature, again.lineage) == (model.signature, model.lineage)
    assert np.array_equal(again.samples[0], model.samples[0])
    again.save(tmp_path / "again.pt2")
    assert (tmp_path / "again.pt2").read_bytes() == (tmp_path / "net.pt2").read_bytes()


def test_samples_are_few_and_small():
    model, _ = model_of()
    many = model.with_samples((np.zeros((1000, 3, 16, 16), np.float32),))
    assert len(many.samples[0]) == 32
    big = model.with_samples((np.zeros((50, 3, 500, 500), np.float32),))
    assert len(big.samples[0]) == 4
