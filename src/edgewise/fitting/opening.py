"""Opening: what a search begins with: runtimes, what may be tried, its memory, its reference."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
import torch

from ..edge.artifact import Artifact
from ..edge.doctor import examine
from ..edge.place import Place
from ..edge.runners import RUNTIMES
from ..errors import EdgewiseError, InputError, MissingExtra
from ..goals import Budget, Figures, Objective
from ..graph.axes import analyse
from ..graph.blocks import blocks
from ..graph.fold import CONVOLUTIONS, constant
from ..model import Model
from .cache import digest_of_data, digest_of_model
from .fitted import Folder
from .lessons import learning_for
from .making import Maker, Task
from .roles import Roles
from .search import Search
from .space import CUTS, FLOAT, Space, schemes_for

__all__ = ["reference", "runtimes_on", "space_for", "study_in"]

LINEAR = torch.ops.aten.linear.default
REGRESSION = ("mse", "mae")  # metrics of outputs that are no scores of classes
IDENTITY = "identity"  # what a study is of


def runtimes_on(
    place: Place, asked: str | Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that work on the device, and why others are left out.

    Raises:
        InputError: an unknown runtime.
        MissingExtra: none works there.
    """
    names = (
        list(RUNTIMES) if asked == "auto" else [asked] if isinstance(asked, str) else list(asked)
    )
    if unknown := [n for n in names if n not in RUNTIMES]:
        raise InputError(
            f"unknown runtime '{unknown[0]}': choose of {', '.join(RUNTIMES)}, or auto"
        )
    probes = examine(names, place=place)
    found = [p.runtime for p in probes if p.state == "works"]
    problems = [f"Left out: {p.problem}" for p in probes if p.state != "works"]
    if not found:
        raise MissingExtra("a runtime that works here", "onnxruntime,litert,openvino")
    return tuple(found), tuple(problems)


def space_for(
    model: Model,
    roles: Roles,
    runtimes: tuple[str, ...],
    budget: Budget,
    objective: Objective,
    metric: str,
    train: bool,
) -> Space:
    """What may be tried with this model, these samples and these budgets."""
    sizes = {"conv": 0, "linear": 0}
    for node in model.graph.graph.nodes:
        if (
            node.target in CONVOLUTIONS
            and (weight := constant(model.graph, node.args[1])) is not None
        ):
            sizes["linear" if node.target is LINEAR else "conv"] += weight.numel()
    residual = len(blocks(model.graph, model.signature))
    cuts = {"prune": bool(analyse(model.graph, model.signature).groups), "shorten": residual > 0}
    small = any(x.figure == "download_bytes" for x in budget.limits) or any(
        name == "download" for name, _ in objective.weights
    )
    return Space(
        runtimes,
        {name: schemes_for(name, sizes) for name in runtimes},
        tuple(name for name in CUTS if cuts[name]),
        residual,
        small,
        learning_for(model, roles, metric not in REGRESSION) if train else None,
    )


def study_in(
    folder: Folder,
    storage: str | None,
    model: Model,
    roles: Roles,
    runtimes: tuple[str, ...],
    place: Place,
    seed: int,
) -> optuna.Study:
    """Optuna's study, new or from an earlier start.

    Args:
        storage: a URL of SQLAlchemy's; None for a file in the folder.

    Raises:
        InputError: it cannot be opened, or is of another model, other samples or another seed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity = {
        "model": digest_of_model(model),
        "data": f"{digest_of_data(roles.data)} {len(roles.selection)}",
        "runtime": ",".join(runtimes),
        "device": place.name,
        "seed": str(seed),
    }
    url = storage or f"sqlite:///{(folder.path / 'search.db').resolve()}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of `group`
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    try:
        study = optuna.create_study(
            storage=url,
            study_name=str(folder.path.resolve()) if storage else "fit",
            sampler=sampler,
            directions=["minimize"] * 3,
            load_if_exists=True,
        )
    except Exception as error:  # SQLAlchemy's and each driver's own
        raise InputError(
            f"the search cannot be kept in {url.rpartition('@')[2]}: {str(error).splitlines()[0]}"
        ) from None
    before = study.user_attrs.get(IDENTITY)
    if before is not None and before != identity:
        other = ", ".join(k for k in identity if before.get(k) != identity[k])
        raise InputError(
            f"{folder.path} holds a search with another {other}: give -o another folder"
        )
    study.set_user_attr(IDENTITY, identity)
    return study


def reference(search: Search, maker: Maker) -> Artifact:
    """The given model in float on the first runtime that takes it, which all is compared with.

    Raises:
        EdgewiseError: none does.
    """
    reasons = []
    for runtime in search.space.runtimes:
        point = search.space.near({}, {"runtime": runtime, f"scheme.{runtime}": FLOAT})
        found = search.run([point], "as it is")
        if found and found[0].figures is not None:
            _check_energy(search, found[0].figures)
            return maker(Task(search.space.recipe(point), runtime)).artifact
        if search.over:
            raise EdgewiseError(f"nothing was found yet: {search.over}")
        reasons += [f"{runtime}: {t.reason}" for t in found]
    raise EdgewiseError("the given model runs nowhere as it is: " + "; ".join(reasons))


def _check_energy(search: Search, figures: Figures) -> None:
    """Whoever asks for energy hears at once that nobody counts it.

    Raises:
        InputError: so it is.
    """
    wanted = {name for name, weight in search.objective.weights if weight}
    bounded = {limit.figure for limit in search.budget.limits}
    if ("energy" in wanted or "energy_mj" in bounded) and figures.energy_mj is None:
        raise InputError(
            "energy is not counted here: Linux has it in /sys/class/powercap/intel-rapl:0 where "
            "the processor tells, and shows it to root alone; run as root, or bound the latency"
        )
