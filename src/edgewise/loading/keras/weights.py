"""Where a Keras file keeps each layer's weights: by place (.keras) or by name (.h5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...errors import ModelError
from .h5 import H5File

__all__ = ["ByName", "ByPlace", "Weights"]


class Weights(Protocol):
    """The weights of one layer or model."""

    def layer(self, name: str, class_name: str, turn: int) -> Weights:
        """Those of a layer of this model: its name, and how many of its class came before it."""

    def part(self, attribute: str, name: str) -> Weights:
        """Those of a layer inside this one: as its attribute and its name are in Keras."""

    def read(self, *names: str) -> list[np.ndarray]:
        """The layer's own weights, named in the order in which Keras makes them."""


@dataclass(frozen=True)
class ByPlace:
    """``.keras``: ``layers/<class in snake case>_<turn>/vars/<number>``."""

    file: H5File
    path: str = ""

    def layer(self, name: str, class_name: str, turn: int) -> ByPlace:
        stem = _snake_case(class_name)
        place = f"{stem}_{turn}" if turn else stem
        # tf.keras before Keras 3 called the container by another name.
        for container in ("layers", "_layer_checkpoint_dependencies"):
            if self.file.has(path := f"{self.path}/{container}/{place}"):
                return ByPlace(self.file, path)
        return ByPlace(self.file, f"{self.path}/layers/{place}")

    def part(self, attribute: str, name: str) -> ByPlace:
        return ByPlace(self.file, f"{self.path}/{attribute}")

    def read(self, *names: str) -> list[np.ndarray]:
        return [self.file.array(f"{self.path}/vars/{i}") for i in range(len(names))]


@dataclass(frozen=True)
class ByName:
    """``.h5``: one group a layer of the outermost model, with a list of its weights' names.

    Attributes:
        names: path of each weight within `path`; None at the outermost model.
        within: parts of the path that a weight must have, each the beginning of one.
    """

    file: H5File
    path: str = "model_weights"
    names: tuple[str, ...] | None = None
    within: tuple[str, ...] = ()

    def layer(self, name: str, class_name: str, turn: int) -> ByName:
        if self.names is not None:  # a model in a model: its weights lie under the outermost's name
            return ByName(self.file, self.path, self.names, (*self.within, f"{name}/"))
        path = f"{self.path}/{name}"
        names = self.file.texts(path, "weight_names")
        return ByName(self.file, path, tuple(names or ()))

    def part(self, attribute: str, name: str) -> ByName:
        return ByName(self.file, self.path, self.names, (*self.within, name))

    def read(self, *names: str) -> list[np.ndarray]:
        return [self.file.array(f"{self.path}/{self._one(name)}") for name in names]

    def _mine(self) -> list[str]:
        found = []
        for name in self.names or ():
            parts = [f"{part}/" for part in name.split("/")[:-1]]
            if all(any(part.startswith(w) for part in parts) for w in self.within):
                found.append(name)
        return found

    def _one(self, leaf: str) -> str:
        found = [n for n in self._mine() if n.split("/")[-1].split(":")[0] == leaf]
        if len(found) != 1:
            where = "/".join([self.path.split("/")[-1], *self.within])
            raise ModelError(f"layer '{where}' has {len(found)} weights named '{leaf}', not one")
        return found[0]


def _snake_case(name: str) -> str:
    """``PReLU`` -> ``p_re_lu``, as Keras has it."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
