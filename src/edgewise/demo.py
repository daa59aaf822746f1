"""The whole story on real digits: train, quantize, lower, run, compare, report. Offline.

The digits are the 1797 images of 8 by 8 pixels that scikit-learn ships (UCI, "Optical Recognition
of Handwritten Digits"). Training sees neither the validation images, which choose the epoch, nor
the test images, which are looked at once, for the final table.
"""

from __future__ import annotations

import copy
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .compress.quantize import Quantize
from .edge.artifact import Artifact
from .edge.doctor import examine
from .edge.runners import RUNTIMES
from .errors import InputError, MissingExtra
from .loading import load
from .lowering import lower
from .measuring import compare
from .model import Model
from .reporting import record, report
from .reporting.figures import count_text, percent_text
from .reporting.report import FILE, Report, save

__all__ = ["demo"]

EPOCHS, BATCH, RATE, SEED = 20, 64, 5e-3, 0
HELD_OUT = 360  # images to validate with, and as many to test with


def demo(
    folder: Path,
    *,
    runs: int = 200,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Train, quantize, lower to every runtime that is installed, measure, write the report.

    Args:
        folder: gets the two models, the artifacts, ``measurements.json`` and ``report.html``; it
            is made where it does not exist.
        runs: inferences to time for each file.
        say: is told what was done, a line at a time.
        progress: called with the work done and in all while measuring.

    Raises:
        MissingExtra: there is no runtime, or scikit-learn is not installed.
        InputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}") from None
    images = _images()
    counts = {part: len(y) for part, (_, y) in images.items()}
    note = (
        f"{sum(counts.values())} images of handwritten digits, 8 by 8 pixels (UCI, from "
        f"scikit-learn): {counts['training']} to train and calibrate, {counts['validation']} to "
        f"choose the epoch, {counts['test']} to test, looked at once, for these figures."
    )
    training = f"training a small CNN on {counts['training']} images of handwritten digits"
    with _step(say, training) as result, _one_thread():
        net, accuracy = _train(images["training"], images["validation"])
        model = load(net, example=torch.zeros(1, 1, 8, 8), labels="0123456789")
        model.save(folder / "digits.pt2")
        result.append(f"{count_text(sum(p.numel() for p in net.parameters()))} parameters")
        result.append(f"{percent_text(accuracy)} of {counts['validation']} validation images")
    with _step(say, f"quantizing to int8, calibrated on {Quantize().samples} training images"):
        data = {"training": images["training"], "evaluation": images["test"]}
        quantized = Quantize("int8")(model, data)
        quantized.save(folder / "digits-int8.pt2")
    models = {"float32": model, "int8": quantized}
    artifacts, left_out = _lower(models, {"evaluation": images["validation"]}, folder, say)
    if not artifacts:
        raise MissingExtra("a runtime that works here", "onnxruntime,litert,openvino")
    measuring = f"measuring {len(artifacts)} files in turns, {runs} runs each"
    with _step(say, f"{measuring}, and on {counts['test']} test images"):
        # Float and int8 follow each other: each int8 file is compared with the one before it.
        against = [None if k % 2 == 0 else k - 1 for k in range(len(artifacts))]
        found = compare(*artifacts, data=data, against=against, runs=runs, progress=progress)

    command = shlex.join(["edgewise", "demo", "-o", str(folder), "--runs", str(runs)])
    result = record(
        found,
        title="Handwritten digits",
        baseline="float on the same runtime",
        notes=(note, *left_out),
        commands=(command,),
    )
    save(result, folder / FILE)
    report(result, folder / "report.html")
    say(f"wrote {folder / 'report.html'}")
    return result


def _lower(
    models: dict[str, Model], data: Any, folder: Path, say: Callable[[str], None]
) -> tuple[list[Artifact], list[str]]:
    """Both models for each runtime that works here, and why the other runtimes were left out."""
    artifacts, left_out = [], []
    for probe in examine():
        if probe.state != "works":
            left_out.append(f"{probe.problem}.")
            say(f"left out: {probe.problem}")
            continue
        suffix = RUNTIMES[probe.runtime].suffixes[0]
        with _step(say, f"lowering float and int8 to {probe.runtime} {probe.version}") as result:
            made = [
                lower(
                    model,
                    probe.runtime,
                    folder / f"digits-{precision}-{probe.runtime}{suffix}",
                    data=data,
                )
                for precision, model in models.items()
            ]
            found = made[-1].agreement
            result.append(
                f"int8 agrees with its model on {percent_text(found.top1)} of {found.n} images"
            )
        artifacts += made
    return artifacts, left_out


@contextmanager
def _step(say: Callable[[str], None], what: str) -> Iterator[list[str]]:
    """Say what is begun, and then how long it took and what is put on the list."""
    say(f"{what} ...")
    begin, result = time.perf_counter(), []
    yield result
    say("  " + ", ".join([f"{time.perf_counter() - begin:.1f} s", *result]))


class Digits(nn.Module):
    """Three convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(1, 32), *_block(32, 64), nn.MaxPool2d(2), *_block(64, 64)
        )
        self.head = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).mean((2, 3)))


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


Arrays = tuple[np.ndarray, np.ndarray]


def _images() -> dict[str, Arrays]:
    """Training, validation and test: float32 (n, 1, 8, 8) in 0..1 and classes, drawn by class."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingExtra("scikit-learn, which has the digits,", "compress") from None
    digits = load_digits()
    x, y = (digits.images[:, None] / 16).astype(np.float32), digits.target
    parts = {}
    for part in ("test", "validation"):
        x, held_x, y, held_y = train_test_split(
            x, y, test_size=HELD_OUT, stratify=y, random_state=SEED
        )
        parts[part] = held_x, held_y
    return {"training": (x, y), **parts}


def _train(training: Arrays, validation: Arrays) -> tuple[nn.Module, float]:
    """The network of the epoch that is best on the validation images, and that accuracy."""
    torch.manual_seed(SEED)
    net = Digits()
    x, y = map(torch.from_numpy, training)
    steps = EPOCHS * -(-len(x) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    best, weights = 0.0, net.state_dict()
    for _ in range(EPOCHS):
        net.train()
        for chosen in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(net(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        accuracy = _accuracy(net, validation)
        if accuracy >= best:
            best, weights = accuracy, copy.deepcopy(net.state_dict())
    net.load_state_dict(weights)
    return net.eval(), best


@torch.no_grad()
def _accuracy(net: nn.Module, part: Arrays) -> float:
    x, y = map(torch.from_numpy, part)
    return (net.eval()(x).argmax(1) == y).float().mean().item()


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a network is trained no slower by one, and comes out the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
