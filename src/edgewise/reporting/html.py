"""A report as one page of HTML that needs nothing else: no script, no network, no other file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import MissingExtra
from .charts import charts
from .columns import CONDITIONS, FIGURES, filled, name
from .curves import panels
from .figures import machine_facts
from .findings import findings, label
from .report import Report

__all__ = ["page"]

TEMPLATE = Path(__file__).with_name("page.html")


def page(report: Report) -> str:
    """The page. Every name and sentence in the report is escaped.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise MissingExtra("jinja2, which writes the page,", "compress") from None
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    machine = _machine(report)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        report=report,
        findings=findings(report),
        charts=charts(report),
        panels=panels(report),
        tables=[
            (title, filled(columns, report))
            for title, columns in (("Figures", FIGURES), ("Conditions", CONDITIONS))
            if report.rows
        ],
        label=label,
        left_alone=_left_alone(report),
        origins=[(name(row), row.origin) for row in report.rows if row.origin],
        machine=machine_facts(machine),
        where=machine.get("board") or machine.get("cpu"),
        versions=_versions(report),
    )


def _left_alone(report: Report) -> dict[tuple[str, str], list[str]]:
    """Every layer that a step left alone, with its reason: the files that this holds for."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in report.rows:
        for event in row.origin.lineage if row.origin else ():
            for layer, reason in event.skipped.items():
                found.setdefault((layer, reason), []).append(label(row))
    return found


def _machine(report: Report) -> dict[str, Any]:
    return {k: v for row in report.rows for k, v in row.measurement.machine.items()}


def _versions(report: Report) -> dict[str, str]:
    return {k: v for row in report.rows for k, v in row.measurement.versions.items()}
