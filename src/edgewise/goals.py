"""What must hold: budgets, the figures that they bound, and the verdict on each; free of torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from .errors import InputError

__all__ = ["OBJECTIVES", "Budget", "Figures", "Limit", "Objective", "Verdict"]

# What a user writes -> how many of the unit that figures are in.
TIMES = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}  # milliseconds
BYTES = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
ENERGIES = {"uj": 1e-3, "µj": 1e-3, "mj": 1.0, "j": 1e3}  # millijoules
COUNTS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
PERCENTILES = ("p50", "p90", "p99")

# Named objectives as weights of figures; `Objective` says what a weight means.
OBJECTIVES: dict[str, dict[str, float]] = {
    "fastest": {"latency": 1.0, "size": 0.05},
    "smallest": {"size": 1.0, "latency": 0.05},
    "accurate": {"drop": 1.0, "latency": 0.05},
    "balanced": {"latency": 1.0, "size": 1.0},
}


@dataclass(frozen=True)
class Figures:
    """What was found of one file; what was not measured is None.

    Attributes:
        value: the metric; of samples without targets, the accuracy that the given model expects.
        drop: points that are lost, of 100, against the given model on the same samples.
        drop_ci95: its 95 % interval.
        n: how many samples these are.
        latency_ms: of one inference, the percentile that the budget names (p50 without one).
        ratio: latency as a multiple of the reference's, measured in turns.
        ratio_ci95: its 95 % interval.
        size_bytes: of the artifact's files.
        download_bytes: of the same files in a bundle.
        memory_bytes: peak, of opening and running it.
        macs: multiply-accumulates of one sample.
        parameters: how many.
        expected: the drop that the given model expects by its own probabilities, in points; where
            targets tell the drop itself.
        energy_mj: millijoules that the processor took for one inference.
    """

    value: float | None = None
    drop: float | None = None
    drop_ci95: tuple[float, float] | None = None
    n: int | None = None
    latency_ms: float | None = None
    ratio: float | None = None
    ratio_ci95: tuple[float, float] | None = None
    size_bytes: int | None = None
    download_bytes: int | None = None
    memory_bytes: int | None = None
    macs: int | None = None
    parameters: int | None = None
    expected: float | None = None
    energy_mj: float | None = None


@dataclass(frozen=True)
class Limit:
    """One budget in the unit of its figure.

    Attributes:
        name: as a user knows it: ``"max-drop"``, ``"max-latency"`` ...
        figure: the field of `Figures` that it bounds.
        bound: from above, but of ``min-value`` from below.
        percentile: of a latency.
    """

    name: str
    figure: str
    bound: float
    percentile: str = ""

    def excess(self, figures: Figures) -> float:
        """How far outside, relative to the bound (points for a drop); 0 where it holds, infinite
        where it was not measured."""
        value = getattr(figures, self.figure)
        if value is None:
            return math.inf
        over = self.bound - value if self.name == "min-value" else value - self.bound
        if self.figure in ("drop", "value"):
            return max(0.0, over if self.figure == "drop" else 100 * over)
        return max(0.0, over / self.bound)


@dataclass(frozen=True)
class Verdict:
    """Whether one budget holds.

    Attributes:
        limit: the budget.
        holds: of the value itself.
        value: what was measured.
        sure: whether the whole 95 % interval is within; None where there is no interval.
    """

    limit: Limit
    holds: bool
    value: float | None = None
    sure: bool | None = None


@dataclass(frozen=True)
class Budget:
    """What the artifact must hold; None bounds nothing.

    Numbers are in the unit that is named, text may name another (``"2ms"``, ``"150kB"``).

    Attributes:
        max_drop: points of the metric (of 100) that may be lost; of samples without targets, as
            the given model expects it.
        min_value: the least value of the metric itself.
        max_latency: of one inference in milliseconds; ``"2ms"`` is of the median, ``"5ms p99"``
            of another percentile (p50, p90, p99).
        max_size: of the artifact's files in bytes.
        max_download: of the files in a bundle, in bytes.
        max_memory: peak, in bytes.
        max_energy: of one inference in millijoules, where the machine can tell
            (`edgewise.edge.energy`).
        max_macs: multiply-accumulates of one sample.
    """

    max_drop: float | None = None
    min_value: float | None = None
    max_latency: float | str | None = None
    max_size: float | str | None = None
    max_download: float | str | None = None
    max_memory: float | str | None = None
    max_energy: float | str | None = None
    max_macs: float | str | None = None

    def __post_init__(self):
        _ = self.limits

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Every budget that was given.

        Raises:
            InputError: one that is no such quantity, or below what can be.
        """
        found = []
        for field in fields(self):
            given, name = getattr(self, field.name), field.name.replace("_", "-")
            if given is None:
                continue
            figure, units = _KINDS[field.name]
            number, percentile = _quantity(f"--{name}", given, units)
            if not math.isfinite(number) or number < 0 or (number == 0 and units is not None):
                raise InputError(f"--{name} must be above 0, found {given}")
            found.append(Limit(name, figure, number, percentile))
        return tuple(found)

    @property
    def percentile(self) -> str:
        """Of the latency."""
        return next((x.percentile for x in self.limits if x.percentile), "p50")

    def verdicts(self, figures: Figures) -> tuple[Verdict, ...]:
        """One for each budget."""
        found = []
        for limit in self.limits:
            sure = None
            if limit.figure == "drop" and figures.drop_ci95 is not None:
                sure = figures.drop_ci95[1] <= limit.bound
            value = getattr(figures, limit.figure)
            found.append(Verdict(limit, limit.excess(figures) == 0, value, sure))
        return tuple(found)

    def excess(self, figures: Figures) -> float:
        """How far all budgets together are missed; 0 where all hold."""
        return sum(limit.excess(figures) for limit in self.limits)


_KINDS: dict[str, tuple[str, Mapping[str, float] | None]] = {
    "max_drop": ("drop", None),
    "min_value": ("value", None),
    "max_latency": ("latency_ms", TIMES),
    "max_size": ("size_bytes", BYTES),
    "max_download": ("download_bytes", BYTES),
    "max_memory": ("memory_bytes", BYTES),
    "max_energy": ("energy_mj", ENERGIES),
    "max_macs": ("macs", COUNTS),
}


@dataclass(frozen=True)
class Objective:
    """What is wanted beyond the budgets: the least sum of weighted costs.

    A cost is the logarithm (of base 2) of the figure over the given model's: halving latency is
    worth as much as halving size where their weights are equal. Of the drop it is points.

    Attributes:
        weights: by ``"latency"``, ``"size"``, ``"download"``, ``"memory"``, ``"energy"``,
            ``"macs"``, ``"drop"``.
    """

    weights: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, given: str | Mapping[str, float]) -> Objective:
        """By name (`OBJECTIVES`), as ``"latency=1,size=0.5"``, or as a mapping.

        Raises:
            InputError: an unknown name or figure, or a weight below 0.
        """
        if isinstance(given, str):
            given = OBJECTIVES.get(given) or _weights(given)
        for name, weight in given.items():
            if name not in _COSTS:
                raise InputError(
                    f"unknown objective '{name}': choose one of {', '.join(OBJECTIVES)}, or weigh "
                    f"{', '.join(_COSTS)} as latency=1,size=0.5"
                )
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"a weight is 0 or above, found {name}={weight}")
        if not any(given.values()):
            raise InputError("give at least one figure of the objective a weight above 0")
        return cls(tuple(given.items()))

    def cost(self, figures: Figures, reference: Figures) -> float:
        """Lower is better; infinite where a figure that counts was not measured."""
        total = 0.0
        for name, weight in self.weights:
            ours = getattr(figures, _COSTS[name])
            theirs = getattr(reference, _COSTS[name])
            if not weight:
                continue
            if ours is None or (theirs is None and name != "drop"):
                return math.inf
            total += weight * (ours if name == "drop" else math.log2(ours / theirs))
        return total


_COSTS = {
    "latency": "ratio",
    "size": "size_bytes",
    "download": "download_bytes",
    "memory": "memory_bytes",
    "energy": "energy_mj",
    "macs": "macs",
    "drop": "drop",
}


def _weights(text: str) -> dict[str, float]:
    found = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        try:
            found[name.strip()] = float(weight or 1)
        except ValueError:
            raise InputError(f"a weight is a number, found '{part}'") from None
    return found


def _quantity(
    option: str, given: float | str, units: Mapping[str, float] | None
) -> tuple[float, str]:
    """In the figure's unit, and the percentile."""
    percentile = ""
    if isinstance(given, str):
        text = given.strip().lower()
        if units is TIMES:
            text, percentile = _percentile(option, text)
        match = re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-zµ]*)", text)
        known = units or {}
        unit = match[2] if match else None
        try:
            number = float(match[1]) if match else math.nan
        except ValueError:
            number = math.nan
        if math.isnan(number) or (unit and unit not in known):
            example = f" with a unit ({', '.join(u for u in known if u)})" if known else ""
            raise InputError(f"{option} takes a number{example}, found '{given}'")
        return number * (known[unit] if unit else 1), percentile
    return float(given), PERCENTILES[0] if units is TIMES else ""


def _percentile(option: str, text: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.*?)(?:\s+(p[0-9]+))?", text)
    percentile = found[2] or PERCENTILES[0]
    if percentile not in PERCENTILES:
        raise InputError(f"{option} is of p50, p90 or p99, as '5ms p99', found '{percentile}'")
    return found[1], percentile
