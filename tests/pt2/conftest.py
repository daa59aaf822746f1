"""A place to look at whether code ran, and strings that would run it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

__all__ = ["marker", "one_thread", "payloads"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bits depend on how many threads add up."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that every attack tries to create; the test fails when one did."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "code from a file was executed"


@pytest.fixture
def payloads(marker: Path) -> tuple[str, ...]:
    """Code for each place where a string could end up: expressions, calls, literals, names."""
    call = f"__import__('pathlib').Path('{marker}').touch()"
    return (
        call,
        f'x"); {call}; ("',
        f"x'); {call}; ('",
        f"x\n    {call}\n    #",
        f"x = {call}",
        f"x=({call})",
        f"x: {call}",
        f"torch.ops.aten.relu.default({call})",
        f"a.{call}",
        f'a", {call}, "b.c',
        f"os.system('touch {marker}')",
        "__class__",
        "__import__",
        "forward",
        "lambda: 0",
        "# COUNTER: 3",
        "\x1b]0;x\x07",
        "",
    )
