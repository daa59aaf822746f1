"""The whole story on real digits: train a small network, then fit it to a budget. Offline.

The digits are the 1797 images of 8 by 8 pixels that scikit-learn ships (UCI, "Optical Recognition
of Handwritten Digits"). Training sees none of the 720 that are held out; half of these choose the
recipe, the others are looked at once, for the figures of the verdict.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import nn

from .errors import InputError, MissingExtra
from .fitting import Fitted, fit
from .goals import Budget
from .loading import load
from .run import Standing

__all__ = ["BUDGET", "demo"]

EPOCHS, BATCH, RATE, SEED = 20, 64, 5e-3, 0
HELD_OUT = 720  # images
BUDGET = Budget(max_drop=1.0, max_size="40kB")
OBJECTIVE = "balanced"  # inferences take some microseconds: a clock alone tells little
# ExecuTorch takes longer to lower to than the others together.
RUNTIMES = ("onnxruntime", "litert", "openvino")


def demo(
    folder: Path,
    *,
    time: str = "90s",
    say: Callable[[str], None] = print,
    watch: Callable[[Standing], None] = lambda standing: None,
) -> Fitted:
    """Train, save the model and its data, and fit the model to `BUDGET`.

    Args:
        folder: gets ``digits.pt2``, ``digits.npz`` and the run; it is made where it does not
            exist.
        time: the most that the fit may take.
        say: is told what was done, a line at a time.
        watch: is shown how the search stands.

    Raises:
        MissingExtra: there is no runtime, or scikit-learn is not installed.
        InputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}") from None
    training, held_out = _images()
    with _step(say, f"training a small CNN on {len(training[1])} images of handwritten digits"):
        with _one_thread():
            net = _train(*training)
        model = load(net, example=torch.zeros(1, 1, 8, 8), labels="0123456789")
        model.save(folder / "digits.pt2")
        arrays = zip(
            ("x_train", "y_train", "x_test", "y_test"), (*training, *held_out), strict=True
        )
        np.savez(folder / "digits.npz", **dict(arrays))
    command = shlex.join(
        [
            "edgewise", "fit", str(folder / "digits.pt2"), "--data", str(folder / "digits.npz"),
            "--max-drop", f"{BUDGET.max_drop:g}", "--max-size", BUDGET.max_size,
            "--runtime", ",".join(RUNTIMES), "--objective", OBJECTIVE, "--time", time,
            "-o", str(folder / "run"),
        ]
    )  # fmt: skip
    say(f"{command} ...")
    return fit(
        folder / "digits.pt2", folder / "digits.npz", budget=BUDGET, objective=OBJECTIVE,
        runtime=RUNTIMES, time=time, folder=folder / "run", title="Handwritten digits",
        commands=(command,), watch=watch,
    )  # fmt: skip


@contextmanager
def _step(say: Callable[[str], None], what: str) -> Iterator[None]:
    """Say what is begun, and then how long it took."""
    say(f"{what} ...")
    begin = perf_counter()
    yield
    say(f"  {perf_counter() - begin:.1f} s")


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


def _images() -> tuple[Arrays, Arrays]:
    """For training and held out: float32 (n, 1, 8, 8) in 0..1 and classes, drawn by class."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingExtra("scikit-learn, which has the digits,", "compress") from None
    digits = load_digits()
    x, y = (digits.images[:, None] / 16).astype(np.float32), digits.target
    x, held_x, y, held_y = train_test_split(x, y, test_size=HELD_OUT, stratify=y, random_state=SEED)
    return (x, y), (held_x, held_y)


def _train(x: np.ndarray, y: np.ndarray) -> nn.Module:
    torch.manual_seed(SEED)
    net = Digits().train()
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    steps = EPOCHS * -(-len(x) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(net(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a network is trained no slower by one, and comes out the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
