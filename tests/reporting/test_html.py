"""The page: whole, closed to the outside, and harmless whatever the names are."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings

from edgewise.record import Event
from edgewise.reporting.charts import charts
from edgewise.reporting.columns import CONDITIONS, FIGURES
from edgewise.reporting.findings import findings
from edgewise.reporting.html import page
from edgewise.reporting.report import Report, Row

from .reports import REPORTS, demo_like

VOID = {"meta", "br", "rect", "line", "polyline"}  # the last three end themselves
TAGS = VOID | {
    *("html", "head", "title", "style", "body", "header", "section", "div", "footer", "svg"),
    *("h1", "h2", "h3", "p", "ul", "li", "span", "small", "dl", "dt", "dd", "pre", "code"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


class Page(HTMLParser):
    """Tags, attributes and text of a page; refuses tags that do not close in turn."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.open, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_every_figure_is_there():
    report = demo_like()
    text = squeezed(Page(page(report)).text)
    for row in report.rows:
        for column in (*FIGURES, *CONDITIONS):
            assert column.text(row) is None or column.text(row) in text
        assert row.origin.sha256 in text
        for event in row.origin.lineage:
            assert event.step in text
            assert all(squeezed(s) in text for s in event.skipped.values())
    for sentence in (*findings(report), *report.notes, *report.commands, report.title):
        assert squeezed(sentence) in text
    for fact in ("Cortex-A72", "4.00 GB", "asimd", "1.2.3", "2026-11-22"):
        assert fact in text


def test_nothing_is_loaded_from_anywhere():
    text = page(demo_like())
    found = Page(text)
    assert set(found.tags) <= TAGS
    names = {name for name, _ in found.attributes}
    assert not names & {"src", "href", "srcset", "action", "data", "poster", "background"}
    assert not [name for name in names if name.startswith("on")]
    assert "://" not in text
    assert "@import" not in text
    assert "url(" not in text
    policy = dict(found.attributes)
    assert "default-src 'none'" in "".join(v or "" for _, v in found.attributes)
    assert policy["lang"] == "en"


EVIL = "\"'><script>alert(1)</script><img src=x onerror=y>{{ 7 * 7 }}{% raw %}</style>&amp;"


def hostile(report: Report) -> Report:
    """The same with evil in every name and sentence."""
    rows = tuple(
        Row(
            replace(
                row.measurement,
                subject=EVIL.replace("/", "|"),
                runtime=EVIL,
                metric=EVIL,
                machine={EVIL: EVIL, "board": EVIL},
                versions={EVIL: EVIL},
            ),
            replace(
                row.origin,
                precision=EVIL,
                sha256=EVIL,
                lineage=(Event(EVIL, {EVIL: EVIL}, {EVIL: EVIL}),),
            ),
            row.difference and replace(row.difference, to=EVIL),
        )
        for row in report.rows
    )
    return Report(EVIL, EVIL, rows, EVIL, (EVIL,), (EVIL,))


def test_hostile_names_are_text():
    found = Page(page(hostile(demo_like())))
    assert set(found.tags) <= TAGS
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in found.text
    assert "49" not in re.sub(r"\d*\.\d+", "", found.text)
    assert found.text.count("<script>") >= 20


@given(REPORTS)
@settings(max_examples=60)
def test_any_report_makes_a_page(report):
    found = Page(page(report))
    assert set(found.tags) <= TAGS
    for chart in charts(report):
        for mark in chart.marks:
            ends = (mark.at, mark.low, mark.high)
            assert all(-0.01 <= end <= 100.01 for end in ends if end is not None)


def test_bars_are_to_scale():
    report = demo_like()
    latency, metric, size = charts(report)
    for chart, values in (
        (latency, [r.measurement.latency_ms.p50 for r in report.rows]),
        (size, [r.measurement.size_bytes for r in report.rows]),
    ):
        assert chart.bars
        for mark, value in zip(chart.marks, values, strict=True):
            assert mark.at / chart.marks[0].at == pytest.approx(value / values[0], rel=2e-3)
    assert not metric.bars  # its axis does not begin at zero, so nothing may look like a bar
    for mark in metric.marks:
        assert mark.low < mark.at < mark.high


@pytest.mark.slow
def test_a_browser_shows_it(tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        pytest.skip("chromium is not on PATH")
    file = tmp_path / "report.html"
    report = demo_like()
    file.write_text(page(report))
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions",
            "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000",
            "--window-size=390,2000", f"--screenshot={tmp_path / 'page.png'}", "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "page.png").stat().st_size > 20_000
    assert done.stdout.count("<svg") == sum(len(chart.marks) for chart in charts(report))
    assert "Refused" not in done.stderr  # by the page's own policy
