"""Trials that train, on one worker of a Ray cluster on this machine and on two; one is killed."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from concurrent.futures import wait
from pathlib import Path

import torch

import edgewise as ew
from edgewise import demo
from edgewise.fitting.cache import Cache
from edgewise.fitting.crew import crew_of
from edgewise.fitting.making import Maker, Task
from edgewise.fitting.quiet import Quiet
from edgewise.fitting.roles import assign
from edgewise.step import Recipe
from edgewise.train import Distill, Optimizer, Training

__all__ = ["two_workers"]

TRIALS, EPOCHS = 8, 60


def tasks(seed: int) -> list[Task]:
    """As many networks, cut by different amounts and trained."""
    training = Training(EPOCHS, 64, Optimizer(rate=0.02), seed=seed)
    return [
        Task(
            Recipe((ew.Prune(0.2 + 0.05 * k), Distill(training=training), ew.Quantize())),
            "onnxruntime",
        )
        for k in range(TRIALS)
    ]


def two_workers() -> None:
    """Print trials per hour of one worker and of two, and what killing one loses."""
    import ray

    torch.set_num_threads(1)
    training, held_out = demo._images()
    model = ew.load(demo._train(*training), example=torch.zeros(1, 1, 8, 8))
    data = ew.load_data({"training": training, "evaluation": held_out}, model.signature)
    rates = {}
    for workers in (1, 2):
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            maker = Maker(model, assign(data, 0), "accuracy", Cache.at(place), Quiet(place))
            crew = crew_of(maker, workers, "auto", "accuracy", place)
            # All have imported what they need.
            wait([crew.submit(Task(Recipe(()), "onnxruntime")) for _ in range(2 * workers)])
            begin = time.perf_counter()
            futures = [crew.submit(task) for task in tasks(0)]
            wait(futures)
            rates[workers] = 3600 * TRIALS / (time.perf_counter() - begin)
            failed = sum(f.exception() is not None for f in futures)
            print(f"{workers} workers: {rates[workers]:.0f} trials an hour, {failed} failed")
            if workers == 2:
                futures = [crew.submit(task) for task in tasks(1)]
                time.sleep(5)
                victim = _busiest()
                os.kill(victim, signal.SIGKILL)
                wait(futures)
                lost = sum(f.exception() is not None for f in futures)
                print(f"one worker killed: {lost} of {TRIALS} trials lost")
            crew.close()
    print(f"two workers: {rates[2] / rates[1]:.2f}x the trials of one")


def _busiest() -> int:
    """The process that carries out a trial of ours."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::_on_cluster" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found[0]
