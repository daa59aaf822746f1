from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from edgewise.errors import DataError, InputError, ModelError
from edgewise.metric import METRICS, Score, get_metric, paired_drop

SEEDS = st.integers(0, 10**6)
ONE_D = np.zeros(3)


def score(metric, outputs, targets, size=7):
    """The metric's score, streamed."""
    tally = get_metric(metric).tally()
    for at in range(0, len(targets), size):
        tally.update(outputs[at : at + size], targets[at : at + size])
    return tally.compute()


def logits_and_classes(seed, n=60, classes=7):
    """Scores on a coarse grid, so that there are ties, as from int8 outputs."""
    rng = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    logits = rng.integers(-8, 9, (n, classes)) / 4 + (targets[:, None] == np.arange(classes))
    return logits.astype(np.float32), targets


def softmax(logits):
    return torch.from_numpy(logits).double().softmax(-1).numpy()


@settings(deadline=None)
@given(SEEDS)
def test_classification_agrees_with_scikit_learn(seed):
    logits, y = logits_and_classes(seed)
    predicted = logits.argmax(1)
    assert score("accuracy", logits, y).value == pytest.approx(sk.accuracy_score(y, predicted))
    want = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(y)).exp()
    assert score("perplexity", logits, y).value == pytest.approx(want.item(), rel=1e-5)
    distinct = logits + np.arange(7) * 1e-4  # scikit-learn breaks ties the other way round
    want = sk.top_k_accuracy_score(y, distinct, k=5)
    assert score("top5", distinct, y).value == pytest.approx(want)


@pytest.mark.parametrize("seed", range(4))
def test_f1_and_auc_agree_with_scikit_learn(seed):
    logits, y = logits_and_classes(seed)
    want = sk.f1_score(y, logits.argmax(1), average="macro")
    assert score("f1", logits, y).value == pytest.approx(want)
    logits += np.random.default_rng(seed).normal(size=logits.shape)  # equal up to rounding is a tie
    probabilities = softmax(logits)
    want = sk.roc_auc_score(y, probabilities, multi_class="ovr")
    assert score("auc", logits, y).value == pytest.approx(want)
    assert score("auc", probabilities, y).value == pytest.approx(want)
    two, is_one = logits[:, :2], y % 2
    want = sk.roc_auc_score(is_one, two[:, 1] - two[:, 0])
    for outputs in (two, two[:, 1] - two[:, 0], (two[:, 1] - two[:, 0])[:, None]):
        assert score("auc", outputs, is_one).value == pytest.approx(want)


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3), (50, 2, 4)])
def test_errors_agree_with_scikit_learn(shape):
    rng = np.random.default_rng(1)
    outputs, targets = rng.normal(size=(2, *shape)).astype(np.float32)
    flat = targets.reshape(50, -1), outputs.reshape(50, -1)
    assert score("mse", outputs, targets).value == pytest.approx(sk.mean_squared_error(*flat))
    assert score("mae", outputs, targets).value == pytest.approx(sk.mean_absolute_error(*flat))
    if shape == (50, 1):
        want = sk.mean_squared_error(*flat)
        assert score("mse", outputs, targets[:, 0]).value == pytest.approx(want)


def test_real_digits():
    x, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=200).fit(x[:1000] / 16, y[:1000])
    logits, y = model.decision_function(x[1000:] / 16), y[1000:]
    accuracy = score("accuracy", logits, y, size=128)
    assert accuracy.value == model.score(x[1000:] / 16, y)
    assert accuracy.n == 797
    low, high = accuracy.ci95
    assert 0.85 < low < accuracy.value < high < 0.98
    f1 = score("f1", logits, y, size=128)
    # The standard error of either is about that of a proportion.
    assert f1.ci95[1] - f1.ci95[0] == pytest.approx(high - low, rel=0.3)


@given(st.integers(1, 60), SEEDS, st.sampled_from(["accuracy", "top5"]))
def test_the_batch_size_does_not_matter(size, seed, name):
    logits, y = logits_and_classes(seed)
    assert score(name, logits, y, size) == score(name, logits, y, 60)


@pytest.mark.parametrize("name", METRICS)
def test_scores_are_seeded_and_inside_their_interval(name):
    logits, y = logits_and_classes(3)
    outputs = y + logits[:, 0] if METRICS[name].higher_is_better is False else logits
    outputs = logits if name == "perplexity" else outputs
    one, two = score(name, outputs, y), score(name, outputs, y, 60)
    assert one == two
    assert one.ci95[0] <= one.value <= one.ci95[1]
    assert one.n == 60


def test_of_equal_outputs_the_first_counts():
    equal, y = np.zeros((10, 10)), np.arange(10)
    assert score("accuracy", equal, y).value == 0.1
    assert score("top5", equal, y).value == 0.5


def test_wilson_interval_of_the_literature():
    """Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I."""
    outputs, y = np.eye(2)[(np.arange(263) >= 81).astype(int)], np.zeros(263, int)
    got = score("accuracy", outputs, y)
    assert got.value == 81 / 263
    assert got.ci95 == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert score("accuracy", outputs[:15], 1 - y[:15]).ci95 == pytest.approx((0, 0.2039), abs=1e-4)


def test_perplexity_ignores_padding():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(4, 6, 9)), rng.integers(0, 9, (4, 6))
    y[:, 4:] = -100
    want = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).flatten(0, 1), torch.from_numpy(y).flatten()
    )
    assert score("perplexity", logits, y).value == pytest.approx(want.exp().item())
    assert score("perplexity", softmax(logits), y).value == pytest.approx(want.exp().item())
    with pytest.raises(DataError, match="at least one target that is not negative"):
        score("perplexity", logits, np.full((4, 6), -100))


def test_the_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        outputs = rng.exponential(size=120)
        low, high = score("mae", outputs, np.zeros(120), 120).ci95
        inside += low <= 1 <= high
    assert inside >= 87


def test_there_is_no_bootstrap_of_too_many_samples(monkeypatch):
    monkeypatch.setattr("edgewise.metric.MOST_NUMBERS", 19)
    assert score("mse", np.ones(20), np.zeros(20)) == Score(1.0, 20)


def spread(outputs, targets):
    return np.ptp(outputs) + targets.sum()


def test_a_metric_of_ones_own_sees_everything_at_once():
    outputs, targets = np.arange(20.0), np.ones(20, int)
    assert score(spread, outputs, targets) == Score(39.0, 20)
    metric = get_metric(spread)
    assert (metric.name, metric.higher_is_better) == ("spread", True)
    assert get_metric(metric) is metric
    spread.higher_is_better = False
    assert not get_metric(spread).higher_is_better
    assert score(f"{__name__}:spread", outputs, targets).value == 39


def test_a_metric_of_ones_own_may_take_several_outputs():
    tally = get_metric(lambda outputs, targets: (outputs[0] - outputs[1]).sum()).tally()
    for _ in range(2):
        tally.update((np.full((3, 2), 5.0), np.full((3, 2), 4.0)), np.zeros(3))
    assert tally.compute() == Score(12.0, 6)


def test_torchmetrics_as_they_are():
    classification = pytest.importorskip("torchmetrics.classification")
    logits, y = logits_and_classes(0)
    jaccard = classification.MulticlassJaccardIndex(7)
    want = sk.jaccard_score(y, logits.argmax(1), average="macro")
    for _ in range(2):  # it starts anew each time
        assert score(jaccard, logits, y).value == pytest.approx(want, rel=1e-6)
    assert get_metric(jaccard).name == "MulticlassJaccardIndex"
    regression = pytest.importorskip("torchmetrics.regression")
    assert not get_metric(regression.MeanSquaredError()).higher_is_better


@pytest.mark.parametrize("name", ["acuracy", "", None, 3, "no.such:metric"])
def test_what_is_no_metric(name):
    with pytest.raises(InputError, match=r"there is no metric|importing no\.such failed"):
        get_metric(name)


LOGITS = np.zeros((3, 10))
BAD = {
    "no targets": ("accuracy", LOGITS, None, "the data have none"),
    "lengths": ("accuracy", LOGITS, np.zeros(2, int), "3 outputs were given with 2 targets"),
    "no class": ("accuracy", LOGITS, np.array([1, 10, 2]), "target 10 is no class of the model"),
    "negative": ("f1", LOGITS, np.array([1, -1, 2]), "target -1 is no class"),
    "one-hot": ("accuracy", LOGITS, np.eye(3), r"class indices of shape \(n,\)"),
    "values": ("accuracy", LOGITS, np.array([0.5, 1, 2]), r"class indices of shape \(n,\)"),
    "one score": ("accuracy", LOGITS[:, :1], np.zeros(3, int), r"outputs of shape \(n, classes\)"),
    "few classes": ("top5", LOGITS[:, :5], np.zeros(3, int), "says nothing about a model of 5"),
    "shapes": ("mse", LOGITS, ONE_D, r"takes targets of the outputs' shape \(3, 10\)"),
    "one class": ("auc", LOGITS[:, :2], np.ones(3, int), "there is none of class 0"),
    "strange token": ("perplexity", LOGITS, np.array([1, 10, 2]), "target 10 is no class"),
    "tokens": ("perplexity", LOGITS, ONE_D, "perplexity takes outputs of shape"),
    "two outputs": ("mae", (ONE_D, ONE_D), ONE_D, "the model has 2: give a callable"),
}


@pytest.mark.parametrize(("name", "outputs", "targets", "sentence"), BAD.values(), ids=BAD)
def test_what_cannot_be_scored(name, outputs, targets, sentence):
    tally = get_metric(name).tally()
    with pytest.raises(DataError, match=sentence):  # noqa: PT012
        tally.update(outputs, targets)
        tally.compute()


def test_nothing_has_no_score():
    with pytest.raises(DataError, match="at least one sample"):
        get_metric("accuracy").tally().compute()


def test_a_model_that_gives_nan():
    with pytest.raises(ModelError, match="NaN"):
        score("accuracy", np.full((3, 10), np.nan), np.zeros(3, int))


def test_class_indices_stored_as_floats_count():
    assert score("accuracy", np.eye(3), np.array([0.0, 1.0, 2.0])).value == 1


def pairs(both, only_a, only_b, none):
    a = np.repeat([True, True, False, False], [both, only_a, only_b, none])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, none])
    return a, b


def test_paired_interval_of_the_literature():
    """Fagerland, Lydersen, Laake, "Recommended tests and confidence intervals for paired binomial
    proportions", Statistics in Medicine 33 (2014): Newcombe's interval of Bentur's 21 patients.
    """
    drop, bounds = paired_drop(*pairs(1, 1, 7, 12))
    assert drop == pytest.approx(-6 / 21)
    assert bounds == pytest.approx((-0.507, -0.026), abs=5e-4)


@given(*[st.integers(0, 40)] * 4)
def test_the_paired_interval_is_sound(both, only_a, only_b, none):
    if both + only_a + only_b + none == 0:
        return
    a, b = pairs(both, only_a, only_b, none)
    drop, (low, high) = paired_drop(a, b)
    assert drop == pytest.approx(a.mean() - b.mean())
    assert -1 - 1e-9 <= low <= drop + 1e-9
    assert drop - 1e-9 <= high <= 1 + 1e-9
    back, (back_low, back_high) = paired_drop(b, a)
    assert (back, back_low, back_high) == pytest.approx((-drop, -high, -low))


def test_the_paired_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        kind = rng.choice(4, size=1000, p=[0.89, 0.02, 0.01, 0.08])
        _, (low, high) = paired_drop(kind <= 1, (kind == 0) | (kind == 2))
        inside += low <= 0.01 <= high
    assert inside >= 0.93 * 400


def test_pairing_narrows_the_interval():
    _, (low, high) = paired_drop(*pairs(9100, 50, 30, 820))
    assert high - low < 0.005  # each accuracy alone is known to 0.011
    assert low > 0 or high > 0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones(3), np.ones(3)),
        (np.ones(3, bool), np.ones(4, bool)),
        (np.ones(0, bool), np.ones(0, bool)),
        (np.ones((2, 2), bool), np.ones((2, 2), bool)),
    ],
)
def test_what_is_no_pair(a, b):
    with pytest.raises(DataError, match="two bool arrays of the same samples"):
        paired_drop(a, b)


def test_outcomes_are_what_a_pair_is_made_of():
    logits, y = logits_and_classes(0)
    tally = get_metric("accuracy").tally()
    for at in range(0, 60, 7):
        tally.update(logits[at : at + 7], y[at : at + 7])
    np.testing.assert_array_equal(tally.outcomes(), logits.argmax(1) == y)


def test_data_and_metric_import_nothing_heavy():
    code = (
        "import sys, edgewise.data, edgewise.metric\n"
        "heavy = {'torch', 'torchmetrics', 'scipy', 'polars', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
