"""The command that fits."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ..errors import InputError
from .app import Answer, command
from .options import DataOptions, ModelOptions, PixelOptions

if TYPE_CHECKING:
    from ..fitting import Fitted
    from ..goals import Budget
    from ..run import Standing

__all__ = ["answer", "fit", "live"]


@dataclass(frozen=True)
class BudgetOptions:
    """What must hold."""

    max_drop: Annotated[
        float | None, Option(metavar="POINTS", help="Points of the metric, of 100, that may go.")
    ] = None
    min_value: Annotated[
        float | None, Option(metavar="V", help="The least value of the metric, as 0.91.")
    ] = None
    max_latency: Annotated[
        str | None, Option(metavar="TIME", help="Of one inference, as 2ms or '5ms p99'.")
    ] = None
    max_size: Annotated[str | None, Option(metavar="BYTES", help="Of the artifact, as 150kB.")] = (
        None
    )
    max_download: Annotated[
        str | None, Option(metavar="BYTES", help="Of the artifact in a bundle.")
    ] = None
    max_memory: Annotated[str | None, Option(metavar="BYTES", help="Peak, as 2MB.")] = None
    max_energy: Annotated[
        str | None, Option(metavar="ENERGY", help="Of one inference, as 5mJ, where it is counted.")
    ] = None
    max_macs: Annotated[
        str | None, Option(metavar="N", help="Multiply-accumulates of one sample, as 30M.")
    ] = None

    def budget(self) -> Budget:
        """As one value."""
        from ..goals import Budget

        found = Budget(**vars(self))
        if not found.limits:
            raise InputError(
                "there is nothing to hold: give at least one budget, as --max-drop 0.5"
            )
        return found


@command
def fit(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    budget: BudgetOptions,
    output: Annotated[
        Path,
        Option("--output", "-o", metavar="RUN", help="A folder for all that is found."),
    ],
    objective: Annotated[
        str,
        Option(help="fastest, smallest, accurate, balanced, or weights as latency=1,size=0.5."),
    ] = "fastest",
    runtime: Annotated[str, Option(metavar="R,R", help="auto, or those to choose from.")] = "auto",
    device: Annotated[
        str,
        Option(metavar="DEV", help="local, ssh://USER@HOST[:PORT][/PYTHON], emulated:cortex-a72."),
    ] = "local",
    time: Annotated[
        str, Option(metavar="TIME", help="The most it may take, as 90s, 30m, 2h; 'none'.")
    ] = "30m",
    trials: Annotated[
        int | None, Option(metavar="N", help="The most recipes that are tried.")
    ] = None,
    train: Annotated[
        bool, Option("--train/--no-train", help="Whether what was cut is trained again.")
    ] = True,
    workers: Annotated[int, Option(metavar="N", help="Trials that are made at a time.")] = 1,
    ray: Annotated[
        str | None, Option(metavar="ADDRESS", help="A Ray cluster for the workers; auto: here.")
    ] = None,
    threads: Annotated[
        int | None, Option(metavar="N", help="Of the runtime. Default: one a processor.")
    ] = None,
    metric: Annotated[
        str,
        Option(help="accuracy, top5, f1, mse, mae, auc, perplexity or package.module:callable."),
    ] = "accuracy",
    storage: Annotated[
        str | None,
        Option(metavar="URL", help="Keep the search there, as postgresql+psycopg://HOST/NAME."),
    ] = None,
    cache: Annotated[
        Path | None, Option(metavar="DIR", help="Of what was computed before. Default: the user's.")
    ] = None,
) -> Answer:
    """A budget in, the artifact that holds it out.

    Stopped at any moment, the same command goes on; Ctrl-C ends it with the best so far. The
    folder gets the artifact, the next best, report.html, recipe.yaml for `apply`, and every trial.
    Exit code 1: no recipe that was found holds every budget; says which stands in the way.
    """
    from .. import fit

    wanted = budget.budget()
    if data.data is None:
        raise InputError("there is nothing to judge by: give --data")
    whole = model.open(pixels)
    given = data.open(whole.signature, pixels)
    with live() as watch:
        run = fit(
            whole, given, budget=wanted, objective=objective,
            runtime="auto" if runtime == "auto" else runtime.split(","), device=device,
            folder=output, time=None if time == "none" else time, trials=trials, train=train,
            workers=workers, ray=ray, threads=threads, metric=metric, seed=data.seed,
            storage=storage, cache=cache, title=model.path.name,
            commands=(shlex.join(["edgewise", *sys.argv[1:]]),), watch=watch,
        )  # fmt: skip
    return answer(run)


def answer(run: Fitted) -> Answer:
    """The verdict for each budget, the chosen recipe, and the artifact's figures."""
    from ..reporting import terminal

    record, best = run.record, run.best
    data = {
        "holds": run.holds,
        "verdicts": [] if record.proof is None else record.proof.verdicts,
        "recipe": [] if best is None else best.steps,
        "artifact": None if best is None else os.fspath(run.folder / best.artifact),
        "measurement": None if record.proof is None else record.proof.after,
        "trials": len(record.trials),
        "seconds": record.seconds,
        "stopped": record.stopped,
    }
    page = run.folder / "report.html"
    return Answer(data, lambda: terminal.run(record, page=page), 0 if run.holds else 1)


@contextmanager
def live() -> Iterator:
    """What to show a `Standing`: drawn anew on a terminal, else a line for each trial."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.live import Live

    from ..reporting import terminal

    with Live(console=Console(stderr=True), refresh_per_second=2, transient=True) as live:
        yield lambda standing: live.update(terminal.standing(standing))


class _Lines:
    """A line whenever a trial has ended, for logs."""

    def __init__(self) -> None:
        self.done = -1

    def __call__(self, standing: Standing) -> None:
        if standing.done == self.done:
            return
        self.done = standing.done
        misses = [v.limit.name for v in standing.limits if not v.holds]
        state = "holds all budgets" if not misses else f"misses {', '.join(misses)}"
        best = f"; best: {standing.best}, {state}" if standing.best else ""
        print(
            f"{standing.seconds:6.0f} s  {standing.stage}: {standing.done} trials{best}",
            file=sys.stderr,
            flush=True,
        )
