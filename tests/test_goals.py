"""Budgets, verdicts and objectives."""

from __future__ import annotations

import math

import pytest

from edgewise import Budget
from edgewise.errors import InputError
from edgewise.goals import Figures, Objective


def test_quantities_take_units():
    budget = Budget(
        max_drop=0.5, max_latency="2ms p99", max_size="150kB", max_memory="1.5 MiB", max_macs="30M",
        max_energy="500uJ",
    )  # fmt: skip
    bounds = {limit.name: limit.bound for limit in budget.limits}
    assert bounds == {
        "max-drop": 0.5, "max-latency": 2.0, "max-size": 150e3, "max-memory": 1.5 * 2**20,
        "max-macs": 30e6, "max-energy": 0.5,
    }  # fmt: skip
    assert budget.percentile == "p99"
    assert Budget(max_latency=0.5).limits[0].percentile == "p50"
    assert Budget(max_latency="300 us").limits[0].bound == pytest.approx(0.3)


@pytest.mark.parametrize(
    "given",
    [
        {"max_size": "12 parsecs"}, {"max_size": "0"}, {"max_latency": "-1ms"},
        {"max_latency": "2ms p42"}, {"max_drop": math.nan}, {"max_drop": -0.1},
        {"max_latency": "1.2.3ms"}, {"max_macs": "many"}, {"max_size": math.inf},
    ],
)  # fmt: skip
def test_what_is_no_quantity_is_refused(given):
    with pytest.raises(InputError, match=f"--{next(iter(given)).replace('_', '-')} "):
        Budget(**given)


def test_verdicts_say_which_budget_stands_in_the_way():
    budget = Budget(max_drop=0.5, max_latency=2.0, max_size=1000)
    figures = Figures(drop=0.4, drop_ci95=(0.1, 0.7), latency_ms=3.0)
    drop, latency, size = budget.verdicts(figures)
    assert (drop.holds, drop.sure) == (True, False)
    assert (latency.holds, latency.sure, latency.value) == (False, None, 3.0)
    assert (size.holds, size.value) == (False, None)
    assert budget.excess(Figures(drop=0.7, latency_ms=3.0, size_bytes=500)) == pytest.approx(0.7)


def test_a_floor_bounds_from_below():
    (verdict,) = Budget(min_value=0.9).verdicts(Figures(value=0.89))
    assert not verdict.holds
    (verdict,) = Budget(min_value=0.9).verdicts(Figures(value=0.91))
    assert verdict.holds


def test_halving_either_is_worth_the_same_where_weights_are_equal():
    whole = Figures(ratio=1.0, size_bytes=100)
    objective = Objective.of("latency=1,size=1")
    costs = [
        objective.cost(figures, whole)
        for figures in (Figures(ratio=0.5, size_bytes=100), Figures(ratio=1.0, size_bytes=50))
    ]
    assert costs == [-1.0, -1.0]
    assert objective.cost(Figures(ratio=0.5), whole) == math.inf


@pytest.mark.parametrize("given", ["quickest", "latency=fast", "latency=-1", "latency=0"])
def test_what_is_no_objective_is_refused(given):
    with pytest.raises(InputError):
        Objective.of(given)
