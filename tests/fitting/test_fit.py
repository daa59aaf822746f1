"""A budget in, the artifact that holds it out."""

from __future__ import annotations

import numpy as np
import pytest

import edgewise as ew
from edgewise.edge.energy import Packages
from edgewise.errors import InputError
from edgewise.loading import load
from edgewise.recipes import read_recipe
from edgewise.run import read_run

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return tmp_path_factory.mktemp("fit")


@pytest.fixture(scope="module")
def found(net, stripes, where):
    return ew.fit(
        net, stripes, budget=ew.Budget(max_drop=2.0, max_size="9kB"), objective="smallest",
        runtime="onnxruntime", folder=where / "run", cache=where / "cache", trials=6, time=None,
    )  # fmt: skip


def test_what_it_says_is_true_of_the_file(found, net, stripes):
    run, best = found.record, found.best
    proof = {v.limit.name: v for v in run.proof.verdicts}
    assert found.holds and proof["max-size"].holds
    assert proof["max-size"].value == found.artifact.size_bytes == best.figures.size_bytes <= 9000
    assert run.samples.selection + run.samples.test == len(stripes["evaluation"][1])
    x, y = stripes["evaluation"]
    right = (found.artifact.run(x).argmax(1) == y).mean()
    classes = np.array(run.proof.classes.after)
    assert classes.sum() == run.samples.test == run.proof.figures.n
    on_selection = best.figures.value * run.samples.selection
    assert on_selection + np.trace(classes) == pytest.approx(right * len(y))


def test_the_recipe_replays_to_the_same_bytes(found, net, stripes, where, tmp_path):
    again = read_recipe(found.folder / "recipe.yaml")(net, stripes)
    artifact = ew.lower(again, "onnxruntime", tmp_path / "again.onnx")
    assert artifact.path.read_bytes() == found.artifact.path.read_bytes()


def test_the_same_call_finds_everything_done(found, net, stripes, where):
    seen = []
    again = ew.fit(
        net, stripes, budget=ew.Budget(max_drop=2.0, max_size="9kB"), objective="smallest",
        runtime="onnxruntime", folder=where / "run", cache=where / "cache", trials=6, time=None,
        watch=lambda standing: seen.append(standing.doing),
    )  # fmt: skip
    assert not any("prune" in what for doing in seen for what in doing if "proof" not in what)
    assert [t.number for t in again.record.trials] == [t.number for t in found.record.trials]
    assert again.best.steps == found.best.steps
    assert read_run(where / "run").best == again.record.best


def test_the_folder_holds_what_is_promised(found):
    names = {p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*") if p.is_file()}
    assert {"run.json", "report.html", "best.pt2", "recipe.yaml", "search.db"} <= names
    assert {f"trials/{t.number:04d}.json" for t in found.record.trials} <= names
    assert sum(name.startswith("runners-up/") and name.endswith(".onnx") for name in names) >= 1
    assert load(found.folder / "best.pt2").quantized
    assert "holds" in str(found) and "<" in found._repr_html_()


def test_a_file_that_came_quantized_is_made_float_first(net, stripes, where, tmp_path):
    given = ew.Quantize("int8-weights")(net)
    run = ew.fit(
        given, stripes, budget=ew.Budget(max_size="5kB"), runtime="onnxruntime", time=None,
        folder=where / "quantized", cache=where / "cache", trials=2, train=False,
    )  # fmt: skip
    again = read_recipe(run.folder / "recipe.yaml")(given, stripes)
    artifact = ew.lower(again, "onnxruntime", tmp_path / "again.onnx")
    assert artifact.path.read_bytes() == run.artifact.path.read_bytes()


def test_another_model_does_not_go_on_in_the_same_folder(found, net, stripes, where):
    with pytest.raises(InputError, match="a search with another model"):
        ew.fit(
            ew.Prune(0.5)(net), stripes, budget=ew.Budget(max_drop=1), runtime="onnxruntime",
            folder=where / "run", cache=where / "cache",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"time": "soon"}, "a time is above 0"),
        ({"runtime": "tensorrt"}, "unknown runtime 'tensorrt'"),
        ({"workers": 0}, "at least 1"),
        ({"objective": "nice"}, "unknown objective 'nice'"),
        ({"device": "emulated:cortex-a72"}, "where time means nothing"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_tried(net, stripes, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        ew.fit(net, stripes, budget=ew.Budget(max_drop=1), folder=tmp_path / "run", **options)
    assert not list((tmp_path / "run").glob("trials/*"))


@pytest.mark.skipif(bool(Packages().counters), reason="this machine counts energy")
def test_energy_that_nobody_counts_is_refused_before_the_search(net, stripes, tmp_path):
    with pytest.raises(InputError, match="energy is not counted here"):
        ew.fit(
            net, stripes, budget=ew.Budget(max_energy="5mJ"), runtime="onnxruntime",
            folder=tmp_path / "run", cache=tmp_path / "cache",
        )  # fmt: skip
