"""apply: a recipe from a file."""

from __future__ import annotations

import pytest

import edgewise as ew


def test_a_recipe_is_carried_out(folder, run):
    (folder / "recipe.yaml").write_text(
        "steps:\n"
        "  - prune: {amount: 0.5}\n"
        "  - distill: {alpha: 1.0, training: {epochs: 1, batch: 8}}\n"
        "  - quantize: {samples: 16}\n"
    )
    done = run(
        "apply", "recipe.yaml", "float.pt2", "--data", "floats.npz", "-o", "out.pt2", "--json"
    )
    assert done.code == 0, done.err
    assert done.json["plan"]["params"] == {"samples": 16}
    steps = [event.step for event in ew.load(folder / "out.pt2").lineage]
    assert steps[-3:] == ["prune", "distill", "quantize"]
    assert not (folder / "out.training").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps: [quantise]", "did you mean 'quantize'"),
        ("steps: [{prune: {amount: 2}}]", "[0, 1)"),
        ("steps: [quantize, quantize]", "quantized already"),
    ],
)
def test_a_bad_recipe_is_one_sentence(folder, run, text, said):
    (folder / "recipe.yaml").write_text(text)
    done = run("apply", "recipe.yaml", "float.pt2", "--data", "floats.npz", "-o", "out.pt2")
    assert done.code == 2
    assert said in done.err and done.err.count("error: ") == 1
    assert not (folder / "out.pt2").exists()
