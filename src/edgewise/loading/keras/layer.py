"""A Keras layer in torch: its configuration, its weights under torch's names, its function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.traceback import annotate

from ...errors import ModelError
from .weights import Weights

__all__ = ["LAYERS", "Config", "Layer", "build", "channels_first", "channels_last", "row"]


# What numbers that make no sense raise, in numpy and in torch.
BROKEN = (
    TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, ArithmeticError,
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What a file says about one layer.

    Attributes:
        name, class_name: of the layer.
        values: its configuration.
        generation: 2 or 3, the Keras that wrote the file; some functions changed between them.
    """

    name: str
    class_name: str
    values: Mapping[str, Any]
    generation: int = 3

    def __getitem__(self, key: str) -> Any:
        if key not in self.values:
            raise self.fail(f"its configuration has no '{key}'")
        return self.values[key]

    def get(self, key: str, default: Any = None) -> Any:
        value = self.values.get(key)
        return default if value is None else value

    def fail(self, why: str) -> ModelError:
        return ModelError(f"layer '{self.name}' ({self.class_name}) cannot be loaded: {why}")

    def only(self, key: str, *values: Any) -> None:
        """Refuse an option of which only these values are known; absent is the first of them."""
        if (value := self.get(key, values[0])) not in values:
            raise self.fail(f"{key}={value!r} is not supported")

    @property
    def last(self) -> bool:
        """Whether channels are the last axis."""
        return self.get("data_format", "channels_last") == "channels_last"

    def sizes(self, key: str, count: int, default: Any = 1) -> tuple[int, ...]:
        """One number an axis, however it was written."""
        value = self.get(key, default)
        value = [value] * count if isinstance(value, int) else list(value)
        if len(value) != count or not all(type(v) is int and v >= 0 for v in value):
            raise self.fail(f"{key}={value!r} should be {count} sizes")
        return tuple(value)


class Layer(nn.Module):
    """A function of a layer's tensors, with the parameters that it reads as attributes."""

    def __init__(
        self,
        compute: Callable[..., Any],
        buffers: Mapping[str, np.ndarray] | None = None,
        **parameters: np.ndarray | nn.Module | None,
    ):
        super().__init__()
        self.compute, self.path = compute, ""
        for name, value in parameters.items():
            if isinstance(value, nn.Module):
                self.add_module(name, value)
            elif value is not None:
                self.register_parameter(name, nn.Parameter(_tensor(value)))
            else:
                self.register_parameter(name, None)
        for name, value in (buffers or {}).items():
            self.register_buffer(name, _tensor(value))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with annotate({"layer": self.path}):
                return self.compute(self, *args, **kwargs)
        except BROKEN as error:
            raise ModelError(f"layer '{self.path}' does not run: {_line(error)}") from error


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value, np.float32, order="C"))


Build = Callable[[Config, Weights], nn.Module]
LAYERS: dict[str, Build] = {}


def row(*class_names: str) -> Callable[[Build], Build]:
    """Register what makes layers of these classes."""

    def register(make: Build) -> Build:
        LAYERS.update(dict.fromkeys(class_names, make))
        return make

    return register


def build(config: Config, weights: Weights) -> nn.Module:
    """The layer as a module.

    Raises:
        ModelError: a class or an option that is not known, or weights that do not fit.
    """
    make = LAYERS.get(config.class_name)
    if make is None:
        raise config.fail(
            f"'{config.class_name}' is no layer that edgewise knows: replace it by layers of "
            "Keras itself, or load the model from ONNX"
        )
    try:
        return make(config, weights)
    except BROKEN as error:
        raise config.fail(f"its configuration or weights are damaged ({_line(error)})") from error


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def channels_first(x: Tensor) -> Tensor:
    """(n, ..., c) -> (n, c, ...)."""
    return x if x.ndim < 3 else x.permute(0, -1, *range(1, x.ndim - 1))


def channels_last(x: Tensor) -> Tensor:
    """(n, c, ...) -> (n, ..., c)."""
    return x if x.ndim < 3 else x.permute(0, *range(2, x.ndim), 1)
