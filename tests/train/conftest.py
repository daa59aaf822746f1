import pytest
import torch
from torch import nn

import edgewise as ew
from edgewise.train.training import Optimizer, Training


@pytest.fixture(scope="session")
def digits():
    from sklearn.datasets import load_digits

    found = load_digits()
    return ((found.images[:, None] / 16).astype("float32"), found.target)


def network(channels: int, seed: int = 0):
    """A small convolutional network with a batch-norm, as a Model."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, channels, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, channels, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * channels, 10),
    )  # fmt: skip
    return ew.load(net, example=torch.zeros(1, 1, 8, 8))


@pytest.fixture(scope="session")
def short():
    return Training(epochs=2, batch=64, optimizer=Optimizer(rate=0.05))


@pytest.fixture(scope="session")
def teacher(digits):
    training = Training(epochs=6, batch=64, optimizer=Optimizer(rate=0.1))
    return ew.Finetune(training=training)(network(16), digits)


def accuracy(model, digits) -> float:
    evaluation = ew.load_data(digits, model.signature).evaluation
    inputs, targets = evaluation.take(len(evaluation))
    return float((model(*inputs).argmax(1) == targets).mean())
