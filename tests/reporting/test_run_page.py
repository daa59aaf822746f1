"""The page of a fit: whole, closed to the outside, harmless, and usable in a real browser."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings

import edgewise as ew
from edgewise.record import encode
from edgewise.reporting.effects import recalls
from edgewise.reporting.fronts import fronts
from edgewise.reporting.html import fragment, page
from edgewise.reporting.runs import changes, evidence, measured, not_run
from edgewise.reporting.terminal import console
from edgewise.reporting.terminal import run as shown
from edgewise.reporting.trials import ablation, front, recipe_text, trials
from edgewise.reporting.verdicts import headline, obstacles, verdicts
from edgewise.run import FILE, Trial

from .browser import browser
from .runs import BEST, fit_like, hostile, missed, poor, runs, unlabelled
from .test_html import EVIL, TAGS, VOID, Page, squeezed

VOID |= {"path", "circle"}  # which end themselves
RUN_TAGS = TAGS | VOID | {
    *("script", "a", "nav", "aside", "figure", "figcaption", "strong", "b", "g", "text", "footer"),
    *("details", "summary"),
}  # fmt: skip
EVERY = {
    "fit": fit_like(), "missed": missed(), "unlabelled": unlabelled(), "poor": poor(),
    "no proof": fit_like(proof=None),
}  # fmt: skip


@pytest.mark.parametrize("run", EVERY.values(), ids=EVERY)
def test_every_figure_is_there(run):
    text = squeezed(Page(page(run)).text)
    for grid in (front(run), trials(run), ablation(run)):
        for row in grid.rows:
            for column in grid.columns:
                assert column.text(row) is None or column.text(row) in text
    for row in verdicts(run):
        assert row.name in text and row.bound in text and row.found in text and row.verdict in text
    for name, *found in measured(run):
        assert name in text and all(value in text for value in found)
    for change in changes(run):
        assert change.what in text and change.from_to in text
    sentences = (headline(run), *obstacles(run), *evidence(run), *not_run(run), *run.notes)
    for sentence in (*sentences, *run.commands, run.stopped, run.objective, run.created):
        assert squeezed(sentence) in text
    for trial in run.trials:
        assert squeezed(recipe_text(trial)) in text
    for fact in ("Cortex-A72", "4.00 GB", "1.31.0", "40,000", "10,000"):
        assert fact in text


def test_layers_classes_and_operators_are_there():
    run = fit_like()
    found = Page(page(run))
    text = squeezed(found.text)
    for fact in ("16×16×3×3 → 12×12×3×3", "→ gone", "320 → 90", "MlasConv", "lower the file with"):
        assert fact in text
    for row in recalls(run.proof.classes):
        assert f"{100 * row.before:.2f} % → {100 * row.after:.2f} %" in text
    for counts in (run.proof.classes.before, run.proof.classes.after):
        assert all(str(count) in text for row in counts for count in row)
    drawn = sum(len(plot.points) for plot in fronts(run))
    assert sum(name == "data-trial" for name, _ in found.attributes) == drawn


@pytest.mark.parametrize("run", EVERY.values(), ids=EVERY)
def test_nothing_is_loaded_from_anywhere(run):
    text = page(run)
    found = Page(text)
    assert set(found.tags) <= RUN_TAGS
    names = {name for name, _ in found.attributes}
    assert not names & {"src", "srcset", "action", "data", "poster", "background"}
    assert not [name for name in names if name.startswith("on")]
    links = {value for name, value in found.attributes if name == "href"}
    anchors = {value for name, value in found.attributes if name == "id"}
    assert {link[0] for link in links} == {"#"} and {link[1:] for link in links} <= anchors
    assert "://" not in text and "@import" not in text and "url(" not in text


def test_only_our_script_may_run():
    text = page(fit_like())
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(v for _, v in Page(text).attributes if v and "default-src" in v)
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert "unsafe-eval" not in policy and "innerHTML" not in script and "fetch" not in script


@pytest.mark.parametrize("made", [page, fragment])
def test_hostile_names_are_text(made):
    found = Page(made(hostile(EVIL)))
    assert set(found.tags) <= RUN_TAGS
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert found.tags.count("script") == (made is page)
    assert "{{ 7 * 7 }}" in found.text and found.text.count("<script>") >= 10


@given(runs())
@settings(max_examples=25)
def test_any_run_is_shown(run):
    for made in (page, fragment):
        assert set(Page(made(run)).tags) <= RUN_TAGS
    assert headline(run) in Page(page(run)).text
    for plot in fronts(run):
        for point in plot.points:
            assert 0 <= point.x <= 100 and 0 <= point.y <= 100
    terminal = console()
    with terminal.capture() as text:
        terminal.print(shown(run))
    assert not [c for c in text.get() if not c.isprintable() and c != "\n"]


def test_a_notebook_shows_verdict_fronts_and_table():
    run = fit_like()
    text = fragment(run)
    found = Page(text)
    assert found.tags[0] == "div" and "script" not in found.tags and "html" not in found.tags
    assert "href" not in {name for name, _ in found.attributes}
    assert headline(run) in found.text and text.count('class="area"') == 2
    for row in front(run).rows:
        assert all(c.text(row) is None or c.text(row) in found.text for c in front(run).columns)
    assert headline(poor()) in fragment(poor())


def test_a_folder_of_a_fit_is_a_report(tmp_path):
    (tmp_path / FILE).write_bytes(encode(fit_like()))
    for source in (tmp_path, tmp_path / FILE, fit_like()):
        assert ew.report(source, tmp_path / "page.html") == fit_like()
        assert "Every budget holds." in (tmp_path / "page.html").read_text()
    assert ew.report(tmp_path, tmp_path / "page.html", title="My net").model == "My net"
    assert "My net" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_a_browser_shows_it(tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page(fit_like()))
    bad = tmp_path / "hostile.html"
    bad.write_text(page(hostile(EVIL)))
    with browser(tmp_path) as tab:
        for width in (360, 1200):
            tab.width(width)
            for path in (bad, file):
                tab.open(path)
                assert tab.ask("document.documentElement.scrollWidth") <= width
        other = next(p for p in fronts(fit_like())[1].points if p.number == 18)
        _at(tab, "move", other)
        assert tab.ask("document.querySelector('.tip').textContent") == other.text
        assert tab.ask("document.querySelectorAll('.point.lit').length") == 3  # one a plot
        shown = "document.getElementById('point').innerText"
        assert f"Trial {BEST} (chosen)" in tab.ask(shown)
        _at(tab, "click", other)
        told = squeezed(tab.ask(shown))
        assert "Trial 18 (front)" in told and squeezed(recipe_text(fit_like().trial(18))) in told
        assert "148 kB" in told and tab.ask("location.hash") == ""
        tab.ask("document.querySelector('a.point[data-trial=\"20\"]').focus()")
        assert tab.ask("document.querySelector('.tip').textContent").startswith("trial 20")
        tab.key("Enter", 13, "\r")
        assert "Trial 20" in tab.ask(shown)
        parts = "[...document.querySelectorAll('.script, nav')].map(p => p.checkVisibility())"
        assert all(tab.ask(parts))
        tab.media("print")
        assert not any(tab.ask(parts))
        assert tab.ask("document.querySelector('.plot').checkVisibility()")
        tab.media(scheme="dark")
        dark = tab.ask("getComputedStyle(document.body).backgroundColor")
        tab.media()
        assert dark != tab.ask("getComputedStyle(document.body).backgroundColor")
        assert tab.complaints == []
        assert {address.partition(":")[0] for address in tab.asked} == {"file"}


def _at(tab, what, point):
    """Do it at a point of the second plot."""
    tab.ask("document.querySelectorAll('.area')[1].scrollIntoView({block: 'center'})")
    left, top, width, height = tab.ask(
        "(({left, top, width, height}) => [left, top, width, height])"
        "(document.querySelectorAll('.area > svg')[1].getBoundingClientRect())"
    )
    getattr(tab, what)(left + width * point.x / 100 + 1, top + height * point.y / 100 + 1)


def test_many_trials_are_folded_away():
    run = fit_like()
    many = replace(run, trials=(*run.trials, *(Trial(i, "x", "litert") for i in range(26, 60))))
    assert "<details open>" in page(run) and "<details open>" not in page(many)


@pytest.mark.slow
def test_without_scripts_a_point_leads_to_its_row(tmp_path):
    file = tmp_path / "report.html"
    many = (*fit_like().trials, *(Trial(i, "x", "litert") for i in range(26, 60)))
    file.write_text(page(fit_like(trials=many)))
    with browser(tmp_path) as tab:
        tab.tell("Emulation.setScriptExecutionDisabled", value=True)
        tab.width(1200)
        tab.open(file)
        assert tab.ask("document.getElementById('point').hidden")
        _at(tab, "click", fronts(fit_like())[1].points[-1])
        assert tab.ask("location.hash") == f"#trial-{BEST}"
        assert tab.ask(f"document.querySelector('#trial-{BEST}').checkVisibility()")
        assert tab.ask(f"document.querySelector('#trial-{BEST} pre').textContent") == (
            recipe_text(fit_like().trial(BEST))
        )
