"""The record of a fit: what it refuses, and that it comes back as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgewise.errors import InputError
from edgewise.goals import Budget, Figures
from edgewise.record import encode
from edgewise.run import FILE, Arm, Classes, Trial, read_run

from .reporting.runs import fit_like, missed


def test_a_record_comes_back_as_it_was(tmp_path):
    run = fit_like()
    (tmp_path / FILE).write_bytes(encode(run))
    assert read_run(tmp_path) == run == read_run(tmp_path / FILE)
    assert run.holds and not missed().holds and not replace(run, proof=None).holds
    poor = fit_like(budget=Budget(max_memory=1e6), proof=None)
    unmeasured = poor.budget.verdicts(Figures())
    poor = replace(poor, proof=replace(run.proof, verdicts=unmeasured))
    (tmp_path / FILE).write_bytes(encode(poor))
    assert read_run(tmp_path) == poor
    assert run.trial(17).number == 17


@pytest.mark.parametrize(
    "changes",
    [{"best": 99}, {"reference": 99}, {"front": (0, 99)}, {"runners_up": (99,)},
     {"arms": (Arm("without prune", 99),)}],
)  # fmt: skip
def test_trials_that_are_not_there_are_refused(changes):
    with pytest.raises(InputError, match="trial 99"):
        fit_like(**changes)


@pytest.mark.parametrize("step", [{}, {"prune": {}, "quantize": {}}, {"prune": None}, {"prune": 1}])
def test_a_step_is_one_name_with_its_fields(step):
    with pytest.raises(InputError, match="trial 3"):
        Trial(3, "int8", "litert", 1, (step,))


def test_a_trial_is_named_by_what_tells_it_apart():
    steps = {"prune": {"reconstruct": True, "amount": 0.5, "of": "macs"}}, {"quantize": {}}
    assert Trial(1, "cut", "litert", steps=steps).name == "prune 0.5, macs + quantize on litert"
    assert Trial(0, "float", "litert").name == "float on litert"


def test_counts_of_classes_are_square():
    with pytest.raises(InputError, match="2 classes"):
        Classes(("a", "b"), ((1, 0), (0, 1)), ((1, 0),))
    with pytest.raises(InputError, match="2 classes"):
        Classes(("a", "b"), ((1, 0), (0,)), ((1, 0), (0, 1)))


def test_a_damaged_record_is_refused(tmp_path):
    text = encode(fit_like()).decode().replace('"best": 17', '"best": 170')
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match="trial 170"):
        read_run(tmp_path)
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(InputError, match="not a valid Run"):
        read_run(tmp_path)
