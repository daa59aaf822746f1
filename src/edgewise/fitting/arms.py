"""Arms: the chosen recipe with one thing changed, to see what each step gave and what cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..compress.prune import Prune
from ..run import Arm, Trial
from ..step import Recipe
from ..train import Distill
from .search import ABLATION, Search
from .space import CUTS, FLOAT, Point, scheme_of

__all__ = ["compare_arms"]


def compare_arms(search: Search, chosen: Trial) -> tuple[Arm, ...]:
    """Ablation, and the controls of pruning, as far as time allows; what was not run says why."""
    point = search.point_of(chosen)
    found = []
    for name, other in _without(search, point):
        if (reason := _too_long(search, other)) and search.known(other) is None:
            found.append(Arm(name, reason=reason))
            continue
        trials = search.run([other], ABLATION)
        found.append(_arm(name, trials[0] if trials else None, search))
    if any(point[cut] for cut in search.space.cuts):
        recipe = search.space.recipe(point)
        cuts = sum(bool(point[cut]) for cut in search.space.cuts)
        for name, controlled, fresh in (
            ("random units", _at_random(recipe), 0),
            ("trained from scratch", recipe, cuts),
        ):
            if controlled is None or (fresh and not point.get("recovery")):
                continue
            reason = _too_long(search, point)
            trial = None if reason else search.control(controlled, point["runtime"], fresh)
            found.append(Arm(name, reason=reason) if reason else _arm(name, trial, search))
    return tuple(found)


def _without(search: Search, point: Point) -> Iterator[tuple[str, Point]]:
    """The point with each of its parts left out."""
    for name in (*CUTS, "recovery", "equalize", "condense", "roundweights"):
        if point.get(name):
            yield f"without {name}", search.space.near(point, {name: type(point[name])(0)})
    if scheme_of(point) != FLOAT:
        yield "without quantize", search.space.near(point, {f"scheme.{point['runtime']}": FLOAT})


def _at_random(recipe: Recipe) -> Recipe | None:
    steps = [replace(s, criterion="random") if isinstance(s, Prune) else s for s in recipe.steps]
    return Recipe(tuple(steps)) if steps != list(recipe.steps) else None


def _too_long(search: Search, point: Point) -> str:
    """Why there is no time for it; empty where there is."""
    if search.over:
        return f"not run: {search.over}"
    epochs = sum(
        s.training.epochs for s in search.space.recipe(point).steps if isinstance(s, Distill)
    )
    seconds = search.pace * epochs
    if seconds <= search.left:
        return ""
    return f"not run: it trains for about {seconds:.0f} s, and {search.left:.0f} s were left"


def _arm(name: str, trial: Trial | None, search: Search) -> Arm:
    if trial is None:
        return Arm(name, reason=f"not run: {search.over}")
    return Arm(name, trial.number, trial.reason)
