"""Space: every recipe that a search may try, read from the steps' own fields.

A point is a flat mapping, as Optuna keeps it: ``{"runtime": "litert", "prune": True,
"prune.amount": 0.3, "recovery": 2, "scheme.litert": "int8", ...}``. What a field may be stands
beside the field itself (`edgewise.step.searched`) and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import Trial as Asked

from ..errors import InputError
from ..lowering.capabilities import capabilities
from ..recipes import kind_of
from ..step import Interval, Recipe, Step, searched_fields
from .lessons import Learning

__all__ = ["FLOAT", "Point", "Space", "scheme_of", "schemes_for"]

FLOAT = "float32"  # the scheme of what is not quantized
CUTS = ("shorten", "prune")  # before recovery

Point = dict[str, Any]
Pick = Callable[[str, Interval | tuple[Any, ...], Any], Any]


@dataclass(frozen=True)
class Space:
    """What a search may choose.

    Attributes:
        runtimes: which of them, the reference's first.
            schemes: runtime -> what of the weights, `FLOAT` first.
        cuts: the steps of `CUTS` that this model takes.
        blocks: how many residual blocks may be left out.
        bits: whether weights below 8 bits are on offer, by width or by rate (`Condense`): they make
            only the download smaller.
        learning: None where there is nothing to learn from.
    """

    runtimes: tuple[str, ...]
    schemes: Mapping[str, tuple[str, ...]]
    cuts: tuple[str, ...] = CUTS
    blocks: int = 3
    bits: bool = False
    learning: Learning | None = None

    def ask(self, trial: Asked) -> Point:
        """What Optuna's sampler, or who enqueued the trial, wants to be tried."""

        def pick(name: str, of: Interval | tuple[Any, ...], default: Any) -> Any:
            if not isinstance(of, Interval):
                return trial.suggest_categorical(name, of)
            if isinstance(of.step, int):
                return trial.suggest_int(name, of.low, of.high, step=of.step)
            return round(trial.suggest_float(name, of.low, of.high, step=of.step), 6)

        return self._walk(pick)

    def near(self, point: Point, changes: Point) -> Point:
        """A point with some values changed.

        What is in neither is as a step has it by default (else the first to choose), and steps are
        left out; values that have no meaning any more are dropped.

        Raises:
            InputError: a change that has no meaning beside the others.
        """
        wanted = point | changes

        def pick(name: str, of: Interval | tuple[Any, ...], default: Any) -> Any:
            usual = default if isinstance(of, Interval) or default in of else of[0]
            return wanted.get(name, usual)

        found = self._walk(pick)
        if unknown := set(changes) - set(found):
            raise InputError(f"{', '.join(sorted(unknown))} means nothing in {found}")
        return found

    def recipe(self, point: Point) -> Recipe:
        """The steps of a point."""
        steps: list[Step] = [_step(name, point) for name in self.cuts if point[name]]
        if point.get("recovery"):
            steps += self.learning.steps(point["recovery"])
        scheme = scheme_of(point)
        if scheme != FLOAT:
            if point.get("equalize"):
                steps.append(_step("equalize", point))
            if point.get("condense"):
                steps.append(_step("condense", point))
            target = None if scheme == "int8" else capabilities(point["runtime"])
            steps.append(_step("quantize", point, scheme=scheme, target=target))
            if point.get("roundweights"):
                steps.append(_step("roundweights", point))
        return Recipe(tuple(steps))

    def _walk(self, pick: Pick) -> Point:
        point: Point = {}

        def take(name: str, of: Interval | tuple[Any, ...], default: Any) -> Any:
            point[name] = pick(name, of, default)
            return point[name]

        def fields_of(name: str, *left_out: str) -> None:
            for field, (default, of) in searched_fields(kind_of(name)).items():
                if field == "blocks":
                    of = tuple(count for count in of if count <= self.blocks)
                if field not in left_out:
                    take(f"{name}.{field}", of, default)

        runtime = take("runtime", self.runtimes, self.runtimes[0])
        for name in self.cuts:
            if take(name, (False, True), False):
                fields_of(name)
        if self.learning is not None:
            take("recovery", Interval(0, self.learning.rungs, 1), 0)
        scheme = take(f"scheme.{runtime}", self.schemes[runtime], FLOAT)
        if scheme == "int8":
            take("equalize", (False, True), False)
            condensed = self.bits and take("condense", (False, True), False)
            if condensed:  # settles the bits of weights and how they are rounded
                fields_of("condense")
            narrow = self.bits and not condensed
            fields_of("quantize", "scheme", *(() if narrow else ("weight_bits",)))
            if not condensed and take("roundweights", (False, True), False):
                fields_of("roundweights")
        return point


def scheme_of(point: Point) -> str:
    """How its weights are held."""
    return point[f"scheme.{point['runtime']}"]


def schemes_for(runtime: str, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """What of the weights makes a file faster or smaller there, `FLOAT` first.

    Args:
        sizes: how many weights the model's layers have, by ``"conv"`` and ``"linear"``; a scheme
            must take half of them.
    """
    known = capabilities(runtime)
    _, searched = searched_fields(kind_of("quantize"))["scheme"]
    rows = ((scheme, known.support(scheme)) for scheme in searched)
    return (
        FLOAT,
        *(
            scheme
            for scheme, row in rows
            if row.speed in ("fast", "float")
            and 2 * sum(sizes[kind] for kind in row.layers) >= sum(sizes.values())
        ),
    )


def _step(name: str, point: Point, **more: Any) -> Step:
    given = {
        key.removeprefix(f"{name}."): value
        for key, value in point.items()
        if key.startswith(f"{name}.")
    }
    return kind_of(name)(**given, **more)
