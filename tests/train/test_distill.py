"""Students learn from their teachers."""

import numpy as np
import pytest
import torch
from torch import nn

import edgewise as ew
from edgewise.errors import InputError, StepError
from edgewise.train.features import Hint
from edgewise.train.training import Optimizer, Training

from .conftest import accuracy, network


def test_without_labels_a_pruned_student_gets_back_what_it_lost(teacher, digits):
    small = ew.Prune(0.6)(teacher, digits)
    unlabelled = digits[0][:1200]
    training = Training(epochs=8, batch=64, optimizer=Optimizer(rate=0.05))
    back = ew.Distill(teacher, alpha=1.0, temperature=2.0, training=training)(small, unlabelled)
    lost, found = (accuracy(teacher, digits) - accuracy(m, digits) for m in (small, back))
    assert lost > 0.1
    assert found < 0.2 * lost


@pytest.mark.parametrize(
    "how",
    [
        {"match": "decoupled", "temperature": 2.0},
        {"hints": "fitnets"},
        {"hints": "attention"},
        {"hints": "relational"},
        {"hints": (Hint("fitnets", 0.5, "relu", "relu_1"),)},
    ],
    ids=str,
)
def test_every_way_of_teaching_lowers_the_distance(teacher, digits, short, how):
    if isinstance(how.get("hints"), tuple):
        names = [n.name for n in teacher.graph.graph.nodes if "relu" in n.name]
        how = {"hints": (Hint("fitnets", 0.5, names[0], names[0]),)}
    student = network(4, seed=1)
    before = accuracy(student, digits)
    after = ew.Distill(teacher, training=short, **how)(student, digits)
    assert accuracy(after, digits) > before + 0.3


def test_two_teachers_teach_their_mean(teacher, digits, short):
    student = ew.Distill((teacher, teacher), training=short)(network(4), digits)
    one = ew.Distill(teacher, training=short)(network(4), digits)
    x = digits[0][:50]
    np.testing.assert_allclose(student(x), one(x), rtol=1e-3, atol=1e-3)


def test_what_is_cached_teaches_what_the_teacher_says(teacher, digits, short, tmp_path):
    from edgewise.train.training import Session

    kept = ew.Distill(teacher, training=short, session=Session(tmp_path))(network(4), digits)
    memory = ew.Distill(teacher, training=short)(network(4), digits)
    x = digits[0][:50]
    np.testing.assert_array_equal(kept(x), memory(x))


def test_a_softmax_at_the_end_is_looked_behind(teacher, digits, short):
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.Softmax(1)
    net = nn.Sequential(*layers)
    student = ew.load(net, example=torch.zeros(1, 1, 8, 8))
    taught = ew.Distill(teacher, training=short)(student, digits)
    assert accuracy(taught, digits) > 0.6
    np.testing.assert_allclose(taught(digits[0][:9]).sum(1), 1, rtol=1e-5)


def test_numbers_are_matched_as_numbers(digits):
    torch.manual_seed(0)
    teacher, student = (
        ew.load(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), example=torch.zeros(1, 1, 8, 8))
        for _ in range(2)
    )
    training = Training(epochs=6, batch=32, optimizer=Optimizer("adamw", rate=0.02, decay=0.0))
    taught = ew.Distill(teacher, alpha=1.0, match="outputs", training=training)(student, digits[0])
    x = digits[0][:200]
    assert (
        np.square(taught(x) - teacher(x)).mean() < 0.1 * np.square(student(x) - teacher(x)).mean()
    )


def test_the_teacher_and_the_student_stay_as_they_were(teacher, digits, short):
    student = network(4)
    before = [m(digits[0][:9]) for m in (teacher, student)]
    ew.Distill(teacher, training=short)(student, digits)
    for model, outputs in zip((teacher, student), before, strict=True):
        np.testing.assert_array_equal(model(digits[0][:9]), outputs)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"temperature": 0}, "temperature must be above 0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\]"),
        ({"match": "hard"}, "unknown match 'hard'"),
        ({"hints": "telepathy"}, "unknown hint"),
        ({"loss": "hinge"}, "unknown loss"),
    ],
)
def test_settings_that_mean_nothing_are_refused(teacher, fields, says):
    with pytest.raises(InputError, match=says):
        ew.Distill(teacher, **fields)


def test_outputs_that_do_not_match_are_refused(teacher, digits):
    other = ew.load(nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), example=torch.zeros(1, 1, 8, 8))
    with pytest.raises(StepError, match="outputs must match"):
        ew.Distill(teacher)(other, digits)


def test_a_hint_of_a_value_that_is_not_there_is_refused(teacher, digits):
    hint = Hint("fitnets", 1.0, "nowhere", "nowhere")
    with pytest.raises(InputError, match="no value 'nowhere'"):
        ew.Distill(teacher, hints=(hint,))(network(4), digits)
