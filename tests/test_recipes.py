"""Recipes as YAML."""

import subprocess
import sys

import numpy as np
import pytest

import edgewise as ew
from edgewise.errors import InputError
from edgewise.lowering.capabilities import capabilities
from edgewise.recipes import STEPS, read_recipe, write_recipe
from edgewise.step import Recipe, Step
from edgewise.train import Hint, Optimizer, Training

from .train.conftest import digits, network  # noqa: F401 - a fixture

RECIPES = (
    (ew.Prune(0.5, of="macs", reconstruct=True), ew.Quantize(ranges="auto")),
    (ew.Prune({"0": 0.25}), ew.Distill(alpha=1.0, hints="attention")),
    (
        ew.Distill(
            hints=(Hint("fitnets", 2.0, "a", "b"),),
            training=Training(2.5, optimizer=Optimizer("adamw", 1e-3), augment=("crop", "flip")),
        ),
    ),
    (ew.Quantize(weight_bits={"*": 4, "head": 8}, keep_float=("a", "b*")), ew.RoundWeights()),
    (ew.Quantize("int4-weights", target=capabilities("onnxruntime"), group=32),),
)


@pytest.mark.parametrize("steps", RECIPES, ids=lambda steps: type(steps[-1]).__name__)
def test_what_was_written_is_read_back(steps, tmp_path):
    path = write_recipe(Recipe(steps), tmp_path / "recipe.yaml")
    assert read_recipe(path) == Recipe(steps)


def test_every_step_has_a_name_and_is_found(tmp_path):
    path = tmp_path / "recipe.yaml"
    for name in STEPS:
        path.write_text(f"steps: [{name}]")
        (step,) = read_recipe(path).steps
        assert isinstance(step, Step) and type(step).__name__.lower() == name
    public = [getattr(ew, name) for name in ew.__all__]
    steps = {s.__name__.lower() for s in public if isinstance(s, type) and issubclass(s, Step)}
    assert steps == set(STEPS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps: [", "cannot be read as a recipe"),
        ("steps: []", "at least one step"),
        ("stages: [quantize]", "one key 'steps'"),
        ("steps: [quantise]", "did you mean 'quantize'"),
        ("steps: [{prune: {amont: 0.3}}]", r"step 1 \(prune\) has no field 'amont', did you mean"),
        ("steps: [{prune: {amount: 1.5}}]", r"\(prune\): amount is a share in \[0, 1\)"),
        ("steps: [{prune: {amount: lots}}]", r"\(prune\): amount: Expected"),
        ("steps: [{prune: {criterion: [1]}}]", "criterion: Expected"),
        ("steps: [{distill: {training: {epochs: -1}}}]", "training: epochs must be above 0"),
        ("steps: [{distill: {training: 7}}]", "training"),
        ("steps: [{distill: {session: {folder: /}}}]", "no field 'session'"),
        ("steps: [{distill: {teacher: net.pt2}}]", "teacher"),
        ("steps: [&a quantize, *a]", "aliases"),
        ("steps: [!!python/object/apply:os.system [exit]]", "cannot be read as a recipe"),
        ("steps: [{quantize: {target: abacus}}]", "abacus"),
        ("\x00", "cannot be read as a recipe"),
    ],
)
def test_a_recipe_that_is_none_is_one_sentence(text, says, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_recipe(path)


def test_functions_cannot_be_written(tmp_path):
    recipe = Recipe((ew.Prune(criterion=lambda evidence: evidence),))
    with pytest.raises(InputError, match="cannot hold"):
        write_recipe(recipe, tmp_path / "recipe.yaml")


def test_a_recipe_teaches_by_the_model_that_it_was_given(digits, tmp_path):  # noqa: F811
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "steps:\n"
        "  - prune: {amount: 0.5}\n"
        "  - distill: {alpha: 1.0, training: {epochs: 1, batch: 64}}\n"
        "  - quantize\n"
    )
    model = network(8)
    done = read_recipe(path)(model, digits)
    assert [event.step for event in done.lineage[1:]] == ["prune", "distill", "quantize"]
    by_hand = ew.Quantize()(
        ew.Distill(model, alpha=1.0, training=Training(1, 64))(ew.Prune(0.5)(model), digits), digits
    )
    np.testing.assert_array_equal(done(digits[0][:20]), by_hand(digits[0][:20]))


def test_importing_the_package_reads_no_yaml():
    script = "import sys, edgewise; assert 'yaml' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
