"""Points that are lost, with labels and without."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import edgewise as ew
from edgewise.compress.judge import Judge, judge_on
from edgewise.metric import paired_drop

RNG = np.random.default_rng(0)


class Scores(nn.Module):
    """Whatever comes in goes out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1.0


class Hesitant:
    """Takes the second best class of some samples."""

    def __init__(self, model, changed: np.ndarray):
        self.model, self.changed, self.at = model, changed, 0

    def __call__(self, *inputs):
        found = self.model(*inputs).copy()
        rows = np.arange(len(found))
        best = found.argmax(1)
        swap = self.changed[self.at : self.at + len(found)]
        found[rows[swap], best[swap]] -= 100
        self.at += len(found)
        return found


def model_and_scores(n: int = 400, classes: int = 5):
    scores = RNG.normal(scale=2.0, size=(n, classes)).astype(np.float32)
    return ew.load(Scores().eval(), example=torch.zeros(1, classes)), scores


def test_without_labels_a_prediction_is_worth_its_probability():
    model, scores = model_and_scores()
    data = ew.load_data({"evaluation": scores}, model.signature)
    judge = Judge(model, data.evaluation, "accuracy")
    changed = RNG.random(len(scores)) < 0.2
    found = judge(Hesitant(model, changed))
    likely = np.sort(torch.softmax(torch.from_numpy(scores), 1).numpy(), 1)
    lost = np.where(changed, likely[:, -1] - likely[:, -2], 0.0)
    assert found.drop == pytest.approx(100 * lost.mean(), abs=1e-4)
    assert found.drop_ci95[0] < found.drop < found.drop_ci95[1]
    assert judge.value == pytest.approx(likely[:, -1].mean(), abs=1e-6)


def test_what_the_given_model_expects_is_what_happens_if_it_knows_how_sure_it_is():
    model, scores = model_and_scores(20_000)
    likely = torch.softmax(torch.from_numpy(scores), 1)
    labels = torch.multinomial(likely, 1, generator=torch.Generator().manual_seed(0))[:, 0]
    by_itself = ew.load_data({"evaluation": scores}, model.signature).evaluation
    by_label = ew.load_data({"evaluation": (scores, labels.numpy())}, model.signature).evaluation
    changed = RNG.random(len(scores)) < 0.3
    expected, real = (
        Judge(model, split, "accuracy")(Hesitant(model, changed)) for split in (by_itself, by_label)
    )
    assert real.drop_ci95[0] < expected.drop < real.drop_ci95[1]
    assert expected.drop_ci95[1] - expected.drop_ci95[0] < real.drop_ci95[1] - real.drop_ci95[0]


def test_labels_cool_down_who_is_too_sure():
    model, scores = model_and_scores(4000)
    likely = torch.softmax(torch.from_numpy(scores), 1)
    labels = torch.multinomial(likely, 1, generator=torch.Generator().manual_seed(1))[:, 0].numpy()
    changed = RNG.random(len(scores)) < 0.3
    found = []
    for surer in (1.0, 3.0):
        rows = (scores * surer).astype(np.float32)
        data = ew.load_data({"evaluation": (rows, labels)}, model.signature)
        found.append(Judge(model, data.evaluation, "accuracy")(Hesitant(model, changed)))
    calm, sure = found
    assert calm.expected == pytest.approx(sure.expected, rel=1e-3)
    assert calm.drop_ci95[0] < calm.expected < calm.drop_ci95[1]


def test_probabilities_are_taken_as_they_are():
    model, scores = model_and_scores()
    likely = torch.softmax(torch.from_numpy(scores), 1).numpy()
    values = []
    for rows in (scores, likely):
        data = ew.load_data({"evaluation": rows}, model.signature)
        values.append(Judge(model, data.evaluation, "accuracy").value)
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_nothing_seen_is_not_nothing_lost():
    model, scores = model_and_scores(100)
    data = ew.load_data({"evaluation": scores}, model.signature)
    found = Judge(model, data.evaluation, "accuracy")(model)
    assert found.drop == 0 and found.drop_ci95 == (0.0, 3.0)


def test_with_labels_it_is_the_metric():
    model, scores = model_and_scores()
    labels = RNG.integers(0, 5, len(scores))
    data = ew.load_data({"evaluation": (scores, labels)}, model.signature)
    judge = judge_on(model, data, 300, "accuracy")
    changed = RNG.random(300) < 0.2
    found = judge(Hesitant(model, changed))
    assert (judge.name, found.n) == ("accuracy", 300)
    rows, right = [], []
    for inputs, targets in judge.split.batches(64):
        rows.append(inputs[0])
        right.append(targets)
    x, y = np.concatenate(rows), np.concatenate(right)
    order = np.argsort(x, 1)
    chosen = np.where(changed, order[:, -2], order[:, -1])
    drop, bounds = paired_drop(order[:, -1] == y, chosen == y)
    assert found.drop == pytest.approx(100 * drop)
    assert found.drop_ci95 == pytest.approx(tuple(100 * b for b in bounds))
