"""The command that applies a recipe."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .app import Answer, command, working
from .options import DataOptions, ModelOptions, PixelOptions, output_file

__all__ = ["apply"]


@command
def apply(
    recipe: Annotated[Path, Argument(metavar="RECIPE.yaml", help="Steps with their fields.")],
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    output: Annotated[
        Path, Option("--output", "-o", metavar="OUT.pt2", help="Where the result goes.")
    ],
) -> Answer:
    """Carry out the steps of a recipe.

    Stopped while it trains, the same command goes on; its steps of compression are done again.
    """
    from ..recipes import read_recipe
    from ..reporting import terminal
    from ..reporting.written import Written
    from ..step import Recipe
    from ..train import Session

    steps = read_recipe(recipe).steps
    output_file(output, model.model, recipe)
    whole = model.open(pixels)
    given = data.open(whole.signature, pixels)
    folder = output.with_suffix(".training")
    steps = tuple(
        replace(step, session=Session(folder / str(i))) if hasattr(step, "session") else step
        for i, step in enumerate(steps, 1)
    )
    with working("applying the recipe"):
        done = Recipe(steps)(whole, given)
    done.save(output)
    shutil.rmtree(folder, ignore_errors=True)
    made = Written.model(output, done.lineage)
    return Answer(made, lambda: terminal.written(made))
