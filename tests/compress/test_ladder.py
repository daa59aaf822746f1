import numpy as np
import pytest
import torch
from torch import nn

from edgewise.compress.ladder import Ladder
from edgewise.compress.quantize import Quantize
from edgewise.compress.sensitivity import relief
from edgewise.errors import DataError, InputError, StepError
from edgewise.loading.torch import load_module

from ..nets import loaded


def fragile():
    """A network with one layer whose weights do not bear few bits."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.ReLU(),
        nn.Conv2d(12, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    with torch.no_grad():
        net[2].weight[:, :, 1, 1] += 6.0  # one weight of each row is far larger than the others
    x = torch.randn(128, 3, 8, 8)
    return load_module(net.eval(), x[:1]), x.numpy()


def data_of(model, x, labels=True):
    evaluation = (x, model(x).argmax(1)) if labels else x
    return {"calibration": x[:64], "evaluation": evaluation}


@pytest.mark.parametrize("labels", [True, False])
def test_it_stops_at_the_first_rung_that_holds(labels):
    model, x = fragile()
    climb = Ladder(max_drop=100)(model, data_of(model, x, labels))
    assert climb.held and [r.name for r in climb.rungs] == ["min-max ranges"]
    assert [e.step for e in climb.model.lineage] == ["load", "quantize", "ladder"]
    plain = Quantize("int8")(model, {"calibration": x[:64]})
    assert np.array_equal(climb.model(x), plain(x))


def test_it_climbs_and_returns_the_best_that_it_saw():
    model, x = fragile()
    climb = Ladder(max_drop=0.0, weight_bits=2)(model, data_of(model, x))
    drops = [r.drop for r in climb.rungs]
    assert climb.drop == min(drops) < drops[0]
    assert [r.kept for r in climb.rungs] == [
        drop < min(drops[:i], default=np.inf) for i, drop in enumerate(drops)
    ]
    loss = 100 * (1 - (climb.model(x).argmax(1) == model(x).argmax(1)).mean())
    assert loss == pytest.approx(climb.drop)
    if not climb.held:
        assert "train" in str(climb)
    assert climb.model.lineage[-1].params["rungs"][0]["name"] == "min-max ranges"


def test_the_layer_that_bears_least_is_named_first():
    model, x = fragile()
    bits = {"2": 2, "4": 6}
    worst = relief(
        Quantize("int8", weight_bits=bits)(model, {"calibration": x}), [torch.from_numpy(x)]
    )
    assert worst[0].layer == "2" and worst[0].gain > 0.5
    assert len(worst) == 4 and all(row.error == worst[0].error for row in worst)


def test_bad_calls_are_refused():
    model, x = loaded("perceptron")
    small = Quantize("int8")(model, {"calibration": x.numpy()})
    with pytest.raises(InputError, match="at least 0 points"):
        Ladder(max_drop=-1)
    with pytest.raises(StepError, match="start from the float model"):
        Ladder()(small, {"calibration": x.numpy()})
    with pytest.raises(DataError):
        Ladder()(model, {"evaluation": x.numpy()})
