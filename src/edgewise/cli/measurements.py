"""Commands about figures: measure, explain, report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .app import Answer, command, progress, working
from .options import DataOptions, PixelOptions, SubjectOptions, output_file

__all__ = ["explain", "measure", "report"]


@command
def measure(
    subjects: SubjectOptions,
    data: DataOptions,
    pixels: PixelOptions,
    metric: Annotated[
        str,
        Option(help="accuracy, top5, f1, mse, mae, auc, perplexity or package.module:callable."),
    ] = "accuracy",
    runs: Annotated[
        int, Option(metavar="N", help="Inferences to time: 64 for a p90, 662 for a p99.")
    ] = 700,
    threads: Annotated[
        int | None, Option(metavar="N", help="Of the runtime. Default: one a processor.")
    ] = None,
    device: Annotated[
        str,
        Option(metavar="DEV", help="local, ssh://USER@HOST[:PORT][/PYTHON], emulated:cortex-a72."),
    ] = "local",
    output: Annotated[
        Path | None,
        Option("--output", "-o", metavar="FILE.json", help="Keep the figures, for `report`."),
    ] = None,
) -> Answer:
    """Accuracy, latency, memory and size.

    Several files are measured in turns in one run, and compared with the first: whatever the
    machine does meanwhile hits all of them alike. Of a model only the metric is taken.
    """
    from .. import compare
    from ..reporting import record, terminal
    from ..reporting.report import save

    if output is not None:
        output_file(output, *subjects.subjects)
    opened, samples = subjects.open(pixels), data.open(None, pixels)
    with progress("measuring") as advance:
        found = compare(
            *opened, data=samples, metric=metric, runs=runs, threads=threads, device=device,
            progress=advance,
        )  # fmt: skip
    notes = samples.notes if samples else ()
    made = record(found, notes=notes, commands=(shlex.join(["edgewise", *sys.argv[1:]]),))
    if output is not None:
        save(made, output)
    single = len(found.measurements) == 1
    return Answer(found.measurements[0] if single else found, lambda: terminal.report(made))


@command
def explain(
    artifact: Annotated[
        Path,
        Argument(metavar="ARTIFACT", help="Any .onnx, .tflite, .pte or .xml file, of any tool."),
    ],
    runs: Annotated[int, Option(metavar="N", help="Inferences to profile.")] = 50,
    threads: Annotated[
        int, Option(metavar="N", help="Of the runtime; one tells most about the kernels.")
    ] = 1,
    device: Annotated[
        str, Option(metavar="DEV", help="local, ssh://USER@HOST[:PORT][/PYTHON].")
    ] = "local",
    operators: Annotated[
        int, Option(metavar="N", min=1, help="So many of them are shown, the dearest.")
    ] = 15,
) -> Answer:
    """Where the time goes, and what to change.

    Each operator is timed by the runtime's own profiler, in a process of its own. Named are those
    that did not fuse, run in float in a quantized file, or fell off the fast path.
    """
    from .. import explain
    from ..reporting import terminal

    with working("profiling"):
        found = explain(artifact, runs=runs, threads=threads, device=device)
    return Answer(found, lambda: terminal.explanation(found, operators))


@command
def report(
    run: Annotated[
        Path,
        Argument(
            metavar="RUN", help="A folder with run.json or measurements.json, or such a file."
        ),
    ],
    output: Annotated[
        Path | None,
        Option("--output", "-o", metavar="PAGE.html", help="Default: report.html beside it."),
    ] = None,
    title: Annotated[str | None, Option(help="Of the page.")] = None,
) -> Answer:
    """Figures as one page of HTML.

    The page holds everything in itself and loads nothing from anywhere.
    """
    from .. import report
    from ..reporting import terminal
    from ..run import Run

    page = output or (run if run.is_dir() else run.parent) / "report.html"
    output_file(page, run)
    found = report(run, page, title=title)
    print(f"wrote {page}", file=sys.stderr)
    view = terminal.run if isinstance(found, Run) else terminal.report
    return Answer(found, lambda: view(found))
