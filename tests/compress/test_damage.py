"""Each group by itself, and shares of the cut after it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgewise.compress import damage
from edgewise.compress.damage import kept_in, sensitivity
from edgewise.compress.prune import Prune
from edgewise.compress.quantize import Quantize
from edgewise.errors import DataError, InputError, StepError
from edgewise.loading.torch import load_module


def model() -> tuple:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    net[2].weight.data[6:] = 0  # half of the second group does nothing
    net[2].bias.data[6:] = 0
    x = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    return load_module(net.eval(), torch.zeros(1, 6)), {"calibration": x}


def test_what_does_nothing_is_not_missed():
    found = sensitivity(*model(), amounts=(0.25, 0.5))
    rows = {(r.group, r.amount): r for r in found.rows}
    assert list(rows) == [("0", 0.25), ("0", 0.5), ("2", 0.25), ("2", 0.5)]
    assert rows["2", 0.5].divergence < 1e-10 and rows["2", 0.5].changed == 0
    assert 0.01 < rows["0", 0.25].divergence < rows["0", 0.5].divergence
    assert (found.criterion, found.n, found.metric, found.value) == ("l1", 50, None, None)


def test_labels_give_the_metric():
    net, data = model()
    labels = net(data["calibration"]).argmax(1)
    found = sensitivity(net, {"calibration": (data["calibration"], labels)}, amounts=(0.0, 0.75))
    assert (found.metric, found.value) == ("accuracy", 1.0)
    for row in found.rows:
        assert row.value == pytest.approx(1 - row.changed)
        assert (row.amount > 0) == (row.divergence > 0)


def test_a_cut_by_sensitivity_is_where_it_is_borne():
    net, data = model()
    plans = {}
    for scope in ("layer", "sensitivity"):
        step = Prune(0.3, "parameters", scope)
        small = step(net, data, show=lambda plan, scope=scope: plans.update({scope: plan}))
        moved = np.abs(small(data["calibration"]) - net(data["calibration"])).max()
        assert (moved < 1e-6) == (scope == "sensitivity")
    plan = plans["sensitivity"]
    (row,) = plan.groups
    assert row.group == "2" and len(row.units) == 5 and min(row.units) >= 6
    assert plan.parameters[1] <= 0.7 * plan.parameters[0]


def test_what_was_found_is_kept_by_content(tmp_path, monkeypatch):
    net, data = model()
    first = sensitivity(net, data, (0.25, 0.5), folder=tmp_path / "kept")
    seen = []
    pruned = damage._Pruned.__call__
    monkeypatch.setattr(damage._Pruned, "__call__", lambda *a: seen.append(a[1:]) or pruned(*a))
    assert sensitivity(net, data, (0.5, 0.25), folder=tmp_path / "kept") == first
    assert not seen
    more = sensitivity(net, data, (0.25, 0.75), folder=tmp_path / "kept")
    assert seen == [("0", 0.75), ("2", 0.75)] and more.rows[0] == first.rows[0]
    seen.clear()
    other = {"calibration": data["calibration"] + 1}
    sensitivity(net, other, (0.25,), folder=tmp_path / "kept")
    assert len(seen) == 2 and len(list((tmp_path / "kept").iterdir())) == 2


def test_a_run_that_was_stopped_goes_on(tmp_path):
    net, data = model()

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sensitivity(net, data, (0.25, 0.5), folder=tmp_path, progress=stop)
    steps = []
    whole = sensitivity(
        net, data, (0.25, 0.5), folder=tmp_path, progress=lambda *a: steps.append(a)
    )
    assert steps == [(3, 4), (4, 4)] and whole == sensitivity(net, data, (0.25, 0.5))


def test_a_step_finds_what_another_one_found(tmp_path, monkeypatch):
    net, data = model()
    asked = []
    with kept_in(tmp_path, lambda done, total: asked.append((done, total))):
        first = Prune(0.3, scope="sensitivity")(net, data)
    assert asked[-1][0] == asked[-1][1] > 0
    alone = Prune(0.3, scope="sensitivity")(net, data)
    monkeypatch.setattr(damage, "_Pruned", None)  # so that nothing can be tried any more
    with kept_in(tmp_path, lambda done, total: None):
        again = Prune(0.3, scope="sensitivity")(net, data)
    x = data["calibration"]
    assert np.array_equal(first(x), again(x)) and np.array_equal(first(x), alone(x))


def test_bad_calls_are_refused(tmp_path):
    net, data = model()
    for amounts in ((), (1.0,), (0.5, -0.1)):
        with pytest.raises(InputError, match=r"shares in \[0, 1\)"):
            sensitivity(net, data, amounts)
    with pytest.raises(InputError, match="taylor"):
        sensitivity(net, data, criterion="tailor")
    with pytest.raises(InputError, match="leave folder="):
        sensitivity(net, data, criterion=lambda e: torch.zeros(e.size), folder=tmp_path)
    with pytest.raises(StepError, match="quantized already"):
        sensitivity(Quantize("int8")(net, data), data)
    with pytest.raises(DataError, match="calibration"):
        sensitivity(net, {"evaluation": data["calibration"]})
    with pytest.raises(DataError, match="'sensitivity' needs calibration samples"):
        Prune(scope="sensitivity", of="macs")(net)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot hold"):
        sensitivity(net, data, folder=tmp_path / "file" / "below")
    sensitivity(net, data, (0.5,), folder=tmp_path)
    (kept,) = tmp_path.glob("sensitivity-*.json")
    kept.write_text("{")
    with pytest.raises(InputError, match="not a valid"):
        sensitivity(net, data, (0.5,), folder=tmp_path)
