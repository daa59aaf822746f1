"""Commands about pruning: prune, sensitivity, shorten."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ..errors import InputError
from .app import Answer, command, progress, working
from .options import DataOptions, ModelOptions, PixelOptions, output_file, shares

if TYPE_CHECKING:
    from ..compress.prune import Prune
    from ..data import Data
    from ..model import Model
    from ..train.rounds import Rounds

__all__ = ["prune", "sensitivity", "shorten"]


@command
def prune(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    output: Annotated[
        Path, Option("--output", "-o", metavar="OUT.pt2", help="Where the pruned model goes.")
    ],
    amount: Annotated[
        list[str] | None,
        Option(
            metavar="SHARE|GROUP=SHARE",
            help="What to take off, in [0, 1), of all groups or of one; repeatable. Default: 0.3.",
        ),
    ] = None,
    of: Annotated[
        str, Option(help="What the share is of: units, macs, parameters or latency.")
    ] = "units",
    scope: Annotated[
        str,
        Option(
            help="layer: of each group the same; global: the least important of all; "
            "sensitivity: more of the groups that bear it, tried on the data."
        ),
    ] = "layer",
    criterion: Annotated[
        str,
        Option(
            metavar="NAME",
            help="l1, l2, random, bn_scale, fpgm, lamp, taylor, gradient, fisher, activation or "
            "apoz.",
        ),
    ] = "l1",
    keep: Annotated[
        list[str] | None,
        Option(metavar="GROUP", help="A group to leave whole, or a pattern; repeatable."),
    ] = None,
    multiple: Annotated[int, Option(metavar="N", help="Leave widths that N divides.")] = 1,
    samples: Annotated[int, Option(metavar="N", help="The most samples to look at.")] = 512,
    reconstruct: Annotated[
        bool, Option("--reconstruct", help="Solve what is left anew, on the data.")
    ] = False,
    runtime: Annotated[
        str | None, Option(metavar="RUNTIME", help="Of latency: the one to time it on, here.")
    ] = None,
    rounds: Annotated[
        int | None,
        Option(metavar="N", help="Cut in so many rounds, and distill from the whole after each."),
    ] = None,
    epochs: Annotated[float, Option(metavar="N", help="Of each round's training.")] = 3,
    max_drop: Annotated[
        float,
        Option(
            metavar="POINTS",
            help="End the rounds with the last that loses no more; exit code 1 if not all is cut.",
        ),
    ] = 1.0,
) -> Answer:
    """Cut channels, heads and neurons out of it.

    The plan is printed on standard error before anything is cut; `inspect` lists the groups.
    """
    from .. import Latency, Prune
    from ..reporting import terminal
    from ..reporting.written import Written

    output_file(output, model.model)
    if (of == "latency") != (runtime is not None):
        raise InputError("--of latency and --runtime belong together: give both, or neither")
    cost = of if runtime is None else Latency(runtime)
    step = Prune(
        shares(amount, 0.3),
        cost,
        scope,
        criterion,
        tuple(keep or ()),
        multiple,
        samples,
        reconstruct,
    )
    whole = model.open(pixels)
    given = data.open(whole.signature, pixels, samples)
    with working("pruning") as say:
        if rounds is None:
            small = step(whole, given, show=lambda plan: print(plan, file=sys.stderr))
            code = 0
        else:
            found = _rounds(step, whole, given, rounds, epochs, max_drop, output, say)
            small, code = found.model, 0 if found.reached else 1
    small.save(output)
    made = Written.model(output, small.lineage)
    return Answer(made, lambda: terminal.written(made), code)


def _rounds(
    step: Prune, whole: Model, data: Data | None, rounds: int, epochs: float, max_drop: float,
    output: Path, say: Callable[[str], None],
) -> Rounds:  # fmt: skip
    """Prune and train in turns; the same command goes on where it was stopped."""
    from .. import Distill, PruneRounds, Session, Training

    if data is None:
        raise InputError("--rounds train after each cut: give --data")
    folder = output.with_suffix(".training")
    train = Distill(whole, training=Training(epochs), session=Session(folder))
    found = PruneRounds(step, train, rounds, max_drop)(whole, data, progress=say)
    shutil.rmtree(folder, ignore_errors=True)
    print(found, file=sys.stderr)
    return found


@command
def sensitivity(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    amount: Annotated[
        list[float] | None,
        Option(metavar="SHARE", help="To cut of each group; repeatable. Default: 0.25, 0.5, 0.75."),
    ] = None,
    criterion: Annotated[
        str, Option(metavar="NAME", help="Which units of a group go; as of prune.")
    ] = "l1",
    samples: Annotated[int, Option(metavar="N", help="The most samples to look at.")] = 256,
    metric: Annotated[
        str, Option(help="As of measure; taken where the data have targets.")
    ] = "accuracy",
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            metavar="RUN",
            help="A folder that keeps what was found, for `report`; what is there already is not "
            "computed again.",
        ),
    ] = None,
) -> Answer:
    """What cutting each group alone costs.

    Each group is cut by itself, by each amount, and the outputs are compared with the whole
    model's; with labels, the metric too. `prune --scope sensitivity` goes by this.
    """
    from .. import sensitivity
    from ..reporting import terminal

    opened = model.open(pixels)
    given = data.open(opened.signature, pixels, samples)
    if given is None:
        raise InputError("sensitivity is measured on samples: give --data")
    amounts = tuple(amount) if amount else (0.25, 0.5, 0.75)
    with progress("cutting each group") as advance:
        found = sensitivity(
            opened, given, amounts,
            criterion=criterion, samples=samples, metric=metric, folder=output, progress=advance,
        )  # fmt: skip
    return Answer(found, lambda: terminal.sensitivity(found))


@command
def shorten(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    output: Annotated[
        Path, Option("--output", "-o", metavar="OUT.pt2", help="Where the shortened model goes.")
    ],
    blocks: Annotated[
        list[str] | None,
        Option(metavar="N|BLOCK", help="How many go; or one by name; repeatable. Default: 1."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        Option(metavar="BLOCK", help="A block to leave, or a pattern; repeatable."),
    ] = None,
    samples: Annotated[int, Option(metavar="N", help="The most samples to look at.")] = 128,
) -> Answer:
    """Leave whole residual blocks out of it.

    That goes whose loss moves the outputs least; distill what is left.
    """
    from .. import Shorten
    from ..reporting import terminal
    from ..reporting.written import Written

    output_file(output, model.model)
    given = blocks or ["1"]
    which = int(given[0]) if len(given) == 1 and given[0].isdecimal() else tuple(given)
    step = Shorten(which, tuple(keep or ()), samples)
    whole = model.open(pixels)
    opened = data.open(whole.signature, pixels, samples)
    with working("choosing blocks"):
        small = step(whole, opened, show=lambda plan: print(plan, file=sys.stderr))
    small.save(output)
    made = Written.model(output, small.lineage)
    return Answer(made, lambda: terminal.written(made))
