"""Commands that leave fewer bits or smaller factors: sparsify, cluster, condense, factorize."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from .app import Answer, command, working
from .options import DataOptions, ModelOptions, PixelOptions, output_file, shares

if TYPE_CHECKING:
    from ..step import Step

__all__ = ["cluster", "condense", "factorize", "sparsify"]


@command
def sparsify(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    output: Annotated[
        Path, Option("--output", "-o", metavar="OUT.pt2", help="Where the sparse model goes.")
    ],
    amount: Annotated[
        list[str] | None,
        Option(
            metavar="SHARE|LAYER=SHARE",
            help="What becomes zero, in [0, 1), of all weights or of one layer's; repeatable. "
            "Default: 0.5.",
        ),
    ] = None,
    criterion: Annotated[
        str,
        Option(metavar="NAME", help="magnitude, snip, taylor, wanda, sparsegpt or random."),
    ] = "magnitude",
    allocation: Annotated[
        str, Option(help="Between layers: layer (the same of each), global, erdos-renyi or lamp.")
    ] = "layer",
    pattern: Annotated[
        str, Option(metavar="N:M|RxC", help="2:4 of neighbouring inputs stay; or blocks of 4x1.")
    ] = "",
    keep: Annotated[
        list[str] | None,
        Option(metavar="LAYER", help="A layer to leave whole, or a pattern; repeatable."),
    ] = None,
    samples: Annotated[int, Option(metavar="N", help="The most samples to look at.")] = 512,
    reconstruct: Annotated[
        bool, Option("--reconstruct", help="Solve what is left anew, on the data.")
    ] = False,
) -> Answer:
    """Make the weights zero that matter least.

    The model keeps its shape; its file shrinks once it is compressed.
    """
    from .. import Sparsify

    step = Sparsify(
        shares(amount, 0.5), criterion, allocation, pattern, tuple(keep or ()), samples,
        reconstruct,
    )  # fmt: skip
    return _carried_out(step, "making weights zero", model, data, pixels, samples, output)


@command
def cluster(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    output: Annotated[
        Path, Option("--output", "-o", metavar="OUT.pt2", help="Where the clustered model goes.")
    ],
    bits: Annotated[int, Option(metavar="N", help="Of an index, 1 to 8.")] = 4,
    values: Annotated[
        str, Option(help="kmeans finds them; nf4 and log (powers of two) are fixed, with scales.")
    ] = "kmeans",
    start: Annotated[str, Option(help="Of k-means: linear, density or random.")] = "linear",
    per: Annotated[
        str,
        Option(help="A codebook for each tensor, scaled for each channel, or for each channel."),
    ] = "tensor",
    block: Annotated[int, Option(metavar="N", help="Inputs to a scale of fixed values.")] = 64,
    keep: Annotated[
        list[str] | None,
        Option(metavar="LAYER", help="A layer to leave alone, or a pattern; repeatable."),
    ] = None,
    samples: Annotated[int, Option(metavar="N", help="The most samples to look at.")] = 256,
    reconstruct: Annotated[
        bool | None,
        Option(
            "--reconstruct/--plain",
            help="Choose values by what layers give on the data; default: where there are any.",
        ),
    ] = None,
) -> Answer:
    """Let weights share a few values.

    Zeros stay zero. What shrinks is the file, once it is compressed.
    """
    from .. import Cluster

    step = Cluster(bits, values, start, per, block, tuple(keep or ()), samples, reconstruct)
    return _carried_out(step, "clustering", model, data, pixels, samples, output)


@command
def condense(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    output: Annotated[
        Path, Option("--output", "-o", metavar="OUT.pt2", help="Where the condensed model goes.")
    ],
    bits: Annotated[float, Option(metavar="N", help="Of a weight on average, once coded.")] = 2.0,
    keep: Annotated[
        list[str] | None,
        Option(metavar="LAYER", help="A layer to leave as it is, or a pattern; repeatable."),
    ] = None,
    samples: Annotated[int, Option(metavar="N", help="The most samples to look at.")] = 512,
) -> Answer:
    """Quantize weights for the smallest file.

    Each is put where the error that it makes is worth the bits that it takes.
    """
    from .. import Condense

    step = Condense(bits, tuple(keep or ()), samples)
    return _carried_out(step, "condensing", model, data, pixels, samples, output)


@command
def factorize(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    output: Annotated[
        Path, Option("--output", "-o", metavar="OUT.pt2", help="Where the factored model goes.")
    ],
    error: Annotated[
        float, Option(metavar="SHARE", help="Of what a layer gives, by norm, this much may go.")
    ] = 0.1,
    macs: Annotated[
        float | None,
        Option(metavar="SHARE", help="Instead: of multiply-accumulates, this much may stay."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        Option(metavar="LAYER", help="A layer to leave whole, or a pattern; repeatable."),
    ] = None,
    samples: Annotated[int, Option(metavar="N", help="The most samples to look at.")] = 256,
) -> Answer:
    """Write layers as products of smaller ones.

    Only where that takes fewer multiply-accumulates; train what is left.
    """
    from .. import Factorize

    step = Factorize(error, macs, tuple(keep or ()), samples)
    return _carried_out(step, "factorizing", model, data, pixels, samples, output)


def _carried_out(
    step: Step, doing: str, model: ModelOptions, data: DataOptions, pixels: PixelOptions,
    samples: int, output: Path,
) -> Answer:  # fmt: skip
    """Show the plan, carry it out, write the Model."""
    from ..reporting import terminal
    from ..reporting.written import Written

    output_file(output, model.model)
    whole = model.open(pixels)
    given = data.open(whole.signature, pixels, samples)
    with working(doing):
        small = step(whole, given, show=lambda plan: print(plan, file=sys.stderr))
    small.save(output)
    made = Written.model(output, small.lineage)
    return Answer(made, lambda: terminal.written(made))
