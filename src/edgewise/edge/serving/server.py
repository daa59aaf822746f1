"""The server: sockets, the event loop, and what starts and ends it."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import EdgewiseError, InputError, MissingExtra
from .admin import Administration
from .app import Application
from .limits import Limits
from .models import Models
from .regions import Regions
from .repository import Trust, vacant

if TYPE_CHECKING:
    import ssl

    from .listener import Listener
    from .rpc import Rpc

__all__ = ["Listen", "Server", "Settings"]

SWEEP_SECONDS = 1.0
DRAIN_SECONDS = 10.0
TOKEN_BYTES = 16
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
KEPT_BYTES = 16 << 20


@dataclass(frozen=True)
class Listen:
    """Where the server listens, and to whom.

    Attributes:
        host, port: of HTTP; port 0 takes a free one, None none.
        grpc_port: of gRPC; None for none.
        socket: a Unix socket for this user's programs on the same device.
        admin: a Unix socket for administration; None for none.
        token: a file with the token that clients over the network must show.
        certificate, key: PEM files, for TLS.
    """

    host: str = "127.0.0.1"
    port: int | None = 8000
    grpc_port: int | None = None
    socket: Path | None = None
    admin: Path | None = None
    token: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Settings:
    """What to serve, where, and within which bounds.

    Attributes:
        root: an artifact or a bundle, or a folder of them (see `repository`).
        listen: where.
        limits: for clients.
        trust: which bundles are served.
        threads: of the runtime, for each instance; None for all processors.
        instances: how many inferences of one model may run at the same time.
    """

    root: Path
    listen: Listen = field(default_factory=Listen)
    limits: Limits = field(default_factory=Limits)
    trust: Trust = field(default_factory=Trust)
    threads: int | None = None
    instances: int = 1


class Server:
    """Serves models until it is stopped.

    Args:
        settings: what, where and within which bounds.
        started: called once it serves, with the server.

    Attributes:
        port, grpc_port: that it listens on, once started.

    Raises:
        InputError: an address that others can reach and no token, or files that cannot be read.
    """

    def __init__(self, settings: Settings, started: Callable[[Server], None] | None = None):
        self.listen, self.limits = settings.listen, settings.limits
        self.port: int | None = None
        self.grpc_port: int | None = None
        self._settings, self._started = settings, started
        self._token = _token(self.listen)
        self._tls = _tls(self.listen)
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Serve until `stop`, SIGINT or SIGTERM; SIGHUP looks for new versions.

        Raises:
            MissingExtra: the packages for serving are not installed.
            EdgewiseError: a model that cannot be served, an address that cannot be taken.
        """
        _tune_malloc()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        """End, from any thread: no new requests are taken, those taken are answered."""
        self._loop.call_soon_threadsafe(self._stopping.set)

    def addresses(self) -> list[str]:
        """Where clients reach it."""
        listen, scheme = self.listen, "https" if self._tls else "http"
        rows = (
            (self.port, f"{scheme}://{listen.host}:{self.port}"),
            (self.grpc_port, f"grpc://{listen.host}:{self.grpc_port}"),
            (listen.socket, f"unix:{listen.socket}"),
            (listen.admin, f"unix:{listen.admin} (administration)"),
        )
        return [text for given, text in rows if given is not None]

    async def _serve(self) -> None:
        from .listener import Listener

        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        given = self._settings
        models = Models(
            given.root,
            given.limits,
            trust=given.trust,
            threads=given.threads,
            instances=given.instances,
        )
        if self.listen.admin is not None and vacant(given.root):  # an agent will load the first
            print(f"{given.root} holds no model yet: waiting for one", file=sys.stderr, flush=True)
        else:
            await models.load_all()
        listener = Listener(self.limits)
        rpc = self._rpc(models)
        try:
            await self._open(listener, models)
            if rpc is not None:
                port = self.listen.grpc_port
                self.grpc_port = await rpc.start(self.listen.host, port, _pem(self.listen))
            self._catch_signals(models)
            if self._started is not None:
                self._started(self)
            while not self._stopping.is_set():
                listener.sweep()
                models.expire()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), SWEEP_SECONDS)
        finally:
            models.ready = False
            if rpc is not None:
                await rpc.close(DRAIN_SECONDS)
            await listener.close(DRAIN_SECONDS)
            models.close()

    async def _open(self, listener: Listener, models: Models) -> None:
        listen = self.listen
        network = Application(models, self.limits, self._token)
        regions = Regions(self.limits.body_bytes)
        local = Application(models, self.limits, regions=regions)
        if listen.port is not None:
            self.port = await listener.tcp(network, listen.host, listen.port, self._tls)
        if listen.socket is not None:
            await listener.unix(local, listen.socket)
        if listen.admin is not None:
            await listener.unix(Administration(models, local), listen.admin)

    def _rpc(self, models: Models) -> Rpc | None:
        if self.listen.grpc_port is None:
            return None
        try:
            from .rpc import Rpc  # more memory than all the rest of the server
        except ImportError:
            raise MissingExtra("gRPC", "grpc") from None
        return Rpc(models, self.limits, self._token)

    def _catch_signals(self, models: Models) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._stopping.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload, models)

    def _reload(self, models: Models) -> None:
        async def reload() -> None:
            try:
                await models.load_all()
            except EdgewiseError as error:
                print(f"not changed: {error}", file=sys.stderr, flush=True)

        self._reloading = self._loop.create_task(reload())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import httptools  # noqa: F401
        import uvicorn  # noqa: F401
        import uvloop
    except ImportError:
        raise MissingExtra("the server", "serve") from None
    return uvloop.new_event_loop


def _tune_malloc() -> None:
    """Set glibc's allocator for a server; other C libraries have no such setting (mallopt(3)).

    Some megabytes that were freed are kept: a request of an image's size would otherwise map and
    fault in its pages anew each time, which took a third of the server's time. And threads share
    one heap: the one that opens a model would otherwise leave a second behind.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_ARENA_MAX, 1)


def _token(listen: Listen) -> bytes | None:
    if listen.token is None:
        if (listen.port, listen.grpc_port) != (None, None) and not _loopback(listen.host):
            raise InputError(
                f"others can reach {listen.host}: give a file with the token that they must show "
                "(--token), or listen on 127.0.0.1"
            )
        return None
    try:
        token = listen.token.read_bytes().strip()
    except OSError as error:
        raise InputError(f"{listen.token} cannot be read: {error.strerror}") from None
    if len(token) < TOKEN_BYTES or not token.isascii() or b"\n" in token:
        raise InputError(
            f"{listen.token} has no token: expected one line of at least {TOKEN_BYTES} characters "
            "(python -c 'import secrets; print(secrets.token_urlsafe())')"
        )
    return token


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _tls(listen: Listen) -> ssl.SSLContext | None:
    if listen.certificate is None and listen.key is None:
        return None
    if listen.certificate is None or listen.key is None:
        raise InputError("TLS takes a certificate and its key: give both")
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(listen.certificate, listen.key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"{listen.certificate} and {listen.key} are no certificate and key for TLS: {error}"
        ) from None
    return context


def _pem(listen: Listen) -> tuple[bytes, bytes] | None:
    """Key and certificate, which `_tls` has read before."""
    if listen.certificate is None or listen.key is None:
        return None
    return listen.key.read_bytes(), listen.certificate.read_bytes()
