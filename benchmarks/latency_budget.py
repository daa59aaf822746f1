"""Which layers stay in float within a latency: measured layer by layer, then as a whole.

    python -m benchmarks.latency_budget [--net resnet20] [--runtime litert] [--images 2000]

Each layer's microseconds in int8 and in float come from the runtime's profiler
(`edgewise.layer_costs`), its error from the outputs; `edgewise.allocate` chooses within budgets
between the int8 and the float file. The files that come of it are timed in turns with both.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import edgewise as ew
from edgewise.edge import runners
from edgewise.edge.benchmark import benchmark, compare

from .accuracy import NETS, accuracy, subject

SHARES = (0.0, 0.25, 0.5, 0.75)  # of the way from the int8 latency to float's


def main(arguments: list[str] | None = None) -> None:
    """Print one row for each budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=NETS, default="resnet20")
    parser.add_argument("--runtime", choices=("litert", "openvino"), default="litert")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=300)
    given = parser.parse_args(arguments)
    model, calibration, x, y = subject(given.net)
    x, y = x[: given.images], y[: given.images]
    data = {"calibration": calibration}
    costs = ew.layer_costs(model, data, given.runtime)
    eight, whole = (sum(of[bits] for of in costs.values()) for bits in (8, 32))
    least = sum(min(of.values()) for of in costs.values())
    print(f"{given.net}, {given.runtime}: layers take {eight:.0f} us in int8, {whole:.0f} in float")
    models = {"float": model, "int8": ew.Quantize("int8")(model, data)}
    for share in SHARES:
        found = ew.allocate(model, data, max(least, eight + share * (whole - eight)), cost=costs)
        name = f"{len(found.keep_float)} in float, {found.cost:.0f} us"
        models[name] = ew.Quantize("int8", keep_float=found.keep_float)(model, data)
    with tempfile.TemporaryDirectory() as folder:
        suffix = runners.get(given.runtime).suffixes[0]
        paths = [Path(folder) / f"{i}{suffix}" for i in range(len(models))]
        for path, made in zip(paths, models.values(), strict=True):
            ew.lower(made, given.runtime, path)
        timings = benchmark(paths, threads=1, runs=given.runs)
    for (name, made), timing in zip(models.items(), timings, strict=True):
        ratio = compare(timing, timings[0]).value
        row = f"  {name:<24} {accuracy(made, x, y):.2f} %, {ratio:.2f} x float's latency"
        print(f"{row}, {timing.latency.p50:.3f} ms", flush=True)


if __name__ == "__main__":
    main()
