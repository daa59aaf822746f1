"""Keras on torch as the oracle."""

import os

import pytest


@pytest.fixture(scope="session")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="keras, which makes the files, is not installed")
    if keras.backend.backend() != "torch":
        pytest.skip("keras was imported with another backend")
    return keras
