from __future__ import annotations

import numpy as np
import pytest

from edgewise.data import load_data
from edgewise.errors import DataError

X = np.zeros((4, 2), np.float32)


def targets(y, signature=None, **options):
    return load_data({"evaluation": (X, np.array(y))}, signature, **options).evaluation.take(4)[1]


def test_sorted_names_count_from_0():
    np.testing.assert_array_equal(targets(["b", "c", "a", "b"]), [1, 2, 0, 1])


def test_bytes_are_names_too():
    np.testing.assert_array_equal(targets([b"b", b"c", b"a", b"b"]), [1, 2, 0, 1])


def test_the_models_order_counts(takes):
    signature = takes(2, outputs=4, labels=("c", "b", "z", "a"))
    np.testing.assert_array_equal(targets(["b", "c", "a", "b"], signature), [1, 0, 3, 1])
    late = load_data({"evaluation": (X, np.array(["b", "c", "a", "b"]))}).fit(signature)
    np.testing.assert_array_equal(late.evaluation.take(4)[1], [1, 0, 3, 1])


def test_a_class_that_the_model_does_not_know(takes):
    with pytest.raises(
        DataError, match="class 'c', which the model does not know; its classes are a, b"
    ):
        targets(["b", "c", "a", "b"], takes(2, outputs=2, labels=("a", "b")))


def test_the_callers_order_counts_above_the_models(takes):
    signature = takes(2, outputs=3, labels=("ape", "bee", "cow"))
    y = targets(["n2", "n1", "n2", "n0"], signature, classes=["n1", "n2", "n0"])
    np.testing.assert_array_equal(y, [1, 0, 1, 2])


def test_a_class_that_the_caller_did_not_name():
    with pytest.raises(DataError, match="class 'c', which is not among the classes given: a, b"):
        targets(["b", "c", "a", "b"], classes=["a", "b"])


def test_another_number_of_classes_than_outputs(takes):
    with pytest.raises(DataError, match="3 classes and the model 10 outputs: give classes="):
        targets(["b", "c", "a", "b"], takes(2, outputs=10))
    np.testing.assert_array_equal(targets(["b", "c", "b", "c"], takes(2, outputs=1)), [0, 1, 0, 1])


def test_numbers_as_names_are_not_guessed(takes):
    with pytest.raises(DataError, match="sorted place is not their value"):
        targets(["1", "10", "2", "0"])
    np.testing.assert_array_equal(targets(["1", "3", "2", "0"]), [1, 3, 2, 0])
    np.testing.assert_array_equal(targets(["1", "10", "2", "0"], classes=range(11)), [1, 10, 2, 0])
    signature = takes(2, outputs=11, labels=tuple(map(str, range(11))))
    np.testing.assert_array_equal(targets(["1", "10", "2", "0"], signature), [1, 10, 2, 0])
