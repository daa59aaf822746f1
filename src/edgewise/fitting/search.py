"""Search: points are asked for, made, timed, told to Optuna, and ranked; the stages say which."""

from __future__ import annotations

import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.trial import Trial as Asked
from optuna.trial import TrialState

from ..edge.artifact import Artifact
from ..errors import EdgewiseError, InputError
from ..goals import Budget, Objective
from ..recipes import rows
from ..record import decode, encode
from ..run import Standing, Trial
from ..step import Recipe
from .clock import Clock
from .crew import Crew
from .making import Made, OutOfTime, Task
from .ranking import Ranking, steady_values
from .space import Point, Space

__all__ = ["ABLATION", "Limits", "Search"]

RECORD, SPENT, PACE = "trial", "seconds", "pace"  # what a study keeps
ABLATION, CONTROL = ASIDE = ("ablation", "control")  # stages that only compare
REPEATS = 100  # suggestions of what was tried already
FEW, CLOSE = 6, 0.4  # as many are timed anew, whose costs differ by less than that (a third)


@dataclass(frozen=True)
class Limits:
    """When a search ends at the latest.

    Attributes:
        seconds: over all starts of the same run; None for no limit.
        trials: likewise.
        reserve: seconds of these for the proof at the end.
    """

    seconds: float | None = None
    trials: int | None = None
    reserve: float = 0.0


@dataclass
class Search:
    """What is known so far, and how more comes to be known.

    Attributes:
        space, budget, objective: as asked.
        study: Optuna's; every trial's record lies in it, so that a search that was stopped begins
            anew and finds what it had found.
        crew: makes files.
        clock: times them.
        limits: when it ends.
        watch: is shown how it stands.
        pace: seconds of an epoch, the longest that was seen.
    """

    space: Space
    budget: Budget
    objective: Objective
    study: optuna.Study
    crew: Crew
    clock: Clock
    limits: Limits
    watch: Callable[[Standing], None]
    trials: list[Trial] = field(default_factory=list)
    points: dict[int, Point] = field(default_factory=dict)
    doing: dict[int, str] = field(default_factory=dict)
    interrupted: bool = False
    stage: str = ""
    confirmed: set[int] = field(default_factory=set)
    _asked: list[tuple[Asked, Point]] = field(default_factory=list)

    def __post_init__(self):
        self.spent = self.study.user_attrs.get(SPENT, 0.0)
        self.pace = self.study.user_attrs.get(PACE, 0.0)
        self._begun = time.monotonic()
        for asked in self.study.get_trials(deepcopy=False):
            if asked.state is TrialState.WAITING:  # enqueued, when the search was stopped
                self.study.tell(self.study.ask(), state=TrialState.FAIL)
            elif asked.state is TrialState.RUNNING:  # begun then
                self.study.tell(asked.number, state=TrialState.FAIL)
            elif RECORD in asked.user_attrs:
                trial = decode(asked.user_attrs[RECORD].encode(), Trial, "the search's storage")
                self._keep(trial, asked.params)
        for name, text in self.study.user_attrs.items():
            if name.startswith(f"{RECORD} "):
                sure = decode(text.encode(), Trial, "the search's storage")
                self.trials = [sure if t.number == sure.number else t for t in self.trials]
                self.confirmed.add(sure.number)

    # --- Time -----------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Spent over all starts."""
        return self.spent + time.monotonic() - self._begun

    @property
    def left(self) -> float:
        """Seconds until the proof must begin."""
        if self.limits.seconds is None:
            return math.inf
        return self.limits.seconds - self.limits.reserve - self.seconds

    @property
    def share(self) -> float:
        """Of the time that is spent; 0 without a limit."""
        return 0.0 if self.limits.seconds is None else self.seconds / self.limits.seconds

    @property
    def over(self) -> str:
        """Why no trial is begun any more; empty while there may be more."""
        if self.interrupted:
            return "it was interrupted; the same command goes on"
        if self.limits.trials is not None and len(self.trials) >= self.limits.trials:
            return f"{len(self.trials)} trials were allowed"
        if self.left <= 0:
            return "its time was up"
        return ""

    @contextmanager
    def heeding_ctrl_c(self) -> Iterator[None]:
        """Ctrl-C ends the search with the best so far; another one ends everything."""
        if threading.current_thread() is not threading.main_thread():  # where no signal arrives
            yield
            return

        def stop(number: int, frame: object) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, before)

        before = signal.signal(signal.SIGINT, stop) or signal.default_int_handler
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # --- Trials ---------------------------------------------------------------------------------

    def run(self, points: Iterable[Point], stage: str) -> list[Trial]:
        """The trials of these points, in their order; those that are known are not made again.

        Fewer where the search is over before.
        """
        points = list(points)
        waiting = [p for p in _once(points) if self.known(p) is None]
        running: dict[Future[Made], tuple[Asked, Point, float]] = {}
        while (waiting and not self.over) or (running and not self.interrupted):
            while waiting and len(running) < self.crew.size and not self.over:
                self._begin(waiting.pop(0), stage, running)
            done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                self._end(future, *running.pop(future), stage)
            self.show(stage)
        for asked, _, _ in running.values():
            self._forget(asked)
        return [trial for p in points if (trial := self.known(p)) is not None]

    def control(self, recipe: Recipe, runtime: str, cuts: int = 0) -> Trial | None:
        """A trial beside the search, which is never chosen; None where the search is over.

        Args:
            cuts: steps after which the weights are drawn anew; 0 keeps them.
        """
        steps = rows(recipe)
        steps = tuple([*steps[:cuts], {"fresh": {}}, *steps[cuts:]] if cuts else steps)
        for trial in self.trials:
            if (trial.stage, trial.steps, trial.runtime) == (CONTROL, steps, runtime):
                return trial
        if self.over:
            return None
        asked = self.study.ask()
        self.doing[asked.number] = f"control: {_told(recipe, runtime)}"
        self.show(CONTROL)
        trial = Trial(asked.number, CONTROL, runtime, self.clock.threads, steps)
        deadline = None if self.left == math.inf else time.time() + self.left
        begun = time.monotonic()
        future = self.crew.submit(Task(recipe, runtime, deadline, cuts))
        while not future.done() and not self.interrupted:
            wait([future], timeout=0.5)
        if not future.done():
            self._forget(asked)
            return None
        return self._close(asked, trial, future, begun, {})

    def confirm(self, artifact_of: Callable[[Trial], Artifact]) -> Trial | None:
        """The one to choose, after the best few were timed in turns, and longer than while there
        were many."""
        ranked = self.ranked
        if not ranked:
            return None
        cost = self.ranking.cost
        few = [t for t in ranked if abs(cost(t) - cost(ranked[0])) <= CLOSE][:FEW]
        if len(few) == 1 or {t.number for t in few} <= self.confirmed:
            return ranked[0]
        found = self.clock.again([(artifact_of(t), t.figures) for t in few])
        for k, (trial, figures) in enumerate(zip(few, found, strict=True)):
            few[k] = sure = replace(trial, figures=figures)
            self.trials[self.trials.index(trial)] = sure
            self.confirmed.add(trial.number)
            self.study.set_user_attr(f"{RECORD} {trial.number}", encode(sure).decode())
        return self.ranking.order(few)[0]

    def suggest(self, allowed: Callable[[Point], bool], fixed: Point | None = None) -> Point | None:
        """What Optuna's sampler would try next, of what is allowed and was not tried; None where
        it finds nothing such.

        Args:
            fixed: values that it shall not change.
        """
        sampler = self.study.sampler
        try:
            if fixed:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    self.study.sampler = optuna.samplers.PartialFixedSampler(fixed, sampler)
            for _ in range(REPEATS):
                asked = self.study.ask()
                point = self.space.ask(asked)
                if self.known(point) is None and allowed(point):
                    self._asked.append((asked, point))
                    return point
                self.study.tell(asked, state=TrialState.FAIL)
        finally:
            self.study.sampler = sampler
        return None

    def known(self, point: Point) -> Trial | None:
        """The trial of a point, where there is one."""
        number = next((n for n, p in self.points.items() if p == point), None)
        return None if number is None else next(t for t in self.trials if t.number == number)

    def point_of(self, trial: Trial) -> Point:
        """The point that a trial was made of."""
        return self.points[trial.number]

    def note(self, what: str) -> None:
        """Say what this process does at the moment."""
        if self.doing:
            self.doing[next(iter(self.doing))] = what
            self.show(self.stage)

    def show(self, stage: str) -> None:
        """Tell who watches how it stands."""
        best, self.stage = self.best, stage
        self.watch(
            Standing(
                stage=stage,
                done=len(self.trials),
                failed=sum(t.figures is None for t in self.trials),
                limits=() if best is None else self.budget.verdicts(best.figures),
                best="" if best is None else best.name,
                seconds=self.seconds,
                limit=self.limits.seconds,
                doing=tuple(self.doing.values()),
            )
        )

    def _begin(
        self, point: Point, stage: str, running: dict[Future[Made], tuple[Asked, Point, float]]
    ) -> None:
        asked = next((asked for asked, of in self._asked if of == point), None)
        if asked is None:
            self.study.enqueue_trial(point)
            asked = self.study.ask()
            if self.space.ask(asked) != point:
                raise InputError("another search writes to this storage: give one of its own")
        recipe = self.space.recipe(point)
        self.doing[asked.number] = _told(recipe, point["runtime"])
        self.show(stage)
        deadline = None if self.left == math.inf else time.time() + self.left
        begun = time.monotonic()
        future = self.crew.submit(Task(recipe, point["runtime"], deadline))
        running[future] = asked, point, begun

    def _end(
        self, future: Future[Made], asked: Asked, point: Point, begun: float, stage: str
    ) -> None:
        steps = tuple(rows(self.space.recipe(point)))
        trial = Trial(asked.number, stage, point["runtime"], self.clock.threads, steps)
        self._close(asked, trial, future, begun, point)

    def _close(
        self, asked: Asked, trial: Trial, future: Future[Made], begun: float, point: Point
    ) -> Trial | None:
        """Time what was made, and write it down; None where it was not made to its end."""
        try:
            made = future.result()
            figures = self.clock(made.artifact, made.figures)
        except OutOfTime:  # there may be more of it when the search is begun anew
            self._forget(asked)
            return None
        except EdgewiseError as error:
            trial = replace(trial, reason=str(error))
        else:
            trial = replace(trial, figures=figures, agreement=made.agreement)
            if made.epochs:
                self.pace = max(self.pace, made.training / made.epochs)
        trial = replace(trial, seconds=time.monotonic() - begun)
        self.doing.pop(asked.number, None)
        asked.set_user_attr(RECORD, encode(trial).decode())
        if trial.figures is None or not point:
            self.study.tell(asked, state=TrialState.FAIL)
        else:
            for limit in self.budget.limits:
                asked.set_constraint(limit.name, limit.excess(trial.figures))
            self.study.tell(asked, steady_values(trial.figures))
        self.study.set_user_attr(SPENT, self.seconds)
        self.study.set_user_attr(PACE, self.pace)
        self._keep(trial, point)
        return trial

    def _forget(self, asked: Asked) -> None:
        """A trial that did not come to its end."""
        self.doing.pop(asked.number, None)
        self.study.tell(asked, state=TrialState.FAIL)

    def _keep(self, trial: Trial, point: dict[str, Any]) -> None:
        self.trials.append(trial)
        if point:
            self.points[trial.number] = self.space.near({}, point)

    # --- Judgement ------------------------------------------------------------------------------

    @property
    def good(self) -> list[Trial]:
        """The trials that have figures and may be chosen."""
        return [t for t in self.trials if t.figures is not None and t.stage not in ASIDE]

    @property
    def reference(self) -> Trial:
        """The given model in float, which is the first that is run.

        Raises:
            EdgewiseError: it was not.
        """
        for trial in self.trials:
            if not trial.steps and trial.figures is not None:
                return trial
        raise EdgewiseError("the given model was not run yet")

    @property
    def ranking(self) -> Ranking:
        """What makes one trial better than another.

        Raises:
            EdgewiseError: as above.
        """
        return Ranking(self.budget, self.objective, self.reference.figures)

    @property
    def ranked(self) -> list[Trial]:
        """All that may be chosen, in that order."""
        return self.ranking.order(self.good) if self.good else []

    @property
    def best(self) -> Trial | None:
        """The one to choose now."""
        return next(iter(self.ranked), None)


def _once(points: Iterable[Point]) -> list[Point]:
    found: list[Point] = []
    for point in points:
        if point not in found:
            found.append(point)
    return found


def _told(recipe: Recipe, runtime: str) -> str:
    names = [type(step).__name__.lower() for step in recipe.steps]
    return f"{' + '.join(names) or 'float'} on {runtime}"
