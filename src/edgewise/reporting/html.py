"""Records as one page of HTML that needs nothing else: no network, no other file.

The page of a fit carries one small script of edgewise's own, which the page's policy names by its
hash: no other one runs. Without it the page shows the same.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtra
from ..run import Run
from . import effects, runs, trials, verdicts
from .charts import charts
from .columns import CONDITIONS, FIGURES, filled, name
from .curves import panels
from .figures import lost_text, machine_facts, ms_text, percent_text
from .findings import findings, label
from .fronts import fronts, runtimes
from .report import Report

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["fragment", "page"]

FOLDER = Path(__file__).parent
MOST, MOST_CONFUSIONS = 12, 8  # operators and classes, and pairs of these, that are shown


def page(record: Report | Run) -> str:
    """The page. Every name and sentence in the record is escaped.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    templates = _templates()
    if isinstance(record, Run):
        return templates.get_template("run.html").render(_run(record))
    return templates.get_template("page.html").render(_report(record))


def fragment(run: Run) -> str:
    """The verdict, the fronts and their table, to stand inside another page: a notebook's.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    return _templates().get_template("fragment.html").render(_run(run))


@cache
def _templates() -> Environment:
    """Compiled once: a page takes milliseconds, its template ten times as long."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise MissingExtra("jinja2, which writes the page,", "compress") from None
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(FOLDER),
    )


def _report(report: Report) -> dict[str, Any]:
    machine = _machine(report)
    return {
        "report": report,
        "findings": findings(report),
        "charts": charts(report),
        "panels": panels(report.curves),
        "tables": [
            (title, filled(columns, report))
            for title, columns in (("Figures", FIGURES), ("Conditions", CONDITIONS))
            if report.rows
        ],
        "label": label,
        "left_alone": _left_alone(report),
        "origins": [(name(row), row.origin) for row in report.rows if row.origin],
        "machine": machine_facts(machine),
        "where": machine.get("board") or machine.get("cpu"),
        "versions": _versions(report),
    }


def _run(run: Run) -> dict[str, Any]:
    from markupsafe import Markup

    script = (FOLDER / "run.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    best = run.trial(run.best) if run.best is not None else None
    classes = run.proof.classes if run.proof else None
    recalls = effects.recalls(classes) if classes else ()
    low = min((min(row.before, row.after) for row in recalls[:MOST]), default=0.0)
    shown = {
        "accuracy": ("How we know", True),
        "choices": ("What else there was", trials.front(run).rows),
        "steps": ("Each step", trials.ablation(run).rows),
        "layers": ("Layers", effects.layers(run).rows),
        "classes": ("Classes", recalls),
        "time": ("Time", run.proof and run.proof.explained),
        "figures": ("Figures", run.proof),
        "not-run": ("Not run", runs.not_run(run)),
        "again": ("Make it again", True),
        "trials": ("Every trial", run.trials),
    }
    explained = run.proof.explained if run.proof else ()
    samples = run.samples
    return {
        "run": run,
        "headline": verdicts.headline(run),
        "runtime": best.runtime if best else "",
        "where": run.machine.get("board") or run.machine.get("cpu") or run.device,
        "held": run.best is not None and all(row.holds for row in verdicts.verdicts(run)),
        "changes": runs.changes(run),
        "verdicts": verdicts.verdicts(run),
        "obstacles": verdicts.obstacles(run),
        "ran": runs.ended(run),
        "sections": [(key, title) for key, (title, there) in shown.items() if there],
        "evidence": runs.evidence(run),
        "measured": runs.measured(run),
        "samples": [
            ("looked at by steps", samples.calibration),
            ("learned from", samples.training),
            ("chose the recipe", samples.selection),
            ("proved it", samples.test),
        ],
        "fronts": fronts(run),
        "runtimes": runtimes(run),
        "front": trials.front(run),
        "ablation": trials.ablation(run),
        "layers": effects.layers(run),
        "panels": panels(run.curves),
        "recalls": recalls[:MOST],
        "more_recalls": max(0, len(recalls) - MOST),
        "recall_low": low,
        "recall_at": lambda share: round(100 * (share - low) / ((1 - low) or 1), 2),
        "confusions": effects.confusions(classes)[:MOST_CONFUSIONS] if classes else (),
        "matrices": effects.matrices(classes) if classes else (),
        "labels": classes.labels if classes else (),
        "explained": [
            (
                title,
                found,
                sorted(found.operators, key=lambda o: -o.us)[:MOST],
                max(0, len(found.operators) - MOST),
            )
            for title, found in zip(("Before", "After"), explained, strict=False)
        ],
        "longest": max((o.us for e in explained for o in e.operators), default=0) or 1,
        "not_run": runs.not_run(run),
        "best": best,
        "recipe": trials.recipe_text,
        "asked": runs.asked(run),
        "machine": machine_facts(run.machine),
        "trials": trials.trials(run),
        "percent": percent_text,
        "lost": lost_text,
        "ms": ms_text,
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
    }


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
