"""What a fit found, in words and tables: the figures of the record, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgewise.goals import Budget, Figures
from edgewise.reporting.effects import confusions, layers, matrices, recalls
from edgewise.reporting.fronts import fronts
from edgewise.reporting.runs import changes, evidence, measured, not_run
from edgewise.reporting.terminal import console, run, standing
from edgewise.reporting.trials import ablation, front, recipe_text, trials
from edgewise.reporting.verdicts import headline, obstacles, verdicts
from edgewise.run import Classes, Run, Standing, Trial

from .runs import BEST, LAYERS, fit_like, hostile, missed, poor, unlabelled


def cells(grid) -> list[dict[str, str | None]]:
    return [{c.title: c.text(row) for c in grid.columns} for row in grid.rows]


def printed(view) -> str:
    terminal = console()
    with terminal.capture() as text:
        terminal.print(view)
    return text.get()


def test_verdicts_say_what_holds_and_by_how_much():
    drop, latency, size = verdicts(fit_like())
    assert (drop.found, drop.holds) == ("0.37 (0.09 to 0.65)", True)
    assert drop.verdict == "holds; its 95 % interval reaches 0.65"
    assert latency.bound == "at most 1.00 ms at p50" and latency.found == "702 µs"
    assert size.share == pytest.approx(161_204 / 200_000) and size.verdict == "holds"
    wide = verdicts(fit_like(budget=Budget(max_drop=1.0, min_value=0.9)))
    assert wide[0].verdict == "holds, and so does its whole 95 % interval"
    assert wide[1].bound == "at least 90.00 %" and wide[1].found == "91.36 %"
    run = fit_like(budget=Budget(max_memory=1e6))
    unmeasured = run.budget.verdicts(Figures())
    run = replace(run, proof=replace(run.proof, verdicts=unmeasured))
    assert verdicts(run)[0].verdict == verdicts(run)[0].found == "not measured"
    assert verdicts(poor()) == () == obstacles(poor())


def test_what_stands_in_the_way_is_named():
    assert headline(fit_like()) == "Every budget holds."
    assert headline(fit_like(budget=Budget(max_drop=1.0))) == "The budget holds."
    assert headline(missed()).startswith("max-drop and max-latency stand in the way")
    assert verdicts(missed())[1].verdict == "missed by 202 µs (40 %)"
    nearest, near, none = obstacles(missed())
    assert nearest.startswith(f"The nearest is trial {BEST}")
    assert "holds max-drop and misses max-latency by" in near
    assert none == "No trial holds max-latency (at most 500 µs at p50)."
    assert obstacles(fit_like()) == ()
    assert headline(fit_like(best=None, proof=None)) == "Nothing could be run."
    assert headline(fit_like(budget=Budget())).startswith("No budget was set")
    assert "nothing is proven" in headline(fit_like(proof=None))
    # The samples that prove may say otherwise than those that chose.
    run = fit_like(budget=Budget(max_drop=0.35))
    assert "held every budget on the samples that chose" in obstacles(run)[1]


def test_what_was_won_is_of_the_samples_that_prove():
    speed, file, download, lost = changes(fit_like())
    assert (speed.what, speed.from_to) == ("3.44× faster", "2.41 ms → 702 µs")
    assert (file.what, file.from_to) == ("6.81× smaller", "1.10 MB → 161 kB")
    assert (download.what, lost.what) == ("7.29× smaller", "0.37 points lost")
    assert lost.from_to == "91.73 % → 91.36 %"
    assert changes(unlabelled())[3].of == "expected accuracy"
    slow = fit_like()
    slow = replace(
        slow, proof=replace(slow.proof, figures=Figures(ratio=2.0, size_bytes=2_196_422))
    )
    assert [c.what for c in changes(slow)] == ["2.00× slower", "2.00× larger"]


def test_how_the_loss_is_known():
    text = " ".join(evidence(fit_like()))
    for fact in (
        "2,000 samples",
        "10,000 others",
        "0.37",
        "between 0.09 and 0.65",
        "0.29× (0.28 to 0.30)",
    ):
        assert fact in text
    rows = {name: (before, after) for name, before, after in measured(fit_like())}
    assert rows["p50"] == ("2.41 ms", "702 µs") and rows["file"] == ("given.onnx", "best.onnx")
    assert rows["accuracy"][1] == "91.36 % (90.8 to 91.9)"
    assert measured(fit_like(proof=None)) == ()
    assert "No targets" in evidence(unlabelled())[0]
    assert "Nothing was proven" in evidence(fit_like(proof=None))[0]
    assert evidence(poor()) == ()


def test_where_the_time_goes_is_missed_with_a_reason():
    run = fit_like()
    silent = replace(run.proof, explained=(), unexplained="ExecuTorch has no profiler")
    assert "time by operator: ExecuTorch has no profiler" in not_run(replace(run, proof=silent))
    assert not any("operator" in sentence for sentence in not_run(run))


def test_the_front_goes_from_fast_to_slow():
    run = fit_like()
    rows = front(run).rows
    assert [t.figures.ratio for t in rows] == sorted(t.figures.ratio for t in rows)
    assert {t.number for t in rows} == {*run.front, *run.runners_up, BEST, 0}
    found = {row["trial"]: row for row in cells(front(run))}
    assert found[str(BEST)][""] == "chosen" and found["0"][""] == "given"
    assert found["0"]["misses"] == "max-latency, max-size"
    every = cells(trials(run))
    assert len(every) == len(run.trials) == 26
    assert every[6]["latency"] is None and every[BEST]["file"] == f"trials/{BEST}.onnx"
    assert {row["expected accuracy"] for row in cells(trials(unlabelled()))} > {"91.73 %"}


def test_each_step_is_compared_with_the_chosen_recipe():
    run = fit_like()
    chosen, without, *_ = rows = cells(ablation(run))
    assert chosen[""] == "as chosen" and chosen["× latency"] is None
    assert without[""] == "without prune" and len(rows) == 5
    ours, best = run.trial(21).figures, run.trial(BEST).figures
    assert without["× latency"] == f"{ours.ratio / best.ratio:.2f}×"
    assert without["more lost"] == f"{ours.drop - best.drop:.2f}".replace("-", "−")
    told = not_run(run)
    assert told[0] == "trained from scratch: the time limit of 1,800 s was reached"
    assert any("trial 6: RuntimeFailure" in row for row in told)
    assert ablation(poor()).rows == ()


def test_layers_before_and_after():
    rows = cells(layers(fit_like()))
    assert [row["layer"] for row in rows] == list(LAYERS)
    assert rows[2]["weight"].endswith("→ gone") and rows[2]["µs"] == "107 → –"
    assert rows[0]["sensitivity"] == f"{100 * (0.9173 - 0.91 + 0.75 / 2):.2f}"
    assert rows[4]["sensitivity"] is None and rows[4]["µs"] is None
    assert layers(fit_like()).rows[0].bars == (100, 28.12)
    assert layers(fit_like(proof=None)).rows == ()


def test_the_worst_hit_class_comes_first():
    classes = Classes(
        ("a", "b", "none"), ((8, 2, 0), (0, 10, 0), (0, 0, 0)), ((8, 2, 0), (3, 7, 0), (0, 0, 0))
    )
    worst, other = recalls(classes)
    assert (worst.label, worst.before, worst.after, worst.n) == ("b", 1.0, 0.7, 10)
    assert worst.lost == pytest.approx(30) and other.lost == 0
    (grown,) = confusions(classes)
    assert (grown.true, grown.taken_for, grown.before, grown.after) == ("b", "a", 0, 3)
    before, after = matrices(classes)
    assert before.rows[0][0] == (8, 0.8) and after.rows[1][1] == (7, 0.7)
    many = tuple(map(str, range(30)))
    none = ((0,) * 30,) * 30
    assert matrices(Classes(many, none, none)) == () == recalls(Classes(many, none, none))


def test_points_lie_where_their_figures_are():
    run = fit_like()
    latency, size, download = fronts(run)
    assert download.limit_x is None and latency.limit_x and size.limit_x
    ran = [t for t in run.trials if t.figures]
    for plot in (latency, size, download):
        assert len(plot.points) == len(ran)
        assert all(0 <= p.x <= 100 and 0 <= p.y <= 100 for p in plot.points)
        assert {p.number for p in plot.points if p.beyond} == {19, 22, 24}
        assert plot.points[-1].role == "chosen" and "3 trials lose more" in plot.note
        assert 2 <= len(plot.ticks_x) <= 6 and 3 <= len(plot.ticks_y) <= 9
        ys = [y for _, y in plot.stairs]
        assert ys == sorted(ys, reverse=True)
    place = {p.number: p for p in latency.points}
    order = sorted(ran, key=lambda t: t.figures.ratio)
    assert [place[t.number].x for t in order] == sorted(p.x for p in latency.points)
    # The budget of 1 ms is 0.415 of the given model's 2.41 ms.
    inside = {t.number for t in ran if t.figures.ratio <= 1 / 2.41}
    assert inside == {p.number for p in latency.points if p.x <= latency.limit_x}


def test_latency_itself_is_drawn_where_no_ratio_was_taken():
    run = fit_like()
    bare = replace(run, trials=tuple(
        replace(t, figures=t.figures and replace(t.figures, ratio=None)) for t in run.trials
    ))  # fmt: skip
    latency = fronts(bare)[0]
    assert latency.across == "latency" and latency.ticks_x[0].text.endswith("µs")
    assert fronts(fit_like(trials=run.trials[:1], **NONE)) == ()


NONE = {"best": None, "front": (), "runners_up": (), "arms": (), "proof": None}


def test_a_recipe_is_what_apply_reads(tmp_path):
    from edgewise.recipes import read_recipe

    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_text(fit_like().trial(BEST)))
    assert [type(s).__name__ for s in read_recipe(file).steps] == ["Prune", "Distill", "Quantize"]
    assert recipe_text(Trial(0, "float", "litert")).startswith("#")


@pytest.mark.parametrize("found", [fit_like(), missed(), unlabelled(), poor(), hostile("\x1b[2J")])
@pytest.mark.parametrize("width", [80, 160])
def test_any_run_is_printed(found: Run, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    text = printed(run(found, "run/report.html"))
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert max(map(len, text.splitlines())) <= width
    assert "run/report.html" in text and "of 26 trials ran" in " ".join(text.split())


def test_the_terminal_shows_the_verdict_first():
    lines = printed(run(fit_like())).splitlines()
    assert lines[0].rstrip() == "Every budget holds."
    assert sum("✓" in line for line in lines) == 3 and "✗" not in "".join(lines)
    assert printed(run(missed())).count("✗") == 2


@pytest.mark.parametrize("width", [80, 160])
def test_the_front_fits_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    text = printed(run(fit_like()))
    assert all(fact in text for fact in ("chosen: trial 17", "680 µs", "156 kB", "max-size"))
    assert ("download 7.29× smaller" in " ".join(text.split())) and "2.41 ms → 702 µs" in text
    assert ("91.43 %" in text) == (width == 160)


def test_where_a_search_stands():
    bare = printed(standing(Standing("float")))
    assert "float" in bare and "0 trials" in bare
    text = printed(
        standing(
            Standing(
                "recovery", 17, 2, missed().proof.verdicts, "prune on litert", 310, 1800,
                ("trial 19: epoch 3 of 5", "trial 20: [b]lowering"),
            )
        )
    )  # fmt: skip
    for fact in (
        "recovery", "17 trials", "2 failed", "5 min 10 s of 30 min 00 s", "missed by 202 µs",
        "prune on litert", "epoch 3 of 5", "[b]lowering",
    ):  # fmt: skip
        assert fact in text
