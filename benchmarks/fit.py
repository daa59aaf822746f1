"""What `edgewise.fit` finds on real networks, beside int8 alone.

    python -m benchmarks.fit resnet20            # CIFAR-10, drop <= 0.5 points, 30 minutes
    python -m benchmarks.fit resnet8 kws01 lenet st_har     # 10 minutes each
    python -m benchmarks.fit mobilenet_v2        # no labels, 8 minutes
    python -m benchmarks.fit twice               # the same budget and seed: the same bytes
    python -m benchmarks.fit efficiency          # ResNet-20, against a random search of 200 trials
    python -m benchmarks.fit ray                 # trials per hour with one worker and with two

Every run lies in ``benchmarks/out/fit/NAME`` with its page; begun anew it goes on. Its cache lies
beside it, so that nothing of an earlier session is taken for free.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import edgewise as ew
from edgewise import demo
from edgewise.fitting import Fitted
from edgewise.run import Standing, Trial

from .fit_efficiency import efficiency
from .fit_workers import two_workers
from .nets import imagenet, load, shared
from .pruning_nets import labelled

__all__ = ["CASES", "Case", "main"]

OUT = Path(__file__).parent / "out" / "fit"


@dataclass(frozen=True)
class Case:
    """A model, its samples, a budget and a time.

    Attributes:
        make: the model and the samples.
        budget: what must hold.
        time: as of `edgewise.fit`.
        objective: likewise.
    """

    make: Callable[[], tuple[Any, Any]]
    budget: ew.Budget
    time: str
    objective: str = "fastest"


def resnet20() -> tuple[Any, Any]:
    """20,000 training images, the whole test set."""
    net = load("resnet20")
    data = {"training": labelled(), "evaluation": (net.inputs, net.labels)}
    return ew.load(net.module, example=net.example), data


def resnet8() -> tuple[Any, Any]:
    """Keras; raw pixels, channels last."""
    with np.load(shared("cifar10", "cifar10_train20k_test10k.npz")) as file:
        data = {
            role: (file[f"x_{part}"].astype(np.float32), file[f"y_{part}"].astype(np.int64))
            for role, part in (("training", "train"), ("evaluation", "test"))
        }
    return shared("mlperf_tiny", "ic01", "pretrainedResnet.h5"), data


def kws01() -> tuple[Any, Any]:
    """TFLite; there are only the 1,000 evaluation samples: 400 of them calibrate and train."""
    with np.load(shared("mlperf_tiny", "kws01", "kws01_eval_mfcc_int8.npz")) as file:
        x = (0.5847029 * (file["x"].astype(np.float32) - 83))[..., None].astype(np.float32)
        y = file["y"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    parts = {"training": order[:400], "evaluation": order[400:]}
    data = {role: (x[at], y[at]) for role, at in parts.items()}
    return shared("mlperf_tiny", "kws01", "kws_ref_model_float32.tflite"), data


def digits() -> tuple[Any, Any]:
    """The demo's."""
    training, held_out = demo._images()
    model = ew.load(demo._train(*training), example=torch.zeros(1, 1, 8, 8))
    return model, {"training": training, "evaluation": held_out}


def lenet() -> tuple[Any, Any]:
    """LeNet-5 (Caffe's), trained here for three epochs on MNIST."""
    from .lenet import lenet_5, mnist

    data = mnist()
    torch.manual_seed(0)
    net = lenet_5().train()
    x, y = torch.from_numpy(data["x_train"]), torch.from_numpy(data["y_train"])
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for epoch in range(3):
        for at in torch.from_numpy(np.random.default_rng(epoch).permutation(len(x))).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[at]), y[at]).backward()
            optimizer.step()
    model = ew.load(net.eval(), example=torch.zeros(1, 1, 28, 28))
    return model, {
        "training": (data["x_train"], data["y_train"]),
        "evaluation": (data["x_test"], data["y_test"]),
    }


def st_har() -> tuple[Any, Any]:
    """Keras; frames of 26 samples, 13 apart, divided by recording."""
    names = ("stationary", "walking", "running")
    parts: dict[str, tuple[list, list]] = {"training": ([], []), "evaluation": ([], [])}
    with np.load(shared("st_har", "st_har_26hz_4g_mg.npz")) as recordings:
        for at, key in enumerate(recordings.files):
            x, y = parts["evaluation" if at % 2 else "training"]
            signal = recordings[key].astype(np.float32) / 4000
            frames = [signal[k : k + 26] for k in range(0, len(signal) - 25, 13)]
            x += frames
            y += [names.index(key.split("/")[0])] * len(frames)
    data = {role: (np.stack(x), np.array(y, np.int64)) for role, (x, y) in parts.items()}
    return shared("st_har", "model.h5"), data


def mobilenet_v2() -> tuple[Any, Any]:
    """650 images without labels: 256 calibrate, the others choose and test."""
    net = load("mobilenet_v2")
    calibration, inputs, _ = imagenet()
    data = {"calibration": calibration, "evaluation": inputs}
    return ew.load(net.module, example=net.example), data


CASES = {
    "digits": Case(digits, demo.BUDGET, "2m", demo.OBJECTIVE),
    # A sixth of the float file: of the artifact, and of it in a bundle.
    "resnet20": Case(resnet20, ew.Budget(max_drop=0.5, max_download="180kB"), "30m"),
    "resnet20_file": Case(resnet20, ew.Budget(max_drop=0.5, max_size="180kB"), "30m"),
    "resnet8": Case(resnet8, ew.Budget(max_drop=0.5), "10m", "balanced"),
    "kws01": Case(kws01, ew.Budget(max_drop=1.0), "10m", "balanced"),
    "lenet": Case(lenet, ew.Budget(max_drop=0.2), "10m", "balanced"),
    "st_har": Case(st_har, ew.Budget(max_drop=0.5), "10m", "balanced"),
    "mobilenet_v2": Case(mobilenet_v2, ew.Budget(max_drop=1.0), "8m", "balanced"),
}


def run(name: str, folder: str = "", **options: Any) -> Fitted:
    """One case; the options are those of `edgewise.fit`."""
    case = CASES[name]
    model, data = case.make()
    place = OUT / (folder or name)
    place.mkdir(parents=True, exist_ok=True)
    given = {"time": case.time, "objective": case.objective} | options
    return ew.fit(
        model, data, budget=case.budget, folder=place, cache=place / "cache",
        title=name, commands=(f"python -m benchmarks.fit {name}",), watch=_Lines(), **given,
    )  # fmt: skip


def told(fitted: Fitted) -> str:
    """The choice, proved, beside the best int8 file that nothing else was done to."""
    record, best = fitted.record, fitted.best
    whole, proof = record.trial(record.reference).figures, record.proof
    figures = proof.figures
    plain = [t for t in record.trials if t.figures and _names(t) == ["quantize"]]
    low, high = figures.drop_ci95 or (float("nan"), float("nan"))
    lines = [
        f"{fitted.record.model}: {best.name}",
        f"  {'holds' if fitted.holds else 'MISSES'} its budget after {record.seconds / 60:.1f} min "
        f"and {len(record.trials)} trials ({record.stopped})",
        f"  {1 / figures.ratio:.2f}x faster than float on {record.trial(record.reference).runtime}"
        f", file {whole.size_bytes / figures.size_bytes:.2f}x smaller "
        f"({whole.size_bytes:,} -> {figures.size_bytes:,} bytes; download "
        f"{best.figures.download_bytes:,})",
        f"  drop {figures.drop:.2f} points ({low:.2f} to {high:.2f}) on {figures.n} test samples, "
        f"{best.figures.drop:.2f} on {record.samples.selection} that chose",
    ]
    if plain:
        alone = min(plain, key=lambda t: t.figures.ratio)
        lines.append(
            f"  int8 alone ({alone.runtime}): {1 / alone.figures.ratio:.2f}x faster, "
            f"{whole.size_bytes / alone.figures.size_bytes:.2f}x smaller, drop "
            f"{alone.figures.drop:.2f}: the choice takes "
            f"{best.figures.ratio / alone.figures.ratio:.2f} of its time and "
            f"{best.figures.size_bytes / alone.figures.size_bytes:.2f} of its bytes"
        )
    return "\n".join(lines)


def _names(trial: Trial) -> list[str]:
    return [next(iter(step)) for step in trial.steps]


class _Lines:
    """A line whenever a trial has ended."""

    def __init__(self) -> None:
        self.done = -1

    def __call__(self, standing: Standing) -> None:
        if standing.done != self.done:
            self.done = standing.done
            misses = [v.limit.name for v in standing.limits if not v.holds]
            print(
                f"{standing.seconds:6.0f} s {standing.stage} {standing.done} {standing.best} "
                f"{'misses ' + ', '.join(misses) if misses else 'holds'}",
                flush=True,
            )


def twice() -> None:
    """The digits, twice from nothing: the same recipe and the same bytes."""
    found = []
    for at in "ab":
        shutil.rmtree(OUT / f"twice-{at}", ignore_errors=True)
        fitted = run("digits", f"twice-{at}", time=None, trials=25, runtime=demo.RUNTIMES)
        found.append(((fitted.folder / "recipe.yaml").read_text(), fitted.artifact.sha256))
        print(found[-1][0], found[-1][1], flush=True)
    print(f"same recipe: {found[0][0] == found[1][0]}, same bytes: {found[0][1] == found[1][1]}")


PARTS = {"twice": twice, "efficiency": efficiency, "ray": two_workers}


def main() -> None:
    """Run what is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="+", choices=[*CASES, *PARTS])
    parser.add_argument("--time", help="instead of the case's own")
    given = parser.parse_args()
    for name in given.names:
        if name in PARTS:
            PARTS[name]()
            continue
        begin = time.perf_counter()
        fitted = run(name, **({"time": given.time} if given.time else {}))
        print(told(fitted), f"\n  {time.perf_counter() - begin:.0f} s in this start", flush=True)


if __name__ == "__main__":
    main()
