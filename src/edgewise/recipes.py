"""Recipes as YAML: steps by name, their fields as they are in Python.

    steps:
      - prune: {amount: 0.5, of: macs, reconstruct: true}
      - distill: {alpha: 1.0, training: {epochs: 5, augment: [crop, flip]}}
      - quantize: {ranges: auto}

A file is data: nothing in it is run, and every field is checked before the first step begins.
"""

from __future__ import annotations

import difflib
import importlib
import os
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import msgspec
import yaml

from .errors import InputError
from .model import Model
from .step import Recipe, Step
from .support import Capabilities

__all__ = ["STEPS", "kind_of", "read_recipe", "rows", "write_recipe"]

LONGEST = 1 << 20  # bytes of a recipe

# name in a recipe -> where the step is
STEPS = {
    "awq": "compress.smooth:AWQ",
    "cluster": "compress.cluster:Cluster",
    "condense": "compress.condense:Condense",
    "dequantize": "compress.dequantize:Dequantize",
    "distill": "train.distill:Distill",
    "equalize": "compress.equalize:Equalize",
    "factorize": "compress.factorize:Factorize",
    "finetune": "train.finetune:Finetune",
    "prune": "compress.prune:Prune",
    "quantize": "compress.quantize:Quantize",
    "recalibrate": "compress.recalibrate:Recalibrate",
    "roundweights": "compress.round_weights:RoundWeights",
    "shorten": "compress.shorten:Shorten",
    "smoothquant": "compress.smooth:SmoothQuant",
    "sparsify": "compress.sparsify:Sparsify",
}


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a YAML file.

    Raises:
        InputError: it is no recipe; says which step and field, what was found, and what may stand
            there.
    """
    path = Path(path)
    try:
        data = path.read_bytes()[: LONGEST + 1]
        if len(data) > LONGEST:
            raise InputError(f"{path} has more than {LONGEST >> 20} MB: that is no recipe")
        document = yaml.load(data, Loader=_Loader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as a recipe: {reason}") from None
    if not isinstance(document, dict) or list(document) != ["steps"]:
        raise InputError(f"{path} is no recipe: it must have the one key 'steps'")
    steps = document["steps"]
    if not isinstance(steps, list) or not steps:
        raise InputError(f"{path}: 'steps' must be a list with at least one step")
    return Recipe(tuple(_step(row, f"{path}: step {i}") for i, row in enumerate(steps, 1)))


def write_recipe(recipe: Recipe, path: str | os.PathLike[str]) -> Path:
    """Write a recipe that `read_recipe` gives back.

    Raises:
        InputError: a field holds a function or a Model of one's own, which no file can say.
    """
    path = Path(path)
    document = {"steps": rows(recipe)}
    path.write_text(yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=100))
    return path


def kind_of(name: str) -> type[Step]:
    """The step of that name in `STEPS`."""
    module, _, kind = STEPS[name].partition(":")
    return getattr(importlib.import_module(f".{module}", __package__), kind)


def rows(recipe: Recipe) -> list[dict[str, Any]]:
    """The steps as a file lists them: a name with its fields each.

    Raises:
        InputError: as of `write_recipe`.
    """
    return [{type(step).__name__.lower(): _plain(step)} for step in recipe.steps]


class _Loader(yaml.SafeLoader):
    """YAML without aliases, a few of which can stand for gigabytes."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("a recipe may not use aliases (*)")
        return super().compose_node(parent, index)


def _step(row: Any, where: str) -> Step:
    if isinstance(row, str):
        row = {row: None}
    if not isinstance(row, dict) or len(row) != 1:
        raise InputError(f"{where} must be a step's name with its fields, as  quantize: {{}}")
    ((name, given),) = row.items()
    if name not in STEPS:
        raise InputError(f"{where} is unknown: '{name}'{_nearest(str(name), STEPS)}")
    return _build(kind_of(name), {} if given is None else given, f"{where} ({name})")


def _build(kind: type, given: Any, where: str) -> Any:
    """A dataclass of this kind from a mapping of its fields."""
    if not isinstance(given, dict):
        raise InputError(f"{where} takes fields by name, found {given!r}")
    known = {f.name: f for f in fields(kind) if f.metadata.get("lineage", True)}
    for name in given:
        if name not in known:
            raise InputError(f"{where} has no field '{name}'{_nearest(str(name), known)}")
    hints = typing.get_type_hints(kind)
    values = {name: _value(hints[name], v, f"{where}: {name}") for name, v in given.items()}
    for name, f in known.items():
        if name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise InputError(f"{where} needs the field '{name}'")
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _value(hint: Any, given: Any, where: str) -> Any:
    """`given` as a value of this type; what no file can hold is left out of a union."""
    choices = typing.get_args(hint) if _is_union(hint) else (hint,)
    if Capabilities in choices and isinstance(given, str):
        from .lowering.capabilities import capabilities

        return capabilities(given)
    for choice in choices:
        if is_dataclass(choice) and isinstance(given, dict) and choice is not Model:
            return _build(choice, given, where)
        parts = [a for a in typing.get_args(choice) if is_dataclass(a) and a is not Model]
        if typing.get_origin(choice) is tuple and parts and isinstance(given, list):
            return tuple(_build(parts[0], each, f"{where}[{i}]") for i, each in enumerate(given))
    plain = [c for c in choices if not is_dataclass(c) and not _is_callable(c)]
    try:
        return msgspec.convert(given, typing.Union[tuple(plain)])  # noqa: UP007
    except (msgspec.ValidationError, TypeError) as error:
        raise InputError(f"{where}: {str(error).replace('`', chr(39))}") from None


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, UnionType)


def _is_callable(hint: Any) -> bool:
    if typing.get_origin(hint) is Callable or hint is Callable:
        return True
    inner = [a for a in typing.get_args(hint) if a is not Ellipsis]
    return bool(inner) and any(is_dataclass(a) or _is_callable(a) for a in inner if a != NoneType)


def _plain(value: Any) -> Any:
    """A value as YAML holds it; dataclasses as the fields that differ from their defaults."""
    if isinstance(value, Capabilities):
        return value.runtime
    if isinstance(value, Model) or (callable(value) and not isinstance(value, Step)):
        raise InputError(f"a recipe cannot hold {value!r}: name what it is to be in Python")
    if is_dataclass(value):
        told = [f for f in fields(value) if f.metadata.get("lineage", True)]
        return {
            f.name: _plain(getattr(value, f.name))
            for f in told
            if getattr(value, f.name) != f.default
        }
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    hint = f", did you mean '{near[0]}'?" if near else f": choose one of {', '.join(known)}"
    return hint
