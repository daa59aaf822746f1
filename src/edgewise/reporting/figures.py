"""Numbers as people read them; the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "PROPORTIONS",
    "bytes_text",
    "count_text",
    "energy_text",
    "interval_text",
    "lost_text",
    "machine_facts",
    "metric_text",
    "ms_text",
    "percent_text",
    "points_text",
    "ratio_text",
    "seconds_text",
    "times_text",
]

PROPORTIONS = ("accuracy", "expected accuracy", "top5", "f1", "auc")  # 0..1, shown in percent

Interval = tuple[float, float] | None


def bytes_text(size: float) -> str:
    """``4.20 kB``; decimal, as file managers and flash chips count."""
    return f"{size:.0f} B" if size < 999.5 else f"{count_text(size)}B"


def count_text(number: float) -> str:
    """``1.25 M``: three digits and a prefix."""
    for power, prefix in ((9, "G"), (6, "M"), (3, "k")):
        if number >= 0.9995 * 10**power:
            return f"{_three(number / 10**power)} {prefix}"
    return f"{number:.0f}"


def ms_text(ms: float) -> str:
    """``5.12 ms``, or ``512 µs`` below a millisecond."""
    return f"{_three(ms)} ms" if ms >= 0.9995 else f"{_three(ms * 1000)} µs"


def energy_text(mj: float) -> str:
    """``5.12 mJ``, or ``512 µJ`` below a millijoule."""
    return f"{_three(mj)} mJ" if mj >= 0.9995 else f"{_three(mj * 1000)} µJ"


def percent_text(share: float) -> str:
    """``91.73 %`` of 0.9173."""
    return f"{100 * share:.2f} %"


def metric_text(metric: str, value: float, ci95: Interval = None) -> str:
    """A metric's value with its 95 % interval: ``91.73 % (91.2 to 92.3)``."""
    if metric in PROPORTIONS:
        return percent_text(value) + interval_text(ci95, lambda v: f"{100 * v:.1f}")
    return f"{value:.4g}" + interval_text(ci95, lambda v: f"{v:.4g}")


def points_text(metric: str, drop: float, ci95: Interval = None) -> str:
    """What is lost of a metric: ``0.28 (-0.1 to 0.7)`` percentage points for a proportion."""
    factor, places = (100, 2) if metric in PROPORTIONS else (1, 4)
    return _signed(factor * drop, places) + interval_text(
        ci95, lambda v: _signed(factor * v, places - 1)
    )


def lost_text(points: float, ci95: Interval = None) -> str:
    """Points of 100 that are lost: ``0.28 (−0.12 to 0.68)``."""
    return _signed(points, 2) + interval_text(ci95, lambda v: _signed(v, 2))


def ratio_text(ratio: float, ci95: Interval = None) -> str:
    """``0.52× (0.50 to 0.54)``; with a third digit where two say little, ``0.192×``."""
    places = 2 if ratio >= 0.2 else 3
    return f"{ratio:.{places}f}×" + interval_text(ci95, lambda v: f"{v:.{places}f}")


def times_text(times: float) -> str:
    """``5.20×``, ``12.0×``."""
    return f"{_three(times)}×"


def seconds_text(seconds: float) -> str:
    """``1 h 02 min``, ``29 min 56 s``, ``4.2 s``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def interval_text(ci95: Interval, text=str) -> str:
    """`` (low to high)``, or nothing where there is no interval."""
    return "" if ci95 is None else f" ({text(ci95[0])} to {text(ci95[1])})"


def machine_facts(machine: Mapping[str, Any]) -> dict[str, str]:
    """What `edgewise.edge.machine.describe` found, as text; without the log of its sensors."""
    return dict(_fact(name, value) for name, value in machine.items() if name != "meanwhile")


UNITS = {
    "_bytes": bytes_text,
    "_mhz": lambda mhz: f"{mhz:.0f} MHz",
    "_c": lambda degrees: f"{degrees:.0f} °C",
}


def _fact(name: str, value: Any) -> tuple[str, str]:
    for suffix, text in UNITS.items():
        if name.endswith(suffix) and isinstance(value, int | float):
            return name.removesuffix(suffix), text(value)
    if isinstance(value, list | tuple):
        return name, " ".join(map(str, value))
    return {"load": "load average"}.get(name, name), str(value)


def _signed(number: float, places: int) -> str:
    """With a true minus sign, and none before a zero."""
    return f"{round(number, places) + 0.0:.{places}f}".replace("-", "−")


def _three(number: float) -> str:
    """Three significant digits, never in exponent form."""
    places = 0 if number >= 99.95 else 1 if number >= 9.995 else 2 if number >= 0.9995 else 3
    return f"{number:.{places}f}"
