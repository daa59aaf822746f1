"""Commands that read a model: inspect, quantize, lower."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from .app import Answer, command, working
from .options import DataOptions, ModelOptions, PixelOptions, output_file

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
    scheme: Annotated[str, Option(help="int8: weights and activations in 8 bits.")] = "int8",
    samples: Annotated[int, Option(metavar="N", help="The most samples to calibrate with.")] = 256,
    keep_float: Annotated[
        list[str] | None,
        Option(metavar="LAYER", help="A layer to leave in float, or a pattern; repeatable."),
    ] = None,
) -> Answer:
    """Make it compute in 8-bit integers.

    Weights and activations are put on integer grids, whose ranges are calibrated on real data; the
    result is a model like the one before, and can be run, saved and lowered.
    """
    from .. import Quantize
    from ..reporting import terminal
    from ..reporting.written import Written

    output_file(output, model.model)
    step = Quantize(scheme, samples, tuple(keep_float or ()))
    float_model = model.open(pixels)
    calibration = data.open(float_model.signature, pixels, samples)
    with working("calibrating"):
        quantized = step(float_model, calibration)
    quantized.save(output)
    made = Written.model(output, quantized.lineage)
    return Answer(made, lambda: terminal.written(made))


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
    from ..edge import runners
    from ..reporting import terminal
    from ..reporting.written import Written

    path = output or model.path.with_suffix(runners.get(runtime).suffixes[0])
    output_file(path)
    loaded = model.open(pixels)
    samples = data.open(loaded.signature, pixels)
    with working(f"lowering for {runtime}"):
        artifact = lower(loaded, runtime, path, batch=batch, half=half, data=samples)
    made = Written.artifact(artifact)
    return Answer(made, lambda: terminal.written(made))
