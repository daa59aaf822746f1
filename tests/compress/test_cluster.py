"""Weights share values, in the Model, its file, and through everything that comes after."""

from __future__ import annotations

from operator import attrgetter

import numpy as np
import pytest
import torch

import edgewise as ew
from edgewise.compress.cluster import VALUES, Cluster
from edgewise.compress.quantize import Quantize
from edgewise.compress.sparsify import Sparsify
from edgewise.data import as_data
from edgewise.edge.runners import RUNTIMES
from edgewise.errors import DataError, InputError, StepError
from edgewise.graph.canonical import FAKE_QUANTIZE, LOOKUP
from edgewise.graph.fold import fold
from edgewise.loading.torch import load_module
from edgewise.lowering import lower

from ..nets import NETS, make


def whole(name="residual"):
    net, x = make(name)
    inputs = torch.randn(64, *x.shape[1:], generator=torch.Generator().manual_seed(0)).numpy()
    return load_module(net, x[:1]), {"calibration": inputs}, inputs


def weights(model):
    return {n: p.detach() for n, p in fold(model.module()).named_parameters() if p.ndim > 1}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("values", VALUES)
def test_each_weight_has_few_values(name, values, tmp_path):
    model, _, x = whole(name)
    small = Cluster(4, values, block=4)(model)
    assert small.clustered and not model.clustered
    lookups = [n for n in small.graph.graph.nodes if n.target is LOOKUP]
    assert lookups
    for node in lookups if values == "kmeans" else ():
        found = weights(small)[node.args[0].target.removesuffix(".codebook")]
        assert len(found.unique()) <= 16
    again = ew.load(small.save(tmp_path / "c.pt2"))
    assert np.array_equal(again(x), small(x))


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("start", ["linear", "density", "random"])
def test_a_codebook_for_each_channel_or_one_for_all(per, start):
    model, _, _ = whole()
    found = weights(Cluster(2, start=start, per=per)(model))["conv2.weight"]
    assert max(len(channel.unique()) for channel in found) <= 4
    assert (len(found.unique()) > 4) == (per == "channel")


@pytest.mark.parametrize(
    ("values", "per"),
    [*((v, "tensor") for v in VALUES), ("kmeans", "scaled"), ("kmeans", "channel")],
)
def test_looking_at_outputs_brings_them_closer(values, per):
    model, data, x = whole()
    bits = 4 if values == "nf4" else 3
    # Where there are samples to look at, they are looked at.
    steps = [Cluster(bits, values, per=per, reconstruct=r) for r in (False, None)]
    errors = [np.square(step(model, data)(x) - model(x)).mean() for step in steps]
    assert errors[1] < 0.8 * errors[0]


def test_one_codebook_times_a_scale_for_each_channel():
    model, data, _ = whole()
    small = Cluster(3, per="scaled")(Sparsify(0.5)(model), data)
    named = dict(small.graph.named_parameters())
    assert named["conv2.weight.codebook"].shape == (8,)
    scale = named["conv2.weight.scale"].detach()
    assert scale.shape == (16, 1, 1, 1)
    found = weights(small)["conv2.weight"] / scale
    assert len((found * 1e4).round().unique()) <= 8


def test_what_is_depthwise_keeps_its_values():
    model, data, _ = whole("inverted")
    plan = Cluster(4).plan(model, as_data(data, signature=model.signature))
    assert "too few" in plan.skipped["depthwise"]
    assert len(plan.weights) == 6


@pytest.mark.parametrize("reconstruct", [False, True])
@pytest.mark.parametrize("values", VALUES)
def test_zeros_stay_and_so_do_values_in_int8(values, reconstruct):
    model, data, _ = whole()
    sparse = Sparsify(0.6)(model)
    small = Cluster(4, values, reconstruct=reconstruct)(sparse, data)
    int8 = Quantize("int8")(small, data)
    assert not int8.clustered
    for name, before in weights(sparse).items():
        for model in (small, int8):
            after = weights(model)[name]
            assert (after[before == 0] == 0).all() and after.abs().sum() > 0
        if values == "kmeans":
            assert len(weights(int8)[name].unique()) <= 16


def integers(model):
    """Of each quantized weight of an int8 Model."""
    found = {}
    for node in model.graph.graph.nodes:
        if node.target is FAKE_QUANTIZE and node.args[0].op == "get_attr":
            weight, scale = (attrgetter(a.target)(model.graph).detach() for a in node.args[:2])
            steps = weight / scale.view(-1, *[1] * (weight.ndim - 1))
            found[node.args[0].target] = steps.round().to(torch.int8).numpy()
    return found


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_zeros_and_values_are_in_the_file_of_each_runtime(runtime, tmp_path):
    model, data, _ = whole()
    sparse = Sparsify(0.6)(model)
    small = Cluster(3)(sparse, data)
    int8 = Quantize("int8")(small, data)
    path = tmp_path / f"net{RUNTIMES[runtime].suffixes[0]}"
    lower(int8, runtime, path)
    files = b"".join(p.read_bytes() for p in sorted(tmp_path.iterdir()))
    found = integers(int8)
    assert len(found) == 3
    for name, weight in found.items():
        assert (weight[weights(sparse)[name].numpy() == 0] == 0).all()
        assert all(len(np.unique(channel)) <= 8 for channel in weight)
        orders = [weight, np.moveaxis(weight, 1, -1)]
        assert any(np.ascontiguousarray(w).tobytes() in files for w in orders), name


def test_shared_values_learn_together_and_zeros_do_not():
    model, _, x = whole()
    module = Cluster(3)(Sparsify(0.5)(model)).module()
    named = dict(module.named_parameters())
    book = named["conv2.weight.codebook"]
    before = book.detach().clone()
    optimizer = torch.optim.SGD([p for p in named.values() if p.requires_grad], 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.from_numpy(x))[0].square().mean().backward()
        optimizer.step()
    assert len(book) == 8 and int((book == 0).sum()) == 1
    used = torch.bincount(
        dict(module.named_buffers())["conv2.weight.indices"].flatten(), minlength=8
    )
    assert ((book != before) == ((before != 0) & (used > 0))).all()


def test_bad_calls_are_refused():
    model, data, _ = whole()
    for bad, said in (
        ({"bits": 9}, "1 to 8"),
        ({"values": "fp4"}, "nf4"),
        ({"values": "nf4", "bits": 3}, "4 bits"),
        ({"values": "log", "bits": 1}, "at least 2"),
        ({"start": "zero"}, "density"),
        ({"per": "row"}, "channel"),
        ({"block": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=said):
            Cluster(**bad)
    with pytest.raises(DataError, match="give data="):
        Cluster(reconstruct=True)(model)
    with pytest.raises(StepError, match="can be clustered"):
        Cluster(keep=("*",))(model)
    with pytest.raises(StepError, match="share values already"):
        Cluster()(Cluster()(model))
    with pytest.raises(StepError, match="quantized already"):
        Cluster()(Quantize("int8")(model, data))
    for step in (Sparsify(), ew.Prune()):
        with pytest.raises(StepError, match="before"):
            step(Cluster()(model))
