"""Prune, train, judge, again."""

import pytest

import edgewise as ew
from edgewise.errors import InputError
from edgewise.train.training import Optimizer, Session, Training

from .conftest import accuracy


def test_rounds_end_at_the_amount(teacher, digits, tmp_path):
    training = Training(epochs=3, batch=64, optimizer=Optimizer(rate=0.05))
    step = ew.Distill(teacher, training=training, session=Session(tmp_path))
    said = []
    rounds = ew.PruneRounds(ew.Prune(0.6, of="macs"), step, rounds=2, max_drop=8.0)
    found = rounds(teacher, digits, progress=said.append)
    assert found.reached and [row.kept for row in found.rounds] == [True, True]
    whole, first, last = (
        ew.inspect(teacher, ()).macs, *(row.macs for row in found.rounds)
    )  # fmt: skip
    assert last == ew.inspect(found.model, ()).macs <= 0.4 * whole < first < 0.7 * whole
    assert found.drop == found.rounds[-1].drop < found.rounds[-1].cut
    lost = accuracy(teacher, digits) - accuracy(found.model, digits)
    assert found.drop == pytest.approx(100 * lost)
    assert [event.step for event in found.model.lineage[-4:]] == ["prune", "distill"] * 2
    assert {path.name for path in tmp_path.iterdir()} == {"round-1", "round-2"}
    assert said[0] == "round 1 of 2: pruning" and len(said) == 4
    assert "accuracy on" in str(found)


def test_a_floor_stops_them(teacher, digits):
    training = Training(epochs=0.2, batch=64, optimizer=Optimizer(rate=1e-6))
    rounds = ew.PruneRounds(ew.Prune(0.9), ew.Finetune(training=training), rounds=2, max_drop=0.5)
    found = rounds(teacher, digits)
    assert not found.reached and found.model is teacher and found.drop == 0
    assert len(found.rounds) == 1 and found.rounds[0].drop > 0.5 and "too many" in str(found)


def test_bad_calls_are_refused():
    step = ew.Finetune()
    with pytest.raises(InputError, match="one amount"):
        ew.PruneRounds(ew.Prune({"conv1": 0.5}), step)
    with pytest.raises(InputError, match="rounds"):
        ew.PruneRounds(ew.Prune(0.5), step, rounds=0)
    with pytest.raises(InputError, match="max_drop"):
        ew.PruneRounds(ew.Prune(0.5), step, max_drop=-1)
