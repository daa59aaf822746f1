"""The values that describe models, artifacts and measurements; free of torch.

Each is a frozen dataclass that msgspec reads and writes as JSON, so that a record made on a
workstation is read, and checked, on a device. Only that needs msgspec: a worker on a device that
has nothing but numpy and a runtime imports this too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .errors import InputError

__all__ = [
    "Agreement",
    "Curves",
    "Damage",
    "Difference",
    "Event",
    "Latency",
    "Measurement",
    "Signature",
    "TensorSpec",
    "decode",
    "encode",
]

T = TypeVar("T")

DTYPES = ("float32", "float16", "uint8", "int8", "int16", "int32", "int64", "bool")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its name, shape, dtype, and what its axes and numbers mean.

    Attributes:
        name: as the user named it.
        shape: sizes; ``None`` marks the batch axis, which may take any size.
        dtype: a numpy dtype name, one of `DTYPES`.
        layout: one letter an axis (``"NCHW"``, ``"NHWC"``, ``"NC"``); empty when unknown.
        range: the least and largest value that may occur, where that is known.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    layout: str = ""
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Signature:
    """What goes in, what comes out, and what the outputs are called."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    """One entry of a lineage: a step, its parameters, and what it left alone with the reason."""

    step: str
    params: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Agreement:
    """How an artifact's outputs compare with its Model's on the same inputs.

    Attributes:
        top1: share of samples whose largest output has the same index; ties count as equal.
        max_steps: largest difference in quantization steps of the output, 0 for equal; for a
            float output, the step is 1/255 of the output's range over the samples.
        mean_steps: mean difference of all output elements, in the same steps.
        max_abs: largest absolute difference of any output element.
        n: number of samples.
        source: where the samples came from: ``"data"``, ``"model"`` or ``"random"``.
    """

    top1: float
    max_steps: float
    mean_steps: float
    max_abs: float
    n: int
    source: str


@dataclass(frozen=True)
class Latency:
    """Percentiles of one inference's wall time in milliseconds.

    p90 is given from 64 runs and p99 from 662 runs on; from fewer, a percentile would say more
    than the runs do (the counts of MLPerf's early stopping, for 99 % confidence).
    """

    p50: float
    runs: int
    threads: int
    batch: int
    p90: float | None = None
    p99: float | None = None


@dataclass(frozen=True)
class Measurement:
    """One subject's figures with the conditions under which they were measured.

    What was not measured is ``None`` and is left out of the JSON. `agreement` is of the file with
    the Model that it was made from, `device_agreement` of the file on a device with the same file
    on the machine that it was sent from.
    """

    subject: str
    runtime: str
    device: str
    metric: str | None = None
    value: float | None = None
    n: int | None = None
    ci95: tuple[float, float] | None = None
    latency_ms: Latency | None = None
    memory_bytes: int | None = None
    size_bytes: int | None = None
    load_ms: float | None = None
    agreement: Agreement | None = None
    device_agreement: Agreement | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    energy_mj: float | None = None

    def __str__(self) -> str:
        """One line a figure, each with its conditions."""
        lines = [f"{self.subject} on {self.runtime} ({self.device})"]
        if self.value is not None:
            interval = f" [{self.ci95[0]:.4g}, {self.ci95[1]:.4g}]" if self.ci95 else ""
            lines.append(f"{self.metric} {self.value:.4g}{interval} of {self.n} samples")
        if (t := self.latency_ms) is not None:
            tail = "".join(f", {k} {v:.4g}" for k, v in (("p90", t.p90), ("p99", t.p99)) if v)
            lines.append(
                f"latency p50 {t.p50:.4g}{tail} ms ({t.runs} runs, {t.threads} threads, "
                f"batch {t.batch})"
            )
        for name in ("memory_bytes", "size_bytes"):
            if (value := getattr(self, name)) is not None:
                lines.append(f"{name.removesuffix('_bytes')} {value / 1000:,.1f} kB")
        if self.energy_mj is not None:
            lines.append(f"energy {self.energy_mj:.4g} mJ an inference")
        if (a := self.device_agreement) is not None:
            lines.append(f"as on this machine {a.top1:.2%} of {a.n} samples")
        return "\n  ".join(lines)


@dataclass(frozen=True)
class Difference:
    """How a subject compares with another that was measured in the same run, in turns.

    Attributes:
        to: the other's subject.
        latency: this p50 as a multiple of the other's, and its 95 % interval.
        drop: how much less this one's metric is, and its 95 % interval.
    """

    to: str
    latency: float | None = None
    latency_ci95: tuple[float, float] | None = None
    drop: float | None = None
    drop_ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Damage:
    """What pruning one group alone does to the outputs.

    Attributes:
        group: as `Prune` names it.
        amount: the share of its units that was cut.
        divergence: mean square of what the first output moved by, over its own variance.
        changed: share of samples whose largest output is another one.
        value: the metric, where the samples have targets.
    """

    group: str
    amount: float
    divergence: float
    changed: float
    value: float | None = None


@dataclass(frozen=True)
class Curves:
    """How a model bears the pruning of each group by itself.

    Attributes:
        criterion: by which the units of a group were chosen.
        n: number of samples.
        rows: by group in the order of the graph, then by amount.
        metric, value: of the whole model, where the samples have targets.
    """

    criterion: str
    n: int
    rows: tuple[Damage, ...] = ()
    metric: str | None = None
    value: float | None = None


def _prune(value: Any) -> Any:
    """Drop the ``None`` fields, which say nothing."""
    if isinstance(value, Mapping):
        return {k: _prune(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_prune(v) for v in value]
    return value


def _as_text(value: Any) -> str:
    if isinstance(value, Path):
        return value.as_posix()
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")


def _from_text(kind: type, value: Any) -> Any:
    if kind is Path:
        if not isinstance(value, str):
            raise ValueError("expected the text of a path")
        return Path(value)
    raise NotImplementedError(f"{kind.__name__} cannot be read from JSON")


def encode(record: Any) -> bytes:
    """JSON text of a record, the same bytes for equal records (UTF-8, indented, sorted maps)."""
    import msgspec

    raw = msgspec.json.encode(
        _prune(msgspec.to_builtins(record, enc_hook=_as_text)), order="sorted"
    )
    return msgspec.json.format(raw, indent=2) + b"\n"


def decode(text: bytes, kind: type[T], where: str) -> T:
    """Read a record of type `kind` from JSON, checking every field.

    Raises:
        InputError: the text is not JSON or a field is missing, superfluous or of another type.
    """
    import msgspec

    try:
        return msgspec.json.decode(text, type=kind, dec_hook=_from_text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{where} is not a valid {kind.__name__} record: {error}") from None
