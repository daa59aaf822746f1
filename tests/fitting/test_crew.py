"""Who carries out tasks: a worker that dies loses nothing but the time."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgewise as ew
from edgewise.errors import InputError, StepError
from edgewise.fitting.cache import Cache
from edgewise.fitting.crew import Here, crew_of
from edgewise.fitting.making import Maker, Task
from edgewise.fitting.quiet import Quiet
from edgewise.fitting.roles import assign
from edgewise.step import Recipe

from .deadly import Dies

pytest.importorskip("onnxruntime")


@pytest.fixture
def maker(net, stripes, tmp_path) -> Maker:
    roles = assign(ew.load_data(stripes, net.signature), 0)
    return Maker(net, roles, "accuracy", Cache.at(tmp_path / "cache"), Quiet(tmp_path))


def test_a_task_that_fails_says_why(maker):
    twice = Recipe((ew.Quantize(), ew.Quantize()))
    future = Here(maker).submit(Task(twice, "onnxruntime"))
    with pytest.raises(StepError, match="quantized already"):
        future.result()


@pytest.mark.slow
def test_a_worker_that_dies_loses_only_its_task_which_is_tried_again(maker, tmp_path):
    crew = crew_of(maker, 2, None, "accuracy", tmp_path)
    try:
        recipes = [Recipe((Dies(str(tmp_path / "mark")),)), Recipe((ew.Quantize(),))]
        dead, well = (crew.submit(Task(r, "onnxruntime")) for r in recipes)
        assert well.result(120).figures.value == dead.result(120).figures.value
        assert (tmp_path / "mark").exists()
        with pytest.raises(StepError, match="quantized already"):
            crew.submit(Task(Recipe((ew.Quantize(), ew.Quantize())), "onnxruntime")).result(60)
    finally:
        crew.close()


@pytest.mark.slow
def test_a_ray_cluster_carries_out_the_same(maker, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    root = str(Path(__file__).parents[2])
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
        runtime_env={"env_vars": {"PYTHONPATH": f"{root}/src:{root}"}},
    )  # fmt: skip
    crew = crew_of(maker, 2, "auto", "accuracy", tmp_path)
    try:
        recipe = Recipe((Dies(str(tmp_path / "mark")),))
        made = crew.submit(Task(recipe, "onnxruntime")).result(120)
        here = Here(maker).submit(Task(Recipe((ew.Quantize(),)), "onnxruntime")).result()
        assert made.figures.value == here.figures.value
        assert made.artifact.path.read_bytes() == here.artifact.path.read_bytes()
    finally:
        crew.close()


def test_data_that_cannot_be_sent_are_refused(net, stripes, tmp_path):
    roles = assign(ew.load_data(stripes, net.signature), 0)
    maker = Maker(net, roles, "accuracy", Cache.at(tmp_path), Quiet(tmp_path))

    def metric(outputs, targets):
        return 0.0

    with pytest.raises(InputError, match="cannot be sent to another process"):
        crew_of(maker, 2, None, metric, tmp_path)
