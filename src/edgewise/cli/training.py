"""The commands that train: distill and finetune."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ..errors import InputError
from .app import Answer, command
from .options import DataOptions, ModelOptions, PixelOptions, output_file

if TYPE_CHECKING:
    from ..model import Model
    from ..step import Step
    from ..train import Session, Training

__all__ = ["distill", "finetune"]

Output = Annotated[
    Path, Option("--output", "-o", metavar="OUT.pt2", help="Where the trained model goes.")
]
Loss = Annotated[
    str, Option(help="Of the labels: auto, cross-entropy, squared or binary; auto goes by them.")
]


@dataclass(frozen=True)
class TrainingOptions:
    """How and where it trains."""

    epochs: Annotated[float, Option(metavar="N", help="Passes over the training samples.")] = 10
    batch: Annotated[int, Option(metavar="N", help="Samples a step, over all processes.")] = 128
    optimizer: Annotated[str, Option(help="sgd or adamw.")] = "sgd"
    rate: Annotated[float, Option(metavar="R", help="The highest learning rate.")] = 0.01
    decay: Annotated[float, Option(metavar="D", help="Weight decay.")] = 1e-4
    clip: Annotated[
        float, Option(metavar="NORM", help="The largest norm of the gradient; 0 for any.")
    ] = 1.0
    schedule: Annotated[str, Option(help="Of the rate: cosine, one-cycle, linear or constant.")] = (
        "cosine"
    )
    augment: Annotated[
        str | None,
        Option(
            metavar="A,B",
            help="Of crop, flip, randaugment, mixup, cutmix (images), shift, noise (signals).",
        ),
    ] = None
    average: Annotated[
        str, Option(metavar="DECAY|swa", help="Keep the weights' running average; 0: the last.")
    ] = "0"
    patience: Annotated[
        int | None, Option(metavar="N", help="Stop after so many epochs that were no better.")
    ] = None
    frozen_norms: Annotated[
        bool, Option("--frozen-norms", help="Leave the statistics of batch-norms as they are.")
    ] = False
    frozen_scales: Annotated[
        bool, Option("--frozen-scales", help="Leave a quantized model's scales as they are.")
    ] = False
    precision: Annotated[str, Option(help="Of products: float32 or bfloat16.")] = "float32"
    accumulate: Annotated[
        int, Option(metavar="N", help="Compute a batch in so many parts, to save memory.")
    ] = 1
    compile: Annotated[bool, Option("--compile", help="Use torch.compile.")] = False
    folder: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="For checkpoints and TensorBoard's logs. Default: OUT.training, removed at the "
            "end. The same command goes on where it was stopped.",
        ),
    ] = None

    def training(self, seed: int) -> Training:
        """What decides the result."""
        from ..train import Optimizer, Training

        average = self.average if self.average == "swa" else _decay(self.average)
        return Training(
            self.epochs,
            self.batch,
            Optimizer(self.optimizer, self.rate, decay=self.decay, clip=self.clip or None),
            self.schedule,
            tuple(self.augment.split(",")) if self.augment else (),
            average,
            self.patience,
            norms=not self.frozen_norms,
            scales=not self.frozen_scales,
            seed=seed,
        )

    @contextmanager
    def session(self, output: Path) -> Iterator[Session]:
        """Where it runs, with a bar on a terminal."""
        from ..train import Session

        folder = self.folder or output.with_suffix(".training")
        with _bar() as watch:
            yield Session(
                folder,
                precision=self.precision,
                accumulate=self.accumulate,
                compile=self.compile,
                watch=watch,
            )
        if self.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


@command
def finetune(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    how: TrainingOptions,
    output: Output,
    loss: Loss = "auto",
) -> Answer:
    """Train it further on labels.

    A quantized model learns its scales too; weights that are zero stay zero. Stopped at any
    moment, the same command goes on.
    """
    from .. import Finetune

    output_file(output, model.model)
    whole = model.open(pixels)
    with how.session(output) as session:
        return _train(Finetune(loss, how.training(data.seed), session), whole, data, pixels, output)


@command
def distill(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    how: TrainingOptions,
    teacher: Annotated[
        list[str],
        Option(metavar="MODEL", help="A trained model of the same classes; repeatable."),
    ],
    output: Output,
    temperature: Annotated[float, Option(metavar="T", help="Softens both sides.")] = 4.0,
    alpha: Annotated[
        float,
        Option(metavar="A", help="Weight of the teacher's word; 1 needs no labels."),
    ] = 0.9,
    match: Annotated[str, Option(help="soft, decoupled, or outputs (regression).")] = "soft",
    hints: Annotated[
        str | None, Option(help="Features to share: fitnets, attention or relational.")
    ] = None,
    loss: Loss = "auto",
) -> Answer:
    """Let it learn what a teacher says, with labels or without.

    The teacher is usually the model as it was before it was compressed.
    """
    from .. import Distill, load

    output_file(output, model.model, *teacher)
    whole = model.open(pixels)
    teachers = tuple(load(path) for path in teacher)
    with how.session(output) as session:
        step = Distill(
            teachers, temperature, alpha, match, hints or (), loss, how.training(data.seed), session
        )
        return _train(step, whole, data, pixels, output)


def _train(
    step: Step, model: Model, data: DataOptions, pixels: PixelOptions, output: Path
) -> Answer:
    from ..reporting import terminal
    from ..reporting.written import Written

    given = data.open(model.signature, pixels)
    trained = step(model, given, show=lambda plan: print(plan, file=sys.stderr))
    trained.save(output)
    made = Written.model(output, trained.lineage)
    return Answer(made, lambda: terminal.written(made))


def _decay(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--average takes a decay or swa, found '{text}'") from None


@contextmanager
def _bar():
    """What to call with the progress, shown on a terminal: loss, metric, rate, time left."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"), BarColumn(), TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True, markup=False)
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as bar:
        task = bar.add_task("", figures="")

        def watch(progress) -> None:
            figures = f"loss {progress.loss:.4g}  rate {progress.rate:.3g}"
            if progress.validation is not None:
                figures = "  ".join([figures, "{} {:.4g}".format(*progress.validation)])
            bar.update(task, completed=progress.step, total=progress.steps, figures=figures)

        yield watch
