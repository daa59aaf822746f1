"""The one training loop: fine-tuning, distillation, quantization-aware and sparse training.

It runs on Accelerate: one processor or GPU, or as many as ``accelerate launch`` starts it on. What
happens in a step depends on the seed and the step's number alone, so that a training that was
killed and goes on from its checkpoint ends, on one machine, with the same bits.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..data.split import Split
from ..errors import DataError, MissingExtra, StepError
from ..metric import get_metric
from ..record import Signature
from .augment import Augment
from .average import Average
from .batches import Part, Parts, ahead
from .checkpoint import Checkpoint, Checkpoints, State
from .compiling import faster
from .learning import Kept, judged, learning
from .movement import Movement
from .schedule import rate_at
from .teacher import Teachers
from .training import Progress, Session, Training

__all__ = ["History", "train"]

CHECKED = 16  # steps between looks at the losses, each of which waits for the device
SHOWN = 0.25  # seconds between calls of `Session.watch`
JUDGED = 256  # samples of a batch that is judged


@dataclass(frozen=True)
class History:
    """How a training went.

    Attributes:
        steps: done.
        losses: mean of each epoch, as far as this process saw it.
        validations: after each epoch; `what` they are.
        best: the validation of the weights that were kept.
        seconds: of this process.
    """

    steps: int
    what: str
    best: float | None = None
    losses: list[float] = field(default_factory=list)
    validations: list[float] = field(default_factory=list)
    seconds: float = 0.0


class _Learner(nn.Module):
    """Student and objective as one module, so that what wraps it sees all that learns."""

    def __init__(self, student: fx.GraphModule, objective: nn.Module, half: bool):
        super().__init__()
        self.student = student
        self.objective = objective
        self.half = half

    def forward(self, inputs: tuple[Tensor, ...], targets: Tensor | None, said: Any) -> Tensor:
        with torch.autocast(inputs[0].device.type, torch.bfloat16, self.half):
            outputs = self.student(*inputs)
        return self.objective(tuple(each.float() for each in outputs), targets, said)


def train(
    module: fx.GraphModule,
    objective: nn.Module,
    samples: Split,
    validation: Split,
    signature: Signature,
    training: Training,
    session: Session,
    *,
    teachers: Teachers | None = None,
    taps: Sequence[str] = (),
    scales: Sequence[str] = (),
) -> History:
    """Train a graph in place; it ends with the weights that validated best.

    Args:
        module: in the form of `Model.graph`, a copy (`Model.module`).
        objective: (outputs with taps, targets, what the teachers said) -> scalar loss; its own
            parameters learn too.
        samples, validation: to learn from and to choose by; share no sample.
        signature: of the model.
        taps: values of the student that the objective sees after the outputs.
        scales: names of learned scales (`learning.free_scales`).

    Raises:
        StepError: the loss became NaN or infinite (says at which step), or the disk is full.
        DataError: fewer samples than a batch has processes, or samples that cannot be read.
    """
    return _Run(
        module, objective, samples, validation, signature, training, session,
        teachers, tuple(taps), tuple(scales),
    ).run()  # fmt: skip


def _accelerator():
    try:
        from accelerate import Accelerator
    except ImportError:
        raise MissingExtra("Accelerate", "train") from None
    return Accelerator()


class _Run:
    """One training as it goes."""

    def __init__(
        self, module, objective, samples, validation, signature, training, session,
        teachers, taps, scales,
    ):  # fmt: skip
        self.training, self.session = training, session
        self.module, self.signature = module, signature
        self.validation = validation
        accelerator = self.accelerator = _accelerator()
        world = accelerator.num_processes
        batch = min(training.batch, len(samples) // world * world)
        if not batch:
            raise DataError(f"{len(samples)} training samples are too few for {world} processes")
        self.parts = Parts(
            samples, batch, training.seed, accelerator.process_index, world, session.accumulate
        )
        self.steps = max(1, round(training.epochs * self.parts.steps_per_epoch))
        classes = signature.outputs[0].shape[-1]
        self.augment = Augment(training.augment, signature.inputs[0], classes)
        identity = _identity(module, objective, samples, training)

        module.to(accelerator.device)
        objective.to(accelerator.device)
        _channels_last(module)
        half = session.precision == "bfloat16"
        self.teachers = None if teachers is None else teachers.to(accelerator.device, half)
        student = learning(module, taps, training.norms, world)
        self.judge = _Learner(judged(module, taps), objective, False).eval()
        learner = _Learner(student, objective, half)
        # torch's own, not Accelerate's, so that its state can be written as plain tensors.
        self.optimizer = _optimizer(learner, scales, training)
        learner = accelerator.prepare_model(learner)
        self.learner = faster(learner, self._loss_of_first) if session.compile else learner
        self.kept = Kept(module, scales)
        self.average = Average(module, training.average)
        self.movement = Movement(module, any(c.needs_movement for c in training.changes))
        self.best: dict[str, Tensor] = {}
        self.state = State(identity, 0)
        self.history = History(0, self._what())
        self.checkpoints = None
        if session.folder is not None:
            self.checkpoints = Checkpoints(Path(session.folder), identity)
        self.log = None

    # --- the loop --------------------------------------------------------------------------

    def run(self) -> History:
        started = time.monotonic()
        if self.checkpoints is not None and (found := self.checkpoints.last()):
            self._restore(found)
        if not self.state.finished:
            with self._open_log(), closing(self._read(self.state.step)) as ready:
                self._steps(ready)
            self._save(finished=True)
        if self.best:
            self._put(self.best)
        self.module.cpu()
        for tensor in [*self.module.parameters(), *self.module.buffers()]:
            tensor.data = tensor.data.contiguous()
        return replace(
            self.history,
            steps=self.state.step,
            best=self.state.best,
            seconds=time.monotonic() - started,
        )

    def _read(self, first: int) -> Iterator[list[Part]]:
        return ahead(lambda step: self.parts.of(step, self.augment), first, self.steps)

    def _steps(self, ready: Iterator[list[Part]]) -> None:
        training, session = self.training, self.session
        watch = session.watch if self.accelerator.is_main_process else None
        pending: list[Tensor] = []  # losses that nobody has looked at
        epoch: list[float] = []
        saved = shown = time.monotonic()
        per_epoch = self.parts.steps_per_epoch
        for step in range(self.state.step, self.steps):
            parts = next(ready)
            rate = self._set_rate(step)
            if self._change(step / self.steps):
                self.kept.look()
                self.state = replace(self.state, best=None, stale=0)  # of another model
            # Dropout and noise draw from torch's generator: the same ones whenever this step runs.
            of_step = training.seed * self.steps + step
            torch.manual_seed(of_step * self.parts.world + self.parts.rank)
            pending.append(self._step(parts))
            self.average.update(step, self.steps)
            self.state = replace(self.state, step=step + 1)
            now = time.monotonic()
            ends = (step + 1) % per_epoch == 0 or step + 1 == self.steps
            due = self.checkpoints is not None and now - saved >= session.every
            due = self._together(due)
            full = len(pending) >= CHECKED
            # Several processes must look at their losses together, whatever their clocks say.
            show = watch is not None and now - shown >= SHOWN and (full or self.parts.world == 1)
            if ends or due or show or full:
                epoch += self._check(pending)
                self._write_log(step, epoch[-1], rate)
            if ends:
                self.history.losses.append(math.fsum(epoch) / max(1, len(epoch)))
                epoch = []
                self._validate()
            if show or (ends and watch is not None):
                shown = now
                watch(self._progress(rate, epoch or self.history.losses[-1:]))
            if due:
                self._save()
                saved = time.monotonic()
            if ends and training.patience is not None and self.state.stale >= training.patience:
                break

    def _change(self, at: float) -> bool:
        scores, did = self.movement.scores, False
        for change in self.training.changes:
            did |= change(self.module, at, scores)
        return did

    def _step(self, parts: list[Part]) -> Tensor:
        """One step of the optimizer; the loss, mean over the parts of this process."""
        losses = []
        for i, part in enumerate(parts):
            inputs, targets, places = self._ready(part)
            said = self.teachers(inputs, places) if self.teachers is not None else ()
            last = i + 1 == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.learner):
                loss = self.learner(inputs, targets, said)
                self.accelerator.backward(loss / len(parts))
            losses.append(loss.detach())
        self.movement.update()
        clip = self.training.optimizer.clip
        if clip is not None:
            self.accelerator.clip_grad_norm_(self.learner.parameters(), clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.kept()
        return torch.stack(losses).mean() if len(losses) > 1 else losses[0]

    def _loss_of_first(self, learner: nn.Module) -> Tensor:
        inputs, targets, _ = self._ready(self.parts.of(0, self.augment)[0])
        said = self.teachers(inputs, None) if self.teachers is not None else ()
        return learner(inputs, targets, said)

    def _ready(self, part: Part):
        device = self.accelerator.device
        inputs = tuple(torch.from_numpy(a).to(device, non_blocking=True) for a in part.inputs)
        targets = None if part.targets is None else torch.from_numpy(part.targets).to(device)
        if not self.augment.names:
            return inputs, targets, part.places
        drawn = {name: torch.from_numpy(a).to(device) for name, a in part.drawn.items()}
        first, targets = self.augment(inputs[0], targets, drawn)
        return (first, *inputs[1:]), targets, None

    def _set_rate(self, step: int) -> float:
        optimizer = self.training.optimizer
        share = rate_at(self.training.schedule, optimizer.warmup, step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = optimizer.rate * share
        return optimizer.rate * share

    def _check(self, pending: list[Tensor]) -> list[float]:
        """The losses that were pending, mean over the processes.

        Raises:
            StepError: one is NaN or infinite.
        """
        losses = self.accelerator.reduce(torch.stack(pending).float(), "mean").tolist()
        first = self.state.step - len(losses)
        for i, loss in enumerate(losses):
            if not math.isfinite(loss):
                last = self.checkpoints.last() if self.checkpoints is not None else None
                kept = f"; the checkpoint of step {last.state.step} is sound" if last else ""
                raise StepError(
                    f"the loss became {loss} at step {first + i + 1} of {self.steps}{kept}: lower "
                    f"the learning rate ({self.training.optimizer.rate:g}) or clip the gradient"
                )
        pending.clear()
        return losses

    # --- judging ---------------------------------------------------------------------------

    def _what(self) -> str:
        """What validations are: accuracy where there are classes to compare with, else loss."""
        _, targets = self.validation.take(1)
        output = self.signature.outputs[0]
        classes = targets is not None and targets.dtype.kind == "i" and targets.ndim == 1
        return "accuracy" if classes and len(output.shape) == 2 and output.shape[1] > 1 else "loss"

    def _validate(self) -> None:
        """Judge the weights as they are, or their average; keep them if they are the best yet."""
        with self.average.in_place():
            value = self._judge()
            sign = 1 if self.history.what == "accuracy" else -1
            best = self.state.best
            better = best is None or sign * value > sign * best
            if better or value == best:  # of equals the one that learned longer
                self.best = {name: t.detach().clone() for name, t in self._tensors()}
            stale = 0 if better else self.state.stale + 1
            self.state = replace(self.state, best=value if better else best, stale=stale)
        self.history.validations.append(value)
        if self.log is not None:
            self.log.add_scalar(f"validation/{self.history.what}", value, self.state.step)

    @torch.no_grad()
    def _judge(self) -> float:
        """Each process judges all samples: what they decide by must be the same bits."""
        device = self.accelerator.device
        tally = get_metric("accuracy").tally()
        losses: list[tuple[float, int]] = []
        for arrays, targets in self.validation.batches(JUDGED):
            inputs = tuple(torch.from_numpy(a).to(device) for a in arrays)
            outputs = self.judge.student(*inputs)
            if self.history.what == "accuracy":
                tally.update(outputs[0].float().cpu().numpy(), targets)
                continue
            wanted = None if targets is None else torch.from_numpy(targets).to(device)
            said = self.teachers(inputs, None) if self.teachers is not None else ()
            losses.append((float(self.judge.objective(outputs, wanted, said)), len(arrays[0])))
        if self.history.what == "accuracy":
            return tally.compute().value
        return math.fsum(loss * n for loss, n in losses) / sum(n for _, n in losses)

    # --- what is kept ----------------------------------------------------------------------

    def _tensors(self) -> list[tuple[str, Tensor]]:
        return [*self.module.named_parameters(), *self.module.named_buffers()]

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, tensor in self._tensors():
            tensor.copy_(values[name])

    def _save(self, finished: bool = False) -> None:
        if self.checkpoints is None or not self.accelerator.is_main_process:
            return
        groups = {
            "student": dict(self._tensors()),
            "objective": self.judge.objective.state_dict(),
            "average": self.average.mean,
            "movement": self.movement.scores,
            "best": self.best,
            "optimizer": {
                f"{i}.{key}": value
                for i, state in self.optimizer.state_dict()["state"].items()
                for key, value in state.items()
                if isinstance(value, Tensor)
            },
        }
        tensors = {
            f"{group}/{name}": tensor.detach().cpu().contiguous().clone()
            for group, named in groups.items()
            for name, tensor in named.items()
        }
        self.state = replace(self.state, finished=finished)
        self.checkpoints.save(tensors, self.state)

    def _restore(self, found: Checkpoint) -> None:
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in found.tensors.items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = tensor.to(self.accelerator.device)
        self._put(groups["student"])
        self.judge.objective.load_state_dict(groups.get("objective", {}))
        for group, tensors in (("average", self.average.mean), ("movement", self.movement.scores)):
            for name, tensor in tensors.items():
                tensor.copy_(groups[group][name])
        self.best = groups.get("best", {})
        whole = self.optimizer.state_dict()
        for name, tensor in groups.get("optimizer", {}).items():
            i, _, key = name.partition(".")
            whole["state"].setdefault(int(i), {})[key] = tensor
        self.optimizer.load_state_dict(whole)
        self.kept.look()
        self.state = found.state

    # --- what is shown ---------------------------------------------------------------------

    def _progress(self, rate: float, losses: list[float]) -> Progress:
        recent = losses[-CHECKED:]
        shown = None
        if self.history.validations:
            shown = (self.history.what, self.history.validations[-1])
        return Progress(
            self.state.step, self.steps, math.fsum(recent) / max(1, len(recent)), rate, shown
        )

    @contextmanager
    def _open_log(self) -> Iterator[None]:
        if self.session.folder is None or not self.accelerator.is_main_process:
            yield
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtra("TensorBoard", "train") from None
        with SummaryWriter(str(self.session.folder), purge_step=self.state.step) as self.log:
            yield

    def _write_log(self, step: int, loss: float, rate: float) -> None:
        if self.log is not None:
            self.log.add_scalar("loss", loss, step + 1)
            self.log.add_scalar("rate", rate, step + 1)

    def _together(self, due: bool) -> bool:
        """The main process's word, on all: what follows waits for every process."""
        if self.parts.world == 1 or self.checkpoints is None:
            return due
        said = torch.tensor(float(due and self.accelerator.is_main_process))
        return bool(self.accelerator.reduce(said.to(self.accelerator.device), "sum") > 0)


def _optimizer(learner: nn.Module, scales: Sequence[str], training: Training):
    """Weights decay; biases, norms and scales do not."""
    settings = training.optimizer
    scales = {f"student.{name}" for name in scales}
    decays, others = [], []
    for name, parameter in learner.named_parameters():
        (decays if parameter.ndim > 1 and name not in scales else others).append(parameter)
    groups = [{"params": decays}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if settings.name == "adamw":
        betas = (settings.momentum, 0.999)
        return torch.optim.AdamW(groups, settings.rate, betas, weight_decay=settings.decay)
    return torch.optim.SGD(
        groups, settings.rate, settings.momentum, weight_decay=settings.decay,
        nesterov=settings.momentum > 0,
    )  # fmt: skip


def _channels_last(module: fx.GraphModule) -> None:
    """Convolution weights in the layout in which processors train them a third faster."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _identity(
    module: fx.GraphModule,
    objective: nn.Module,
    samples: Split,
    training: Training,
) -> str:
    """Tells this training from any other: what is trained, on what, how."""
    digest = hashlib.sha256(module.code.encode())
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(samples.indices.tobytes())
    digest.update(repr((training, objective, vars(objective).get("loss"))).encode())
    return digest.hexdigest()
