"""Sockets that clients connect to, and the connections that come of it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from ...errors import InputError
from .connection import Connection, Intake
from .limits import Limits

__all__ = ["Listener"]

BACKLOG = 128


class Listener:
    """Every listening socket of a server; all share one count of connections and of bytes held."""

    def __init__(self, limits: Limits):
        self._limits, self._intake, self._state = limits, Intake(limits), ServerState()
        self._servers: list[asyncio.Server] = []
        self._paths: list[Path] = []
        self._loop = asyncio.get_running_loop()

    async def tcp(self, app: Any, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Serve HTTP on an address; returns its port.

        Raises:
            InputError: the address cannot be taken.
        """
        try:
            server = await self._loop.create_server(
                self._connections(app), host, port, ssl=tls, backlog=BACKLOG
            )
        except OSError as error:
            raise InputError(
                f"{host} port {port} cannot be taken ({error.strerror}): choose another port"
            ) from None
        self._servers.append(server)
        return server.sockets[0].getsockname()[1]

    async def unix(self, app: Any, path: Path) -> None:
        """Serve HTTP on a Unix socket that only this user can open.

        Raises:
            InputError: something else is at that path.
        """
        _free(path)
        made = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            made.bind(str(path))
        except OSError as error:
            made.close()
            raise InputError(f"{path} cannot be a Unix socket: {error.strerror or error}") from None
        finally:
            os.umask(before)
        self._paths.append(path)
        self._servers.append(
            await self._loop.create_unix_server(self._connections(app), sock=made, backlog=BACKLOG)
        )

    def sweep(self) -> None:
        """End the connections whose clients are too slow."""
        now = self._loop.time()
        for connection in list(self._state.connections):
            connection.expire(now)

    async def close(self, seconds: float) -> None:
        """Take no more connections, let requests that run be answered for a while, and end."""
        for server in self._servers:
            server.close()
        for path in self._paths:
            path.unlink(missing_ok=True)
        for connection in list(self._state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._state.tasks:
                    await asyncio.wait(self._state.tasks)
        for connection in list(self._state.connections):
            connection.transport.abort()

    def _connections(self, app: Any) -> Any:
        """Makes a connection for each client of one socket."""
        config = Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=self._limits.idle_seconds,
        )
        config.load()
        return lambda: Connection(config, self._state, self._intake, self._loop)


def _free(path: Path) -> None:
    """Remove the socket of a server that is gone."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise InputError(f"{path} is not a socket: remove it or choose another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        raise InputError(f"another server listens on {path}: stop it or choose another path")
    path.unlink(missing_ok=True)
