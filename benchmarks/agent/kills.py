"""SIGKILL at random moments of the real process."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgewise.edge.artifact import Artifact
from edgewise.edge.updating.agent import Settings
from edgewise.record import encode

from .shop import DATA, Shop, served, serving

__all__ = ["kills"]


def kills(count: int, seed: int, seconds: float) -> dict[str, float]:
    """Kill the agent `count` times (or until `seconds` have passed) while it updates.

    After each kill the version that is served must be whole, and the old or the new one; every
    tenth time it is run, and the next agent must bring the device to the newest.

    Returns:
        Kills done, those that fell into an update, and failures (none, or this raises).
    """
    rng, begin = random.Random(seed), time.monotonic()
    done = switched = 0
    with tempfile.TemporaryDirectory() as scratch:
        shop, home = Shop(Path(scratch, "shop")), Path(scratch, "device")
        with serving(shop.folder) as (address, _):
            settings = encode(Settings(address, shop.root, home)).decode()
            command = (sys.executable, "-P", "-m", "edgewise.edge.updating", settings, "--once")
            shop.publish()
            took = _run(command)
            while done < count and time.monotonic() - begin < seconds:
                old = served(home)
                new = shop.version if shop.version > old else shop.publish()
                process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
                time.sleep(rng.uniform(0, 1.1 * took))
                process.kill()
                process.wait()
                done += 1
                now = served(home)
                if now not in (old, new):
                    raise SystemExit(f"kill {done}: {now} is served, not {old} or {new}")
                switched += now == new
                if done % 10 == 0:
                    _run(command)
                    (path,) = home.glob("models/tiny/[0-9]*/model.onnx")
                    if served(home) != shop.version or not Artifact.open(path).run(DATA).any():
                        raise SystemExit(f"kill {done}: the next agent did not update")
    return {"kills": done, "after the switch": switched, "one run takes s": round(took, 2)}


def _run(command: tuple[str, ...]) -> float:
    begin = time.monotonic()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - begin
