"""Commands that read a model: inspect, quantize, lower."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ..errors import InputError
from .app import Answer, command, working
from .options import DataOptions, ModelOptions, PixelOptions, output_file

if TYPE_CHECKING:
    from ..compress.ladder import Ladder
    from ..compress.quantize import Quantize

__all__ = ["inspect", "lower", "quantize"]


@command
def inspect(
    model: ModelOptions,
    runtime: Annotated[
        list[str] | None,
        Option(metavar="RUNTIME", help="Ask this one whether it takes the model; default: all."),
    ] = None,
) -> Answer:
    """Layers, costs, what can be pruned, what each runtime takes."""
    from .. import inspect
    from ..edge.runners import RUNTIMES
    from ..reporting import terminal

    loaded = model.open()
    with working("asking the runtimes"):
        found = inspect(loaded, runtime or tuple(RUNTIMES))
    return Answer(found, lambda: terminal.inspection(found))


@command
def quantize(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    output: Annotated[
        Path, Option("--output", "-o", metavar="OUT.pt2", help="Where the quantized model goes.")
    ],
    scheme: Annotated[
        str,
        Option(
            help="int8 (weights and activations), int8-dynamic, int4-dynamic (activations at run "
            "time), int8-weights, int4-weights, int4-affine or float16 (weights alone)."
        ),
    ] = "int8",
    samples: Annotated[int, Option(metavar="N", help="The most samples to calibrate with.")] = 256,
    keep_float: Annotated[
        list[str] | None,
        Option(metavar="LAYER", help="A layer to leave in float, or a pattern; repeatable."),
    ] = None,
    runtime: Annotated[
        str | None,
        Option(metavar="RUNTIME", help="Plan for the fast kernels of this one; warn of slow ones."),
    ] = None,
    group: Annotated[
        int | None, Option(metavar="N", help="Inputs that share a scale of a 4-bit weight.")
    ] = None,
    weight_bits: Annotated[
        int, Option(metavar="N", help="Of the weights of int8: 2 to 8; int8-weights: to 16.")
    ] = 8,
    activation_bits: Annotated[
        int, Option(metavar="N", help="Of what the layers of int8 read: 2 to 8.")
    ] = 8,
    ranges: Annotated[
        str,
        Option(help="minmax, moving-average, percentile, mse, entropy, octav; auto tries all."),
    ] = "minmax",
    max_drop: Annotated[
        float | None,
        Option(
            metavar="POINTS",
            help="Climb from cheap remedies to dear ones until no more than this is lost; exit "
            "code 1 if none suffices.",
        ),
    ] = None,
) -> Answer:
    """Make it compute in 8-bit integers.

    Weights and activations are put on integer grids, whose ranges are calibrated on real data; the
    result is a model like the one before, and can be run, saved and lowered.
    """
    from .. import Quantize
    from ..lowering.capabilities import capabilities
    from ..reporting import terminal
    from ..reporting.written import Written

    output_file(output, model.model)
    target = None if runtime is None else capabilities(runtime)
    kept = tuple(keep_float or ())
    step = Quantize(scheme, samples, kept, target, group, weight_bits, ranges, activation_bits)
    ladder = None if max_drop is None else _ladder(step, max_drop)
    float_model = model.open(pixels)
    calibration = data.open(float_model.signature, pixels, samples)
    with working("calibrating") as say:
        if ladder is None:
            quantized, held = step(float_model, calibration), True
        else:
            climb = ladder(float_model, calibration, progress=say)
            quantized, held = climb.model, climb.held
    quantized.save(output)
    made = Written.model(output, quantized.lineage)
    return Answer(made, lambda: terminal.written(made), 0 if held else 1)


def _ladder(step: Quantize, max_drop: float) -> Ladder:
    """The ladder that begins with this step.

    Raises:
        InputError: an option that the ladder sets by itself.
    """
    from .. import Ladder, Quantize

    if step != Quantize("int8", step.samples, weight_bits=step.weight_bits):
        raise InputError(
            "--max-drop chooses ranges and float layers by itself, for the scheme int8: leave "
            "--scheme, --ranges, --keep-float and --runtime out"
        )
    return Ladder(max_drop, step.samples, weight_bits=step.weight_bits)


@command
def lower(
    model: ModelOptions,
    data: DataOptions,
    pixels: PixelOptions,
    runtime: Annotated[
        str, Option(metavar="RUNTIME", help="onnxruntime, litert, executorch or openvino.")
    ],
    output: Annotated[
        Path | None,
        Option("--output", "-o", metavar="FILE", help="Default: the model's name, beside it."),
    ] = None,
    batch: Annotated[int, Option(metavar="N", help="Samples that the file takes at once.")] = 1,
    half: Annotated[bool, Option("--half", help="Store what is float in 16 bits.")] = False,
) -> Answer:
    """Write the file that a runtime runs.

    It is run there at once and refused if it computes something else than the model.

    The comparison is on the data if they are given, else on the samples that a quantized model
    carries, else on random numbers.
    """
    from .. import lower
    from ..compress.saliency import zeros
    from ..edge import runners
    from ..reporting import terminal
    from ..reporting.written import Written

    path = output or model.path.with_suffix(runners.get(runtime).suffixes[0])
    output_file(path, model.model)
    loaded = model.open(pixels)
    samples = data.open(loaded.signature, pixels)
    with working(f"lowering for {runtime}"):
        artifact = lower(loaded, runtime, path, batch=batch, half=half, data=samples)
    made = Written.artifact(artifact, zeros(loaded.graph))
    return Answer(made, lambda: terminal.written(made))
