"""A model over an endless signal: windows from a ring buffer, scores smoothed, decisions held.

    listening = Streaming(hop=1600, smoothing=4, threshold=0.8, release=0.6, rate=16000)
    stream = artifact.stream(listening)
    for chunk in microphone:
        for found in stream.feed(chunk):
            if found.began: ...

Smoothing is the mean of the last scores (Chen, Parada and Heigold, "Small-footprint keyword
spotting using deep neural networks", 2014, equation 2). A decision begins at the threshold and ends
below the release, which lies lower, so that a score that trembles around one bound does not switch
it on and off (Schmitt, "A thermionic trigger", 1938).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, InputError
from ..record import Signature, TensorSpec

__all__ = ["Decider", "Found", "Stream", "Streaming", "Windows"]


@dataclass(frozen=True)
class Streaming:
    """How a signal is cut and its scores judged.

    Attributes:
        hop: frames from the beginning of one window to the next.
        axis: of the model's input without its batch axis, that is time; negative from the end.
        smoothing: windows whose scores are averaged.
        threshold: score from which a class is active; None where nothing is decided.
        release: score below which it is no more; by default the threshold.
        softmax: whether the model's outputs become probabilities first.
        rate: frames a second of the signal, for the real-time factor.
    """

    hop: int
    axis: int = -1
    smoothing: int = 1
    threshold: float | None = None
    release: float | None = None
    softmax: bool = False
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.hop < 1 or self.smoothing < 1:
            raise InputError(
                f"hop is {self.hop} and smoothing {self.smoothing}: give at least 1 of each"
            )
        if self.release is not None and not (
            self.threshold is not None and self.release <= self.threshold
        ):
            raise InputError(
                f"release is {self.release} and threshold {self.threshold}: release at the "
                "threshold or below it"
            )


@dataclass(frozen=True, eq=False)
class Found:
    """What one window gave.

    Attributes:
        at: frames of the signal up to the window's end.
        scores: (classes,) smoothed.
        active: classes that are decided.
        began, ended: classes that became so, or no more so, with this window.
    """

    at: int
    scores: np.ndarray
    active: tuple[int, ...] = ()
    began: tuple[int, ...] = ()
    ended: tuple[int, ...] = ()


class Windows:
    """Cuts a signal that comes in pieces of any length into overlapping windows.

    Each frame is written twice into a buffer of two windows' length, so that every window lies in
    one piece wherever it begins. Memory does not grow.

    Args:
        spec: of the model's input.
        hop, axis: see `Streaming`.

    Raises:
        InputError: the input has no such axis.
    """

    def __init__(self, spec: TensorSpec, hop: int, axis: int = -1):
        shape = spec.shape[1:]
        if not -len(shape) <= axis < len(shape):
            raise InputError(
                f"'{spec.name}' has {len(shape)} axes without the batch: no axis {axis}"
            )
        self._axis = axis % len(shape)
        self.size = shape[self._axis]
        self.frame = shape[: self._axis] + shape[self._axis + 1 :]
        self.dtype = np.dtype(spec.dtype)
        self.frames = 0
        self._hop, self._due = hop, self.size
        self._buffer = np.zeros((2 * self.size, *self.frame), self.dtype)

    def feed(self, signal: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Take frames; gives each window that they complete, with the frames up to its end.

        Args:
            signal: (frames, *frame), of the input's dtype.

        Yields:
            a window of the input's shape with a batch of 1, valid until the next one.

        Raises:
            DataError: another shape or dtype.
        """
        signal = np.asarray(signal)
        if signal.ndim == 1 and all(size == 1 for size in self.frame):
            signal = signal.reshape(-1, *self.frame)
        if signal.shape[1:] != self.frame or signal.dtype != self.dtype or signal.ndim == 0:
            raise DataError(
                f"a signal of {self.dtype} and shape (frames, {', '.join(map(str, self.frame))}) "
                f"is needed, found {signal.dtype} of shape {signal.shape}"
            )
        while len(signal):
            piece = signal[: min(self._due - self.frames, self.size)]
            self._write(piece)
            signal = signal[len(piece) :]
            if self.frames == self._due:
                self._due += self._hop
                start = self.frames % self.size
                window = self._buffer[start : start + self.size]
                yield self.frames, np.moveaxis(window, 0, self._axis)[None]

    def _write(self, piece: np.ndarray) -> None:
        places = (self.frames + np.arange(len(piece))) % self.size
        self._buffer[places] = piece
        self._buffer[places + self.size] = piece
        self.frames += len(piece)


class Decider:
    """Smooths scores and decides with hysteresis."""

    def __init__(self, streaming: Streaming):
        self._given = streaming
        self._last: deque[np.ndarray] = deque(maxlen=streaming.smoothing)
        self._active: np.ndarray | None = None

    def judge(self, at: int, output: np.ndarray) -> Found:
        """What the output (1, classes) of a window that ends at `at` means."""
        scores = output.reshape(-1).astype(np.float64)
        if self._given.softmax:
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        self._last.append(scores)
        scores = np.mean(self._last, axis=0)
        threshold, release = self._given.threshold, self._given.release
        if threshold is None:
            return Found(at, scores)
        before = np.zeros(len(scores), bool) if self._active is None else self._active
        low = threshold if release is None else release
        self._active = np.where(before, scores >= low, scores >= threshold)
        return Found(
            at,
            scores,
            active=_indices(self._active),
            began=_indices(self._active & ~before),
            ended=_indices(before & ~self._active),
        )


class Stream:
    """A signal that a model listens to.

    Args:
        run: the model, (1, *input) to (1, classes).
        signature: of the model, which takes one input and gives one output.
        streaming: how.

    Raises:
        InputError: a model of several inputs or outputs.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], np.ndarray],
        signature: Signature,
        streaming: Streaming,
    ):
        self._run, self._streaming = run, streaming
        self._windows = Windows(only_input(signature), streaming.hop, streaming.axis)
        self._decider = Decider(streaming)
        self._seconds = 0.0

    def feed(self, signal: np.ndarray) -> Iterator[Found]:
        """Take frames, (frames, *frame); gives what each window that they complete gave.

        Raises:
            DataError: frames of another shape or dtype.
        """
        for at, window in self._windows.feed(signal):
            begin = time.perf_counter()
            found = self._decider.judge(at, self._run(np.ascontiguousarray(window)))
            self._seconds += time.perf_counter() - begin
            yield found

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work a second of signal: below 1 it keeps up. None without a rate."""
        return real_time_factor(self._seconds, self._windows.frames, self._streaming.rate)


def only_input(signature: Signature) -> TensorSpec:
    """The input of a model that takes one and gives one output.

    Raises:
        InputError: it takes or gives more.
    """
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        raise InputError(
            f"a stream takes a model of one input and one output, this has "
            f"{len(signature.inputs)} and {len(signature.outputs)}"
        )
    return signature.inputs[0]


def real_time_factor(seconds: float, frames: int, rate: float | None) -> float | None:
    """Seconds of work a second of signal; None where there is no rate or no signal."""
    return seconds * rate / frames if rate and frames else None


def _indices(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.flatnonzero(mask))
