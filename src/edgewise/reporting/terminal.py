"""Records as text and tables in a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ..record import Agreement, Curves
from .columns import CONDITIONS, FIGURES, filled
from .curves import loss_text
from .figures import (
    PROPORTIONS,
    bytes_text,
    count_text,
    machine_facts,
    ms_text,
    percent_text,
    seconds_text,
)
from .findings import conditions, findings
from .report import Report
from .runs import changes, ended, evidence, not_run
from .trials import Grid, front
from .verdicts import Judged, headline, obstacles, verdicts
from .verdicts import standing as against
from .written import Written

if TYPE_CHECKING:
    from ..deploying import Deployment, Trial
    from ..edge.doctor import Probe
    from ..explaining import Explanation
    from ..explaining.findings import Finding
    from ..inspection import Inspection
    from ..run import Run, Standing

__all__ = [
    "agreement_text", "console", "deployment", "examination", "explanation", "inspection",
    "report", "run", "sensitivity", "standing", "written",
]  # fmt: skip

SPARED = {"accuracy", "ratio", "download"}  # columns of a front, on a narrow terminal
NAME = 48  # characters of an operator's name
PIPED_WIDTH = 160  # columns where the output is no terminal, which has no width

SOURCES = {"data": "of the data", "model": "that the model carries", "random": "of random numbers"}


def console() -> Console:
    """Standard output; names in models and files are printed as they are, never as markup."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
    return Console(markup=False, highlight=False, emoji=False, width=width)


def examination(probes: Sequence[Probe], machine: Mapping[str, Any]) -> RenderableType:
    """What became of each runtime, and on what machine."""
    rows = _table("runtime", "", "version")
    for probe in probes:
        rows.add_row(probe.runtime, probe.state, _plain(probe.version or probe.problem or ""))
    return Group(rows, Text(), _facts(machine_facts(machine)))


def deployment(found: Deployment) -> RenderableType:
    """What became of each artifact on the device, and what stays there."""
    rows = _table("runtime", "", "golden inputs", "as here>", "p50>", "memory>", "temperature>")
    for trial in found.trials:
        rows.add_row(*map(_plain, _trial(trial)))
    end = f"stays in {found.kept}" if found.kept else "nothing was left there"
    lines = f"{found.subject} on {found.device}: {found.checked} checked there, {end}"
    return Group(rows, Text(), _plain(lines))


def _trial(trial: Trial) -> tuple[str, ...]:
    m, golden = trial.measurement, trial.golden
    if trial.skipped is not None:
        return (trial.runtime, "not tried", trial.skipped)
    verdict = trial.runtime, "passed" if trial.passed else "failed"
    off = "" if golden is None else f"{golden.n}, off by {max(golden.max_abs):.2g}"
    if m is None:
        return (*verdict, off)
    hottest = max((s.get("temperature_c", 0) for s in m.machine.get("meanwhile", ())), default=0)
    return (
        *(*verdict, off, percent_text(m.device_agreement.top1)),
        ms_text(m.latency_ms.p50) if m.latency_ms else "emulated",
        *(bytes_text(m.memory_bytes), f"{hottest:.0f} °C" if hottest else ""),
    )


def _facts(found: Mapping[str, str]) -> RenderableType:
    """Names and values."""
    rows = Table.grid(padding=(0, 2, 0, 0))
    for name, value in found.items():
        rows.add_row(_plain(name), _plain(value))
    return rows


def inspection(found: Inspection) -> RenderableType:
    """Layers and totals."""
    thinned = found.coded is not None
    more = ("zero>", "values>") if thinned else ()
    rows = _table("layer", "operator", "output", "parameters>", "MACs>", "precision", *more)
    for row in found.layers:
        rows.add_row(
            _plain(row.layer),
            row.operator,
            "×".join(map(str, row.output)),
            f"{row.parameters:,}",
            f"{row.macs:,}",
            row.precision,
            *((f"{row.zeros:,}", str(row.values or "–")) if thinned else ()),
        )
    coded = f" ({bytes_text(found.coded)} once entropy-coded)" if thinned else ""
    totals = Text(
        f"{count_text(found.parameters)} parameters in {bytes_text(found.bytes)}{coded}, "
        f"{count_text(found.macs)} multiply-accumulates a sample"
    )
    parts = [_signature_lines(found), Text(), rows, Text(), totals]
    if found.groups:
        parts += [Text(), _groups(found)]
    return Group(*parts, *([Text(), _takers(found)] if found.runtimes else []))


def _groups(found: Inspection) -> RenderableType:
    """What can be pruned, and what cannot."""
    rows = _table("group", "units>", "cut with them")
    for row in found.groups:
        more = len(row.axes) - 3
        ties = ", ".join(row.axes[:3]) + (f" and {more} more" if more > 0 else "")
        rows.add_row(_plain(row.group), str(row.units), _plain(ties))
    for layer, reason in found.uncut.items():
        rows.add_row(_plain(layer), "–", _plain(f"cannot be cut: {reason}"))
    return rows


def _takers(found: Inspection) -> RenderableType:
    """Which runtimes take the model, and what each cannot take."""
    rows = _table("runtime", "takes the model", "")
    for row in found.runtimes:
        for i, reason in enumerate([row.missing] if row.missing else row.layers.values() or [""]):
            verdict = "not known" if row.missing else "no" if row.layers else "yes"
            rows.add_row(*((row.runtime, verdict) if i == 0 else ("", "")), _plain(reason))
    return rows


def _signature_lines(found: Inspection) -> Text:
    lines = []
    for kind in ("inputs", "outputs"):
        for spec in getattr(found.signature, kind):
            shape = "×".join("batch" if s is None else str(s) for s in spec.shape)
            lines.append(f"{kind[:-1]} {spec.name}: {spec.dtype} {shape} {spec.layout}".rstrip())
    return _plain("\n".join(lines))


def written(made: Written) -> RenderableType:
    """What was written and what stayed as it was."""
    what = f"{made.precision} for {made.runtime}, " if made.runtime else ""
    parts: list[RenderableType] = [
        _plain(f"{made.path}: {what}{bytes_text(made.size_bytes)}, sha256 {made.sha256[:12]}")
    ]
    if made.agreement is not None:
        parts.append(Text(agreement_text(made.agreement)))
    if made.zeros is not None:
        parts.append(
            Text(
                f"{percent_text(made.zeros)} of its weights are zero: {made.runtime} multiplies by "
                "them all the same, so that only the file shrinks, once it is bundled"
            )
        )
    if rungs := made.plan.params.get("rungs"):
        parts += [Text(), _climbed(rungs)]
    if made.plan.skipped:
        parts += [Text(), skipped(made.plan.skipped)]
    return Group(*parts)


def report(found: Report) -> RenderableType:
    """Every figure, one line a file, and what they say; of a single file, one line a figure."""
    if len(found.rows) == 1:
        columns = filled((*CONDITIONS[:1], *FIGURES, *CONDITIONS[1:]), found)
        return _facts({c.title: c.text(found.rows[0]) for c in columns})
    rows = _figures(found, intervals=True)
    if rows.__rich_measure__(console(), console().options).maximum > console().width:
        rows = _figures(found, intervals=False)
    sentences = (*findings(found), *conditions(found))
    return Group(rows, Text(), *(_plain(sentence) for sentence in sentences))


def _figures(found: Report, *, intervals: bool) -> Table:
    columns = filled(FIGURES, found)
    if any(row.origin is None for row in found.rows):
        columns = (CONDITIONS[0], *columns)  # the file, where runtime and precision do not tell
    rows = _table(*(c.title + ">" * c.number for c in columns))
    for row in found.rows:
        cells = (c.text(row) or "–" for c in columns)
        rows.add_row(*(_plain(c if intervals else c.partition(" (")[0]) for c in cells))
    return rows


def run(found: Run, page: Path | None = None) -> RenderableType:
    """The verdict on each budget, what was chosen, the front, and where the page lies."""
    parts: list[RenderableType] = [_plain(headline(found))]
    if rows := verdicts(found):
        parts += [Text(), _verdicts(rows)]
    if found.best is not None:
        best = found.trial(found.best)
        parts += [Text(), _plain(f"chosen: trial {best.number}, {best.name}")]
        parts += [_plain(best.artifact)] if best.artifact else []
        parts.append(_facts({c.of: f"{c.what}  {c.from_to}".rstrip() for c in changes(found)}))
        parts += [Text(), _Fitting(front(found))]
    sentences = (*obstacles(found), *evidence(found), *not_run(found), *found.notes)
    parts += [Text(), *map(_plain, sentences)]
    parts.append(_plain(ended(found)))
    return Group(*parts, *([_plain(f"report: {page}")] if page else []))


@dataclass(frozen=True)
class _Fitting:
    """As much of a table as fits: intervals go first, then what can be done without."""

    grid: Grid

    def __rich_console__(self, terminal: Console, options: ConsoleOptions) -> RenderResult:
        columns = self.grid.columns
        fewer = tuple(c for c in columns if c.title not in SPARED)
        for chosen, short in ((columns, False), (columns, True), (fewer, True)):
            rows = _grid(Grid(chosen, self.grid.rows), short)
            if rows.__rich_measure__(terminal, options).maximum <= options.max_width:
                break
        yield rows


def _grid(found: Grid, short: bool) -> Table:
    rows = _table(*(c.title + ">" * c.number for c in found.columns))
    for row in found.rows:
        cells = ((c, c.text(row) or ("–" if c.title else "")) for c in found.columns)
        rows.add_row(
            *(_plain(text.partition(" (")[0] if short and c.number else text) for c, text in cells)
        )
    return rows


def _verdicts(rows: Sequence[Judged]) -> Table:
    table = _table("budget", "", "found", "verdict")
    for row in rows:
        style = "green" if row.holds else "red"
        verdict = Text.assemble(("✓ " if row.holds else "✗ ", style), _plain(row.verdict))
        table.add_row(row.name, row.bound, row.found, verdict)
    return table


def standing(found: Standing) -> RenderableType:
    """Where a search stands: its stage, the best so far against each budget, and the time."""
    time = seconds_text(found.seconds)
    if found.limit is not None:
        time += f" of {seconds_text(found.limit)}"
    failed = f", {found.failed} failed" if found.failed else ""
    parts: list[RenderableType] = [
        Text.assemble(_plain(found.stage), f"  {found.done} trials{failed}  {time}")
    ]
    if found.best:
        parts.append(_plain(f"best so far: {found.best}"))
    if found.limits:
        parts.append(_verdicts(against(found.limits)))
    parts += [_plain(f"· {what}") for what in found.doing]
    return Group(*parts)


def explanation(found: Explanation, most: int) -> RenderableType:
    """The `most` dearest operators, the rest in one line, and what to change."""
    dearest = sorted(found.operators, key=lambda o: -o.us)
    rows = _table("operator", "kind", "kernel", "µs>", "share>", "")
    for row in dearest[:most]:
        off = "off the fast path" if row.fallback else ""
        cells = (
            _short(row.layer) or "–",
            row.kind,
            row.kernel,
            f"{row.us:.1f}",
            f"{row.share:.1%}",
            off,
        )
        rows.add_row(*map(_plain, cells))
    if rest := dearest[most:]:
        us, share = sum(o.us for o in rest), sum(o.share for o in rest)
        rows.add_row(f"{len(rest)} more", "", "", f"{us:.1f}", f"{share:.1%}", "")
    whole = (
        f"{found.runtime} {found.version}: an inference takes {ms_text(found.latency_ms)} with "
        f"{found.threads} thread{'s' * (found.threads > 1)}; its operators, profiled, "
        f"{ms_text(sum(o.us for o in found.operators) / 1000)}"
    )
    return Group(rows, Text(), _plain(whole), *map(_found, found.findings))


def _short(name: str) -> str:
    """The end of a long name: converters put whole paths of modules into one."""
    return name if len(name) <= NAME else f"…{name[1 - NAME :]}"


def _found(row: Finding) -> RenderableType:
    """One finding: what it costs, what it is, where, what to change."""
    more = len(row.layers) - 3
    where = ", ".join(map(_short, row.layers[:3])) + (f" and {more} more" if more > 0 else "")
    lines = [f"{row.share:.0%} of the time: {row.what}", f"  change: {row.change}"]
    if where:
        lines.insert(1, f"  at: {where}")
    return Group(Text(), _plain("\n".join(lines)))


def sensitivity(found: Curves) -> RenderableType:
    """What each group's pruning costs, one column an amount."""
    amounts = sorted({row.amount for row in found.rows})
    rows = _table("group", *(f"{100 * a:.3g} %>" for a in amounts))
    groups: dict[str, list[str]] = {}
    for row in found.rows:
        groups.setdefault(row.group, []).append(loss_text(found, row))
    for group, losses in groups.items():
        rows.add_row(_plain(group), *losses)
    what = (
        f"{found.metric} lost of {percent_text(found.value)}, in points"
        if found.metric in PROPORTIONS and found.value is not None
        else "mean square of what the outputs move by, over their variance"
    )
    return Group(
        rows, Text(), Text(f"{what}; {found.n} samples, units chosen by {found.criterion}")
    )


def agreement_text(found: Agreement) -> str:
    """One sentence."""
    return (
        f"agrees with the model on {percent_text(found.top1)} of {found.n} samples "
        f"{SOURCES[found.source]} (largest output); differs by {found.mean_steps:.2g} steps on "
        f"average, {found.max_steps:.2g} at most"
    )


def _climbed(rungs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The remedies that were tried, and what was lost with each."""
    rows = _table("remedy", "points lost>", "")
    for rung in rungs:
        verdict = "kept" if rung["kept"] else "left out again"
        rows.add_row(_plain(rung["name"]), f"{rung['drop']:.2f}", verdict)
    return rows


def skipped(layers: Mapping[str, str]) -> RenderableType:
    """Layers that a step left alone, with the reason."""
    rows = _table("left alone", "because")
    for layer, reason in layers.items():
        rows.add_row(_plain(layer), _plain(reason))
    return rows


def _table(*columns: str) -> Table:
    """Columns whose name ends in ``>`` hold numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        side = "right" if column.endswith(">") else "left"
        table.add_column(_plain(column.removesuffix(">")), justify=side, overflow="fold")
    return table


def _plain(text: str) -> Text:
    """Without characters that a terminal would act on: names come from files of others."""
    return Text("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text))
