"""Signatures of models that take the tests' data."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgewise.record import Signature, TensorSpec


@pytest.fixture(scope="session")
def takes() -> Callable[..., Signature]:
    """A signature of one input: ``takes(3, 8, 8, dtype="uint8")``."""

    def signature(
        *shape: int, outputs: int = 10, labels: tuple[str, ...] = (), **spec
    ) -> Signature:
        spec.setdefault("layout", {3: "NCHW", 1: "NC"}.get(len(shape), ""))
        return Signature(
            (TensorSpec("image", (None, *shape), **spec),),
            (TensorSpec("scores", (None, outputs)),),
            labels,
        )

    return signature
