"""Commands about pruning: prune, sensitivity."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Option

from ..errors import InputError
from .app import Answer, command, progress, working
from .options import DataOptions, ModelOptions, PixelOptions, output_file, shares

__all__ = ["prune", "sensitivity"]


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
    with working("pruning"):
        small = step(whole, given, show=lambda plan: print(plan, file=sys.stderr))
    small.save(output)
    made = Written.model(output, small.lineage)
    return Answer(made, lambda: terminal.written(made))


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
