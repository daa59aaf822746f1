"""Keras' activation functions, by name, and the layers that are nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layer import LAYERS, Config, Layer, build, row
from .weights import Weights

__all__ = ["activation"]


def _hard_sigmoid_2(x: Tensor) -> Tensor:
    return torch.clamp(x * 0.2 + 0.5, 0, 1)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": F.elu,
    "selu": lambda x: 1.0507009873554805 * F.elu(x, 1.6732632423543772),
    "celu": F.elu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "log_sigmoid": lambda x: -F.softplus(-x),
    "hard_sigmoid": F.hardsigmoid,
    "silu": F.silu,
    "swish": F.silu,
    "hard_silu": F.hardswish,
    "hard_swish": F.hardswish,
    "tanh": torch.tanh,
    "hard_tanh": F.hardtanh,
    "tanh_shrink": lambda x: x - torch.tanh(x),
    "softplus": F.softplus,
    "softsign": lambda x: x / (1 + torch.abs(x)),
    "mish": lambda x: x * torch.tanh(F.softplus(x)),
    "exponential": torch.exp,
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
}


def activation(config: Config, key: str = "activation") -> Callable[[Tensor], Tensor]:
    """The function that a layer's configuration names.

    Raises:
        ModelError: it is none of Keras' own.
    """
    value = config.get(key, "linear")
    if isinstance(value, Mapping):
        inner = value.get("config")
        if value.get("class_name") in ACTIVATION_LAYERS and isinstance(inner, Mapping):
            made = Config(config.name, value["class_name"], inner, config.generation)
            return build(made, None)
        # A function of Keras is written as its name; anything else is the user's code.
        value = inner if isinstance(inner, str) else value.get("class_name")
    if value == "hard_sigmoid" and config.generation == 2:
        return _hard_sigmoid_2
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise config.fail(f"{key} {value!r} is no function of Keras itself")
    return ACTIVATIONS[value]


@row("Activation")
def function(c: Config, w: Weights | None) -> nn.Module:
    act = activation(c)
    return Layer(lambda p, x: act(x))


@row("ReLU")
def relu(c: Config, w: Weights | None) -> nn.Module:
    """max_value, negative_slope and threshold as in Keras: f(x) = slope * (x - threshold) below."""
    most, threshold = c.get("max_value"), float(c.get("threshold", 0.0))
    slope = float(c.get("negative_slope", 0.0))

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        if threshold:
            y = torch.where(x >= threshold, x, slope * (x - threshold))
            return y if most is None else torch.clamp(y, max=most)
        if slope:
            y = F.leaky_relu(x, slope)
            return y if most is None else torch.clamp(y, max=most)
        if most is None:
            return F.relu(x)
        return F.relu6(x) if most == 6 else torch.clamp(x, 0, most)

    return Layer(compute)


@row("LeakyReLU")
def leaky_relu(c: Config, w: Weights | None) -> nn.Module:
    slope = float(c.get("negative_slope", c.get("alpha", 0.3)))
    return Layer(lambda p, x: F.leaky_relu(x, slope))


@row("ELU")
def elu(c: Config, w: Weights | None) -> nn.Module:
    alpha = float(c.get("alpha", 1.0))
    return Layer(lambda p, x: F.elu(x, alpha))


@row("ThresholdedReLU")
def thresholded(c: Config, w: Weights | None) -> nn.Module:
    theta = float(c.get("theta", 1.0))
    return Layer(lambda p, x: x * (x > theta))


@row("Softmax")
def softmax(c: Config, w: Weights | None) -> nn.Module:
    axis = c.get("axis", -1)
    if isinstance(axis, list) and len(axis) == 1:
        (axis,) = axis
    if not isinstance(axis, int):
        raise c.fail(f"axis={axis!r} should be one axis")

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        if not -x.ndim <= axis < x.ndim:
            raise c.fail(f"axis={axis} is none of the {x.ndim} axes")
        return torch.softmax(x, axis)

    return Layer(compute)


ACTIVATION_LAYERS = frozenset(LAYERS)


@row("PReLU")
def prelu(c: Config, w: Weights) -> nn.Module:
    """One slope for each place of the map, or shared along axes: x above, alpha x below."""
    (alpha,) = w.read("alpha")
    if not math.prod(alpha.shape):
        raise c.fail("its weight is empty")
    return Layer(lambda p, x: F.relu(x) - p.weight * F.relu(-x), weight=alpha)
