"""Many devices that look at one repository of static files."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgewise.edge.updating.client import Client, packed, unpacked
from edgewise.edge.updating.fetch import Fetcher
from edgewise.edge.updating.release import reads

from .shop import Shop, serving

__all__ = ["fleet"]

AT_ONCE = 16


def fleet(devices: int) -> dict[str, float]:
    """Three looks of each device: the first, one at nothing new, and one at a new release.

    Each device has its own trusted metadata, connection and download, verified by the agent's own
    client; golden inputs and installing are left out, which cost the repository nothing.

    Returns:
        Requests and bytes of bodies a device, of each look, and devices updated a second.
    """
    with tempfile.TemporaryDirectory() as scratch:
        shop = Shop(Path(scratch, "shop"))
        trusted: list[dict[str, str]] = [{} for _ in range(devices)]
        running = [0] * devices

        def look(device: int) -> tuple[int, int]:
            fetcher = Fetcher()
            with unpacked(trusted[device]) as folder:
                root = None if trusted[device] else shop.root.read_bytes()
                client = Client(f"{address}/metadata", f"{address}/targets", folder, fetcher, root)
                client.refresh()
                trusted[device] = packed(folder)
                release = max(reads(client.targets()), key=lambda r: r.terms.version)
                if release.terms.version > running[device]:
                    client.download(release.target, folder / "bundle")
                    running[device] = release.terms.version
            fetcher.close()
            return fetcher.requests, fetcher.received

        found = {}
        with serving(shop.folder) as (address, server), ThreadPoolExecutor(AT_ONCE) as pool:
            for name, publish in (("first", True), ("nothing new", False), ("new release", True)):
                if publish:
                    shop.publish()
                begin, before = time.monotonic(), server.requests
                counts = list(pool.map(look, range(devices)))
                seconds = time.monotonic() - begin
                assert set(running) == {shop.version}, "a device was not updated"
                assert server.requests - before == sum(r for r, _ in counts)
                found |= {
                    f"{name}: requests a device": sum(r for r, _ in counts) / devices,
                    f"{name}: bytes a device": sum(b for _, b in counts) / devices,
                    f"{name}: devices a second": round(devices / seconds, 1),
                }
    return found
