"""Step: what turns one Model into another. Recipe: steps in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, final

from .data import Data, as_data
from .errors import StepError
from .model import Model
from .record import Event

__all__ = ["Interval", "Plan", "Recipe", "Step", "searched", "searched_fields"]


class Plan(ABC):
    """What a step will change, as frozen, printable data; nothing is changed yet.

    Attributes:
        skipped: what the step leaves alone, by layer, each with the reason.
    """

    skipped: dict[str, str]


@dataclass(frozen=True)
class Interval:
    """Numbers `step` apart from `low` to `high`, both of them too; integers where these are."""

    low: float
    high: float
    step: float


def searched(default: Any, *choices: Any, within: Interval | None = None) -> Any:
    """A field of a step with this default, which a search may set to one of these."""
    return field(default=default, metadata={"searched": within or choices})


def searched_fields(kind: type[Step]) -> dict[str, tuple[Any, Interval | tuple[Any, ...]]]:
    """What a search may set of a step: field -> its default, and the values to choose from."""
    return {
        f.name: (f.default, f.metadata["searched"])
        for f in fields(kind)
        if "searched" in f.metadata
    }


@dataclass(frozen=True)
class Step(ABC):
    """One compression: observe, plan, apply.

    A step is a frozen dataclass of at most eight fields, which are at once its configuration
    file, its command-line options and its search space. Calling it checks `requires`, makes the
    `plan`, lets `apply` change a copy, and closes the copy into a Model, which checks that the
    graph still runs with the same signature.
    """

    @abstractmethod
    def requires(self, model: Model) -> None:
        """Check that the step makes sense for this Model.

        Raises:
            StepError: it does not; the message says what to do.
        """

    @abstractmethod
    def plan(self, model: Model, data: Data | None) -> Plan:
        """Look at the Model and the data and say what would change."""

    @abstractmethod
    def apply(self, model: Model, plan: Plan) -> Model:
        """The Model with the plan carried out (`Model.of` without an event)."""

    def within(self, original: Model) -> Step:
        """The step as it is carried out in a Recipe that was given this Model."""
        return self

    @final
    def __call__(
        self, model: Model, data: Any = None, *, show: Callable[[Plan], None] | None = None
    ) -> Model:
        """A new Model; `model` itself is never changed.

        Args:
            data: anything that `edgewise.load_data` takes.
            show: is called with the plan before anything is changed.
        """
        self.requires(model)
        data = None if data is None else as_data(data, signature=model.signature)
        plan = self.plan(model, data)
        if show is not None:
            show(plan)
        result = self.apply(model, plan)
        if result is model or result.graph is model.graph:
            raise StepError(f"{type(self).__name__}.apply must return a new Model")
        event = Event(type(self).__name__.lower(), self.params(), dict(plan.skipped))
        result = Model.of(result.graph, like=model, event=event)
        if data is not None and data.calibration is not None and result.samples is None:
            result = result.with_samples(data.calibration.take(32)[0])
        return result

    @final
    def params(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as plain data.

        Fields whose metadata say ``"lineage": False`` decide nothing of the result.
        """
        told = [f for f in fields(self) if f.metadata.get("lineage", True)]
        return {
            f.name: _plain(getattr(self, f.name))
            for f in told
            if getattr(self, f.name) != f.default
        }


def _plain(value: Any) -> Any:
    """A field as a record holds it: Models and functions by what they are called."""
    if isinstance(value, Model):
        return repr(value)
    if is_dataclass(value):
        return {
            f.name: _plain(getattr(value, f.name))
            for f in fields(value)
            if getattr(value, f.name) != f.default
        }
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return getattr(value, "__qualname__", value) if callable(value) else value


@dataclass(frozen=True)
class Recipe:
    """Steps to be applied one after the other."""

    steps: tuple[Step, ...]

    def __call__(self, model: Model, data: Any = None) -> Model:
        """Apply every step in order.

        Raises:
            StepError: a step's `requires` does not hold; says which steps had run.
        """
        data = None if data is None else as_data(data, signature=model.signature)
        done: list[str] = []
        for step in [step.within(model) for step in self.steps]:
            try:
                model = step(model, data)
            except StepError as error:
                after = f" (after {', '.join(done)})" if done else ""
                raise StepError(f"{type(step).__name__}{after}: {error}") from error
            done.append(type(step).__name__)
        return model
