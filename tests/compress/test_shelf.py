"""Values in files are the values that were in memory."""

from __future__ import annotations

import pytest
import torch

from edgewise.compress import reconstruct, shelf
from edgewise.compress.prune import Prune
from edgewise.compress.shelf import Shelf
from edgewise.errors import StepError
from edgewise.loading.torch import load_module

from ..nets import make


def test_what_is_put_is_what_is_there():
    values = [torch.randn(4, 5), (torch.arange(6).reshape(2, 3), torch.zeros(0, 2)), 7]
    with Shelf(100) as kept:
        first, (second, empty), number = map(kept.put, values)
        assert first is values[0] and kept.held == 80  # there was room for one
        assert second is not values[1][0] and torch.equal(second, values[1][0])
        assert empty.shape == (0, 2) and number == 7
        kept.drop(first)
        assert kept.held == 0 and kept.put(values[0]) is values[0]
        kept.drop((first, second))
        assert kept.held == 0
    assert torch.equal(second, values[1][0])


def test_turned_tensors_keep_their_places():
    value = torch.randn(3, 4).T
    with Shelf(0) as kept:
        assert torch.equal(kept.put(value), value)


def test_a_full_disk_is_one_sentence(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelf.Path, "open", full)
    with Shelf(0) as kept, pytest.raises(StepError, match=r"400 bytes .* fewer samples"):
        kept.put(torch.zeros(100))


@pytest.mark.parametrize("name", ["residual", "inverted"])
def test_reconstruction_from_files_gives_the_same_weights(name, monkeypatch):
    net, x = make(name)
    model, data = load_module(net, x[:1]), {"calibration": x[:32].numpy()}
    step = Prune(0.4, reconstruct=True)
    want = step(model, data)
    monkeypatch.setattr(reconstruct, "IN_MEMORY", 0)
    have = step(model, data)
    for a, b in zip(want.graph.parameters(), have.graph.parameters(), strict=True):
        assert torch.equal(a, b)
