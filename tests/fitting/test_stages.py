"""What the stages ask for, on a search whose trials are computed from a formula."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import optuna
import pytest

import edgewise as ew
from edgewise.errors import StepError
from edgewise.fitting.lessons import Learning
from edgewise.fitting.ranking import front_of, with_spare
from edgewise.fitting.search import Limits, Search
from edgewise.fitting.space import Space, schemes_for
from edgewise.fitting.stages import stages
from edgewise.goals import Figures, Objective
from edgewise.run import Trial
from edgewise.train import Distill, Training

RUNTIMES = ("onnxruntime", "litert")


class Formula:
    """A crew: what is cut costs accuracy, training gives a part of it back."""

    size = 1

    def __init__(self) -> None:
        self.tasks: list = []
        self.epochs = 0.0

    def submit(self, task):
        self.tasks.append(task)
        future: Future = Future()
        amount = next((s.amount for s in task.recipe.steps if isinstance(s, ew.Prune)), 0.0)
        if amount > 0.8:
            future.set_exception(StepError("too much"))
            return future
        epochs = sum(s.training.epochs for s in task.recipe.steps if isinstance(s, Distill))
        self.epochs += epochs
        drop = 20 * amount**2 / (1 + epochs)
        quantized = any(isinstance(s, ew.Quantize) for s in task.recipe.steps)
        size = int(1000 * (1 - amount) * (0.25 if quantized else 1))
        ratio = (1 - 0.8 * amount) * (0.5 if quantized else 1)
        ratio *= 0.9 if task.runtime == "litert" else 1.0
        figures = Figures(
            drop=drop, drop_ci95=(drop - 0.1, drop + 0.1), value=0.9 - drop / 100, n=1000,
            size_bytes=size, download_bytes=size, macs=int(1e6 * (1 - amount)), ratio=ratio,
        )  # fmt: skip
        made = SimpleNamespace(
            artifact=None, figures=figures, agreement=None, epochs=epochs, training=0.01 * epochs
        )
        future.set_result(made)
        return future

    def close(self) -> None: ...


class Still:
    """A clock that leaves the figures as they are."""

    threads = None

    def __call__(self, artifact, figures):
        return figures


class Shaky(Still):
    """A clock that is off by up to 2 %, each time it is asked."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, artifact, figures):
        ratio = figures.ratio * (1 + self.rng.uniform(-0.02, 0.02))
        return replace(figures, ratio=ratio, latency_ms=ratio)

    def again(self, rows):
        return [self(artifact, figures) for artifact, figures in rows]


def search_with(budget: ew.Budget, limits: Limits | None = None, study=None, **space) -> Search:
    schemes = {name: schemes_for(name, {"conv": 9, "linear": 1}) for name in RUNTIMES}
    learning = Learning(Training(epochs=1), rungs=4)
    study = study or optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=0, multivariate=True), directions=["minimize"] * 3
    )
    return Search(
        Space(RUNTIMES, schemes, **({"learning": learning} | space)),
        budget, Objective.of("fastest"), study, Formula(), Still(),
        limits or Limits(None, 60), lambda standing: None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found() -> Search:
    search = search_with(ew.Budget(max_drop=0.5))
    assert list(stages(search))[:3] == ["as it is", "repair", "cut"]
    return search


def test_it_ends_with_something_much_better_than_int8_alone(found):
    best, plain = found.best, [t for t in found.good if t.name == "quantize on litert"]
    assert found.ranking.holds(best)
    assert best.figures.ratio < 0.8 * plain[0].figures.ratio
    assert found.ranked[0] is best


def test_longer_training_is_for_fewer(found):
    rungs = [found.point_of(t)["recovery"] for t in found.trials if t.stage == "recover"]
    counts = [rungs.count(k) for k in range(1, 5)]
    assert counts[0] >= 2 and sorted(counts, reverse=True) == counts


def test_a_trial_that_fails_is_written_down_with_its_reason(found):
    failed = [t for t in found.trials if t.figures is None]
    assert failed and all(t.reason == "too much" for t in failed)
    assert all(t not in found.ranked for t in failed)


def test_begun_anew_it_asks_for_nothing_that_is_known(found):
    again = search_with(ew.Budget(max_drop=0.5), Limits(None, len(found.trials)), found.study)
    assert [t.number for t in again.trials] == [t.number for t in found.trials]
    for _ in stages(again):
        pass
    assert again.crew.tasks == []
    assert again.best == found.best


def test_what_is_chosen_does_not_hang_on_a_clock_s_mood():
    chosen = []
    for seed in range(4):
        search = search_with(ew.Budget(max_drop=0.5))
        search.clock = Shaky(seed)
        for _ in stages(search):
            pass
        chosen.append((search.confirm(lambda trial: None).steps, len(search.trials)))
    assert chosen == chosen[:1] * 4


def test_few_samples_are_not_believed_too_much():
    few = Figures(drop=-1.0, drop_ci95=(-3.5, 1.5), expected=1.5)
    many = Figures(drop=-1.0, drop_ci95=(-1.2, -0.8), expected=1.5)
    alone = Figures(drop=-1.0, drop_ci95=(-3.5, 1.5))
    assert with_spare(few).drop > with_spare(alone).drop > with_spare(many).drop
    assert with_spare(few).drop > 0.5 and with_spare(many).drop < -0.8


def test_what_was_counted_as_too_much_does_not_hold_though_less_was_expected():
    search = search_with(ew.Budget(max_drop=1.0))
    figures = Figures(
        drop=1.3, drop_ci95=(-1.0, 3.6), expected=0.1, ratio=0.1, size_bytes=1, macs=1
    )
    whole = Figures(drop=0.0, ratio=1.0, size_bytes=9, macs=9)
    search.trials = [
        Trial(0, "as it is", "litert", figures=whole),
        Trial(1, "cut", "litert", steps=({"prune": {}},), figures=figures),
    ]
    assert with_spare(figures).drop < 1 and not search.ranking.holds(search.trials[1])
    assert search.best.number == 0


def test_of_what_a_clock_cannot_tell_apart_the_most_accurate_is_chosen():
    search = search_with(ew.Budget(max_drop=1.0))
    rows = [(0.0, 1.0, 100), (0.3, 0.50, 40), (0.1, 0.51, 60), (0.1, 0.51, 50), (0.0, 0.6, 60)]
    search.trials = [
        Trial(n, "cut", "litert", figures=Figures(drop=drop, ratio=ratio, size_bytes=1, macs=macs))
        for n, (drop, ratio, macs) in enumerate(rows)
    ]
    assert [t.number for t in search.ranked] == [3, 2, 1, 4, 0]


def test_what_was_half_done_when_it_was_stopped_is_in_nobodys_way():
    search = search_with(ew.Budget(max_drop=0.5), Limits(None, 5))
    search.study.enqueue_trial(search.space.near({}, {"prune": True}))
    search.study.ask()
    search.study.enqueue_trial(search.space.near({}, {"shorten": True}))
    again = search_with(ew.Budget(max_drop=0.5), Limits(None, 5), search.study)
    for _ in stages(again):
        pass
    assert len(again.trials) == 5 and not again.trials[0].steps


def test_no_trial_is_begun_when_the_time_is_up():
    search = search_with(ew.Budget(max_drop=0.5), Limits(0.3, None))
    for _ in stages(search):
        time.sleep(0.1)
    count = len(search.trials)
    assert search.over == "its time was up"
    search.run([search.space.near({}, {"prune": True})], "more")
    assert len(search.trials) == count


def test_without_training_samples_nothing_is_trained():
    search = search_with(ew.Budget(max_drop=0.5), Limits(None, 30), learning=None)
    for _ in stages(search):
        pass
    assert search.crew.epochs == 0 and search.ranking.holds(search.best)


def test_nobody_beats_the_front(found):
    front = front_of(found.good)
    for trial in found.good:
        assert trial in front or any(
            f.figures.drop <= trial.figures.drop
            and f.figures.ratio <= trial.figures.ratio
            and f.figures.size_bytes <= trial.figures.size_bytes
            for f in front
        )
    ratios = [t.figures.ratio for t in front]
    assert ratios == sorted(ratios)


def test_what_just_holds_ranks_behind_what_has_something_to_spare():
    search = search_with(ew.Budget(max_drop=0.5))
    wide = Figures(drop=0.49, drop_ci95=(-0.5, 1.5), ratio=0.1, size_bytes=10, macs=10)
    safe = Figures(drop=0.1, drop_ci95=(0.0, 0.2), ratio=0.5, size_bytes=100, macs=50)
    whole = Figures(drop=0.0, ratio=1.0, size_bytes=1000, macs=100)
    cut = ({"prune": {}},)
    search.trials = [
        Trial(0, "as it is", "litert", figures=whole),
        Trial(1, "cut", "litert", steps=cut, figures=wide),
        Trial(2, "cut", "litert", steps=cut, figures=safe),
    ]
    assert [t.number for t in search.ranked] == [2, 0, 1]


def test_a_budget_that_only_cuts_can_hold_does_not_choose_the_runtime():
    search = search_with(ew.Budget(max_drop=0.5, max_size=100), Limits(None, 40))
    for _ in stages(search):
        pass
    cuts = [t for t in search.trials if t.stage == "cut"]
    assert cuts and {t.runtime for t in cuts} == {"litert"}


def test_at_last_the_gaps_of_the_front_are_filled():
    search = search_with(ew.Budget(max_drop=0.5), Limits(None, 200), learning=None)
    names = list(stages(search))
    assert names[-1] == "widen"
    added = [t for t in search.trials if t.stage == "widen"]
    assert added
    cuts = [t for t in front_of(search.good) if t.figures.drop < 10 and "prune" in t.name]
    macs = sorted(np.log2(t.figures.macs) for t in cuts)
    grid = 0.05  # nothing lies between neighbours of the grid
    for low, high in pairwise(macs):
        assert high - low < 0.2 or 2**high - 2**low < 1.01e6 * grid
    # The formula loses 10 points at an amount of 0.7.
    assert max(search.point_of(t)["prune.amount"] for t in cuts) > 0.6


@pytest.mark.parametrize(("spent", "size", "cuts"), [(50, 100, True), (50, 300, False),
                                                     (80, 100, False)])  # fmt: skip
def test_late_in_its_time_it_cuts_only_in_need(spent, size, cuts):
    budget = ew.Budget(max_drop=5, max_size=size)  # int8 takes 250 bytes
    search = search_with(budget, Limits(100, None), learning=None)
    search.spent = spent
    for name in stages(search):
        if name == "polish":
            break
    assert any(t.stage == "cut" for t in search.trials) == cuts
