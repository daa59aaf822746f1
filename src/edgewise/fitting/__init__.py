"""Fit: a budget in, the artifact that holds it out.

    run = ew.fit("net.pt2", "cifar10.npz", budget=ew.Budget(max_drop=0.5, max_size="150kB"))
    print(run)          # the verdict on each budget, and what was chosen
    run.artifact        # the file; also in the run's folder, with the page and the recipe

`space` reads from the steps what may be tried; `search` has it made (`making`, `crew`), timed
(`clock`) and ranked; `stages` decide what is tried next; `proof` measures the choice on samples
that chose nothing, and `arms` what each step gave.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..compress.dequantize import Dequantize
from ..data import load_data
from ..devices import connect, timed
from ..edge.place import Place
from ..errors import InputError
from ..goals import Budget, Objective
from ..loading import load
from ..metric import get_metric
from ..model import Model
from ..run import Standing
from ..step import Recipe, Step
from .arms import compare_arms
from .cache import Cache
from .clock import Clock
from .closing import Told, close, made_again
from .crew import crew_of
from .fitted import Fitted, Folder
from .making import Maker
from .opening import reference, runtimes_on, space_for, study_in
from .quiet import Quiet
from .roles import assign
from .search import Limits, Search
from .stages import stages

__all__ = ["Fitted", "fit", "seconds_of"]

TIME = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PROOFS = 10  # a proof takes about so many times as long as a trial ...
MOST = 0.25  # ... and gets at most this share of the time that is allowed
ARMS = 0.1  # share of the time that is kept for what each step gave


def fit(
    model: Any,
    data: Any,
    *,
    budget: Budget,
    objective: str | Mapping[str, float] = "fastest",
    runtime: str | Sequence[str] = "auto",
    device: str | Place = "local",
    folder: str | os.PathLike[str] = "run",
    time: float | str | None = "30m",
    trials: int | None = None,
    train: bool = True,
    workers: int = 1,
    ray: str | None = None,
    threads: int | None = None,
    metric: str | Callable[..., Any] = "accuracy",
    seed: int = 0,
    storage: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    title: str | None = None,
    commands: Sequence[str] = (),
    watch: Callable[[Standing], None] = lambda standing: None,
) -> Fitted:
    """Find the recipe that holds a budget, prove what it gives, and keep all of it in a folder.

    What needs no training comes first, then what was cut is trained again, longer and longer where
    it promises most. Half of the evaluation samples choose; the others are looked at once, for the
    figures of the verdict. Stopped at any moment, the same call goes on; Ctrl-C ends the search
    and hands back the best so far.

    Args:
        model: a Model, or anything that `edgewise.load` takes. What is quantized in it is made
            float first, and all is compared with that.
        data: anything that `edgewise.load_data` takes. Without labels the drop is what the given
            model expects by its own probabilities.
        budget: what must hold.
        objective: what is wanted beyond: ``"fastest"``, ``"smallest"``, ``"accurate"``,
            ``"balanced"``, or weights as `Objective.of` takes them.
        runtime: one, or several to choose from; ``"auto"`` for all that work here.
        device: where latency and memory are measured; as of `edgewise.measure`.
        folder: is made where it does not exist; gets the chosen artifact (``best/``), the next best
            (``runners-up/``), ``best.pt2``, ``recipe.yaml`` for `edgewise apply`, ``report.html``,
            ``run.json`` and the records of all trials (``trials/``).
        time: the most it may take over all starts, the proof included: seconds, ``"30m"``,
            ``"2h"``; None for no limit.
        trials: the most recipes that are tried.
        train: whether what was cut may be trained again.
        workers: trials that are made at the same time, in processes of their own.
        ray: address of a Ray cluster that the workers run on, ``"auto"`` for the one of this
            machine.
        threads: of the runtime; by default as many as there are processors.
        metric: as `edgewise.measure` takes it.
        seed: of the division of the samples and of the sampler.
        storage: where Optuna keeps the search, as ``postgresql+psycopg://user@host/name``; by
            default a file in the folder.
        cache: folder of what was computed before; by default the user's.
        title: of the page; by default the model's name.
        commands: what to say on the page that makes the same again.
        watch: is shown how the search stands, several times a second at most.

    Raises:
        InputError: an option or a folder that cannot be used.
        DataError: the data do not fit, or are too few to choose and to test on.
        EdgewiseError: the given model itself cannot be lowered or run.
    """
    wanted = Objective.of(objective)
    seconds = None if time is None else seconds_of(time)
    if workers < 1 or (trials is not None and trials < 1):
        raise InputError(f"workers and trials must be at least 1, found {workers} and {trials}")
    if not timed(device) and any(figure == "latency" for figure, _ in wanted.weights):
        raise InputError(
            f"{device} is emulated, where time means nothing: choose an objective without latency, "
            "as size=1"
        )
    judged = get_metric(metric)
    name = title or _name(model)
    model = model if isinstance(model, Model) else load(model)
    first: tuple[Step, ...] = ()
    if model.quantized:  # as many a file is that is called float
        first = (Dequantize(),)
        model = Recipe(first)(model)
    roles = assign(load_data(data, model.signature, seed=seed), seed)
    kept = Folder.at(folder, _stem(name))
    store = Cache.at(cache)
    quiet = Quiet(Cache.at().path)
    maker = Maker(model, roles, judged, store, quiet)
    with connect(device) as place:
        runtimes, notes = runtimes_on(place, runtime)
        crew = crew_of(maker, workers, ray, metric, Cache.at().path)
        search = Search(
            space_for(model, roles, runtimes, budget, wanted, judged.name, train),
            budget,
            wanted,
            study_in(kept, storage, model, roles, runtimes, place, seed),
            crew,
            Clock(place, quiet, roles.selection, budget.percentile, threads),
            Limits(seconds, trials),
            watch,
        )
        maker.watch, maker.stopped = search.note, lambda: search.interrupted
        told = Told(name, objective, seed, metric, (*roles.notes, *notes), tuple(commands), first)
        try:
            with search.heeding_ctrl_c():
                search.clock.reference = reference(search, maker)
                proof = min(PROOFS * search.reference.seconds, MOST * (seconds or 0.0))
                search.limits = Limits(seconds, trials, proof + ARMS * (seconds or 0.0))
                for _ in stages(search):
                    pass
                stopped = search.over or "nothing better was found"
                search.limits = Limits(seconds, None, proof)
                chosen = search.confirm(lambda trial: made_again(search, maker, trial).artifact)
                arms = compare_arms(search, chosen)
                return close(search, chosen, arms, stopped, maker, kept, told)
        finally:
            crew.close()
            store.trim()


def seconds_of(time: float | str) -> float:
    """Seconds, as a number or as ``"90s"``, ``"30m"``, ``"2h"``.

    Raises:
        InputError: it is neither.
    """
    match = re.fullmatch(r"([0-9.]+)\s*([smhd]?)", str(time).strip().lower())
    try:
        seconds = float(match[1]) * TIME[match[2] or "s"] if match else 0.0
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise InputError(f"a time is above 0 and in s, m or h, as 30m, found '{time}'")
    return seconds


def _name(model: Any) -> str:
    return Path(model).name if isinstance(model, str | os.PathLike) else "model"


def _stem(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(name.rpartition(":")[2]).stem) or "model"
