"""Runs to try the renderers on: one as a search on a small net makes it, and poor ones."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import strategies as st

from edgewise.explaining import Explanation, OperatorTime
from edgewise.explaining.findings import Finding
from edgewise.goals import Budget, Figures
from edgewise.record import Agreement, Curves, Damage, Latency, Measurement
from edgewise.run import Arm, Classes, LayerChange, Proof, Run, Samples, Trial

from .reports import NAME, maybe

__all__ = ["BEST", "LAYERS", "fit_like", "hostile", "missed", "poor", "runs", "unlabelled"]

MACHINE = {"cpu": "Cortex-A72", "cores": 4, "memory_bytes": 4_000_000_000, "flags": ["asimd"]}
VERSIONS = {"edgewise": "0.1.0", "onnxruntime": "1.31.0", "torch": "2.13.0"}
LAYERS = ("stem", "stage1.0.first", "stage1.0.second", "stage2.0.first", "stage2.0.second", "head")
LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
REFERENCE = Figures(
    0.9173, 0.0, (0.0, 0.0), 2000, 2.41, 1.0, None, 1_098_211, 1_020_000, 9_800_000, 40_550_000,
    269_722,
)  # fmt: skip
PRUNE = {"prune": {"amount": 0.5, "of": "macs", "reconstruct": True}}
DISTILL = {"distill": {"alpha": 1.0, "training": {"epochs": 5, "augment": ["crop", "flip"]}}}
QUANTIZE = {"quantize": {"ranges": "auto"}}
BEST = 17


def fit_like(**changes) -> Run:
    """25 trials on three runtimes, two of which failed; every budget holds."""
    budget = changes.pop("budget", Budget(max_drop=0.5, max_latency="1ms", max_size="200kB"))
    figures = Figures(
        0.9136, 0.37, (0.09, 0.65), 10_000, 0.702, 0.291, (0.283, 0.301), 161_204, 139_900,
        6_100_000, 19_800_000, 131_000,
    )  # fmt: skip
    proof = Proof(
        _measured("given.onnx", 0.9173, 2.41, 1_098_211),
        _measured("best.onnx", 0.9136, 0.702, 161_204),
        figures,
        budget.verdicts(figures),
        tuple(map(_layer, range(len(LAYERS)), LAYERS)),
        _classes(),
        (_explained("given.onnx", 2.3, 1.0), _explained("best.onnx", 0.69, 0.3)),
    )
    trials = _trials()
    run = Run(
        model="ResNet-20 of 269,722 parameters, from net.pt2",
        created="2026-11-22T21:40:00+00:00",
        budget=budget,
        objective="balanced",
        seed=7,
        samples=Samples(512, 40_000, 2000, 10_000, True),
        metric="accuracy",
        device="local",
        trials=trials,
        reference=0,
        best=BEST,
        front=_front(trials),
        runners_up=(14, 16),
        proof=proof,
        arms=(
            Arm("without prune", 21),
            Arm("without distill", 22),
            Arm("without quantize", 23),
            Arm("random units", 24),
            Arm("trained from scratch", None, "the time limit of 1,800 s was reached"),
        ),
        curves=(
            Curves(
                "l1", 256,
                tuple(
                    Damage(layer, amount, amount / (i + 2), amount / 3, 0.91 - amount / (2 + i))
                    for i, layer in enumerate(LAYERS[:4]) for amount in (0.25, 0.5, 0.75)
                ),
                "accuracy", 0.9173,
            ),
        ),
        stopped="the time limit of 1,800 s was reached",
        seconds=1796.4,
        notes=("Latency is of one inference on 2 threads.", "int4 was not tried: no kernels."),
        commands=(
            "edgewise fit net.pt2 --data cifar10.npz --max-drop 0.5 --max-latency 1ms "
            "--max-size 200kB -o run/",
            "edgewise apply run/recipe.yaml net.pt2 --data cifar10.npz -o best.pt2",
        ),
        machine=MACHINE,
        versions=VERSIONS,
    )  # fmt: skip
    return replace(run, **changes)


def unlabelled() -> Run:
    """The same without targets: judged by what the given model expects."""
    run = fit_like()
    return replace(
        run,
        metric="expected accuracy",
        samples=replace(run.samples, labelled=False),
        proof=replace(run.proof, classes=None),
    )


def missed() -> Run:
    """A budget that stands in the way."""
    return fit_like(budget=Budget(max_drop=0.1, max_latency="0.5ms", max_size="200kB"))


def hostile(evil: str) -> Run:
    """The same with evil in every name and sentence."""
    run = fit_like()
    proof = run.proof
    return replace(
        run,
        **dict.fromkeys(("model", "created", "objective", "metric", "device", "stopped"), evil),
        trials=tuple(
            replace(
                t, stage=evil, runtime=evil, artifact=evil, reason=t.reason and evil,
                steps=({evil: {evil: evil}},),
            )
            for t in run.trials
        ),
        proof=replace(
            proof,
            before=replace(proof.before, subject=evil, runtime=evil),
            after=replace(proof.after, subject=evil, runtime=evil),
            layers=tuple(replace(row, layer=evil + row.layer) for row in proof.layers),
            classes=replace(proof.classes, labels=(evil,) * len(LABELS)),
            explained=tuple(
                replace(
                    e, subject=evil, runtime=evil, version=evil,
                    operators=tuple(
                        replace(o, layer=evil, kind=evil, kernel=evil) for o in e.operators
                    ),
                    findings=(Finding(evil, evil, evil, 1.0, 0.5, (evil,)),),
                )
                for e in proof.explained
            ),
        ),
        arms=tuple(replace(a, name=evil, reason=a.reason and evil) for a in run.arms),
        curves=tuple(
            replace(c, criterion=evil, rows=tuple(replace(r, group=evil) for r in c.rows))
            for c in run.curves
        ),
        notes=(evil,),
        commands=(evil,),
        machine={evil: evil, "board": evil},
        versions={evil: evil},
    )  # fmt: skip


def _trials() -> tuple[Trial, ...]:
    found = [Trial(0, "float", "onnxruntime", 2, (), REFERENCE, artifact="trials/0.onnx")]
    for i, runtime in enumerate(("litert", "openvino")):
        found.append(Trial(1 + i, "float", runtime, 2, (), _figures(1.0 + 0.3 * i, 1.0, 0.0)))
    for i, runtime in enumerate(("onnxruntime", "litert", "openvino")):
        found.append(
            Trial(3 + i, "int8", runtime, 2, (QUANTIZE,), _figures(0.42 + 0.2 * i, 0.26, 0.05 * i))
        )
    found.append(
        Trial(
            6, "int8", "executorch", None, (QUANTIZE,),
            reason="RuntimeFailure: the runtime ended with signal 11 while it opened the file",
        )
    )  # fmt: skip
    for i in range(7, 21):
        amount = round(0.2 + 0.05 * (i - 7), 2)
        steps = ({"prune": {**PRUNE["prune"], "amount": amount}}, DISTILL, QUANTIZE)
        loss = 0.1 + 6 * max(0.0, amount - 0.55) ** 1.8 + 0.25 * (i % 3 == 1) + 40 * (i == 19)
        ratio = 0.42 - 0.24 * amount + 0.03 * (i % 2)
        found.append(
            Trial(
                i, "recovery", ("onnxruntime", "litert")[i % 5 == 3], 2, steps,
                _figures(ratio, 0.24 - 0.14 * amount, loss), Agreement(0.999, 1, 0.01, 0.1, 64,
                "data"), f"trials/{i}.onnx" if i in (14, 16, BEST) else None, 61.5 + i,
            )
        )  # fmt: skip
    arms = ((QUANTIZE,), 0.41, 0.26, 0.1), ((PRUNE, QUANTIZE), 0.3, 0.15, 4.2)
    arms += ((PRUNE, DISTILL), 0.72, 0.6, 0.2), ((PRUNE, DISTILL, QUANTIZE), 0.3, 0.15, 2.1)
    for i, (steps, *rest) in enumerate(arms):
        found.append(Trial(21 + i, "ablation", "onnxruntime", 2, steps, _figures(*rest)))
    found.append(Trial(25, "recovery", "litert", 2, (PRUNE,), reason="stopped with the search"))
    return tuple(found)


def _front(trials: tuple[Trial, ...]) -> tuple[int, ...]:
    costs = {
        t.number: (t.figures.drop, t.figures.ratio, t.figures.size_bytes)
        for t in trials
        if t.figures and t.stage != "ablation"
    }
    return tuple(
        number
        for number, cost in costs.items()
        if not any(
            other != cost and all(a <= b for a, b in zip(other, cost, strict=True))
            for other in costs.values()
        )
    )


def _figures(ratio: float, size: float, drop: float) -> Figures:
    return Figures(
        0.9173 - drop / 100, drop, (drop - 0.5, drop + 0.5), 2000, 2.41 * ratio, ratio,
        (0.97 * ratio, 1.03 * ratio), int(1_098_211 * size), int(990_000 * size),
        macs=int(40_550_000 * min(1, ratio * 1.6)), parameters=int(269_722 * size),
    )  # fmt: skip


def _measured(file: str, value: float, p50: float, size: int) -> Measurement:
    return Measurement(
        f"run/{file}", "onnxruntime", "local", "accuracy", value, 10_000,
        (value - 0.0055, value + 0.0055), Latency(p50, 700, 2, 1, 1.2 * p50, 1.9 * p50),
        8_000_000, size, 3.25, Agreement(0.9995, 1.0, 0.02, 0.01, 512, "data"),
        machine=MACHINE, versions=VERSIONS,
    )  # fmt: skip


def _layer(i: int, name: str) -> LayerChange:
    wide, narrow = 16 << (i // 2), max(3, (16 << (i // 2)) * (6 - i) // 8)
    before, after = (wide, wide, 3, 3), None if i == 2 else (narrow, narrow, 3, 3)
    macs = math.prod(before) * 1024 >> i
    share = 0 if after is None else math.prod(after) / math.prod(before)
    times = (None, None) if i == 4 else (320.0 / (i + 1), None if i == 2 else 90.0 / (i + 1))
    return LayerChange(name, (before, after), (macs, int(macs * share)), 8, 0.1 * i, times)


def _classes() -> Classes:
    def counts(shift: int) -> tuple[tuple[int, ...], ...]:
        rows = []
        for true in range(10):
            row = [5 + (true * other + shift) % 7 for other in range(10)]
            row[(true + 2) % 10] += shift * true
            row[true] = 0
            row[true] = 1000 - sum(row)
            rows.append(tuple(row))
        return tuple(rows)

    return Classes(tuple(LABELS), counts(0), counts(6))


def _explained(file: str, latency: float, scale: float) -> Explanation:
    times = [320.0 * scale / (i + 1) for i in range(len(LAYERS))]
    return Explanation(
        f"run/{file}", "onnxruntime", "1.31.0", 1, 50, "local", latency,
        tuple(
            OperatorTime(name, "QLinearConv", "MlasConv", us, us / sum(times), i == 4)
            for i, (name, us) in enumerate(zip(LAYERS, times, strict=True))
        ),
        (
            Finding(
                "not-fused", "An activation runs by itself after its convolution.",
                "lower the file with edgewise", 30.0, 0.11, ("stage1.0.first",),
            ),
        ),
    )  # fmt: skip


def poor() -> Run:
    """Nothing could be run."""
    failed = tuple(
        replace(t, figures=None, artifact=None, reason="no compiler was found") for t in _trials()
    )
    return fit_like(
        trials=failed, best=None, proof=None, front=(), runners_up=(), arms=(), curves=()
    )


def runs() -> st.SearchStrategy[Run]:
    """Any run: figures there or not, whatever they are."""
    some = st.integers(0, 10**12) | st.just(1)
    real = st.floats(-1e3, 1e9) | st.sampled_from([0.0, 1.0])
    pair = st.tuples(real, real)
    figures = st.builds(
        Figures, value=maybe(real), drop=maybe(real), drop_ci95=maybe(pair),
        latency_ms=maybe(st.floats(0, 1e6)), ratio=maybe(st.floats(0, 1e6)),
        ratio_ci95=maybe(pair), size_bytes=maybe(some), download_bytes=maybe(some),
    )  # fmt: skip
    trial = st.builds(
        Trial, st.just(0), NAME, st.sampled_from("abcde"), maybe(st.integers(1, 9)),
        st.lists(st.dictionaries(NAME, st.just({"a": 0.5}), min_size=1, max_size=1)).map(tuple),
        maybe(figures), reason=NAME,
    )  # fmt: skip
    budget = st.builds(
        Budget, maybe(st.floats(0, 9)), maybe(st.floats(0, 1)), maybe(st.floats(1e-3, 1e3)),
        maybe(st.floats(1, 1e9)),
    )  # fmt: skip

    def made(found: list[Trial], budget: Budget, proven: Figures | None, labelled: bool) -> Run:
        trials = tuple(replace(t, number=i) for i, t in enumerate(found))
        best = len(trials) - 1 if trials else None
        run = fit_like(
            budget=budget, trials=trials, best=best, reference=0 if trials else None,
            front=tuple(range(len(trials)))[::2], runners_up=(), arms=(Arm("x", best),),
        )  # fmt: skip
        proof = proven and best is not None
        return replace(
            run,
            samples=replace(run.samples, labelled=labelled),
            proof=replace(run.proof, figures=proven, verdicts=budget.verdicts(proven))
            if proof
            else None,
        )

    return st.builds(made, st.lists(trial, max_size=6), budget, maybe(figures), st.booleans())
