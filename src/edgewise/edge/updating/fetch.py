"""Fetching over HTTP within bounds of bytes and time, whatever the other end does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

__all__ = ["Fetcher"]

CHUNK = 1 << 16  # bytes
REDIRECTS = 3
OK, PARTIAL, UNSATISFIABLE, FAILED = 200, 206, 416, 400


class Fetcher(FetcherInterface):
    """What the TUF client, and the download of bundles, fetch with.

    A server that sends its head, or anything before it, too slowly is cut off after `patience`;
    one that sends a body more slowly than `least` bytes a second (counted after `patience`) too.

    Args:
        patience: seconds.
        least: bytes a second.

    Attributes:
        requests, received: how many requests were made, and bytes of bodies received.
    """

    def __init__(self, patience: float = 30.0, least: float = 500.0):
        self.patience, self.least = patience, least
        self.requests = self.received = 0
        self._handle: socket.socket | None = None
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def close(self) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            pool.clear()
        self._watch(None)

    def resume(self, url: str, start: int) -> tuple[int, Iterator[bytes]]:
        """The bytes of a file from `start` on, or from 0 where the server cannot do that.

        Returns:
            Where they begin, and the bytes.

        Raises:
            DownloadError: of its kinds.
        """
        response = self._open(url, {"Range": f"bytes={start}-"} if start else {})
        if response.status == UNSATISFIABLE:
            response.release_conn()
            response, start = self._open(url, {}), 0
        elif response.status != PARTIAL:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            response.close()
            raise DownloadError(f"{url} was not sent from byte {start}, which was asked for")
        return start, self._body(url, response)

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._body(url, self._open(url, {}))

    def _open(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Ask, and wait for the head."""
        self.requests += 1
        began = time.monotonic()
        timer = threading.Timer(self.patience, self._cut)
        timer.daemon = True
        timer.start()
        try:
            response = self._pool(url).request(
                "GET",
                url,
                headers=headers,
                preload_content=False,
                decode_content=False,
                timeout=self.patience,
                retries=urllib3.Retry(total=REDIRECTS, connect=0, read=0, redirect=REDIRECTS),
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            response, failure = None, error
        finally:
            timer.cancel()
        if time.monotonic() - began >= self.patience:  # a head that was cut off may look whole
            if response is not None:
                response.close()
            raise SlowRetrievalError(f"{url} was not answered within {self.patience:g} s")
        if response is None:
            raise DownloadError(f"{url} cannot be fetched: {failure}")
        if response.status >= FAILED and response.status != UNSATISFIABLE:
            self._drain(url, response)
            raise DownloadHTTPError(f"{url} was answered with {response.status}", response.status)
        return response

    def _drain(self, url: str, response: urllib3.BaseHTTPResponse) -> None:
        """Read what comes with an error, if it is short, so that the connection stays open."""
        count = 0
        with suppress(DownloadError), closing(self._body(url, response)) as chunks:
            for chunk in chunks:
                count += len(chunk)
                if count > CHUNK:
                    break

    def _body(self, url: str, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        began, count = time.monotonic(), 0
        # What is waiting now, and not all that was asked for: the clock is looked at each time.
        read = getattr(response, "read1", response.read)
        complete = False
        try:
            while data := read(CHUNK, decode_content=False):
                count += len(data)
                self.received += len(data)
                if count < (time.monotonic() - began - self.patience) * self.least:
                    raise SlowRetrievalError(
                        f"{url} came at less than {self.least:g} bytes a second"
                    )
                yield data
            complete = True
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise DownloadError(f"{url} broke off after {count} bytes: {error}") from None
        finally:
            if complete:
                response.release_conn()
            else:
                response.close()

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        bypass = not parts.hostname or proxy_bypass(parts.hostname)
        proxy = None if bypass else getproxies().get(parts.scheme)
        if proxy not in self._pools:
            made = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager(num_pools=2)
            made.pool_classes_by_scheme = {
                scheme: self._watched(kind) for scheme, kind in made.pool_classes_by_scheme.items()
            }
            self._pools[proxy] = made
        return self._pools[proxy]

    def _watched(self, pool: Callable[..., Any]) -> Callable[..., Any]:
        """A pool whose connections can be cut from another thread, in the middle of a handshake."""
        watch, kind = self._watch, pool.ConnectionCls

        class Watched(kind):
            def _new_conn(self) -> socket.socket:
                made = super()._new_conn()
                watch(made.dup())
                return made

        return type(pool.__name__, (pool,), {"ConnectionCls": Watched})

    def _watch(self, handle: socket.socket | None) -> None:
        old, self._handle = self._handle, handle
        if old is not None:
            old.close()

    def _cut(self) -> None:
        with suppress(OSError, AttributeError):
            self._handle.shutdown(socket.SHUT_RDWR)
