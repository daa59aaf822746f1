"""The command that serves models: serve."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Never

from typer import Argument, Option

from .app import command
from .bundles import TrustOptions

__all__ = ["serve"]


@command
def serve(
    trust: TrustOptions,
    root: Annotated[
        Path, Argument(metavar="BUNDLE|ARTIFACT|DIR", help="What to serve, or a folder of such.")
    ],
    host: Annotated[
        str, Option(help="Address to listen on; another than this device's own needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="Port of HTTP; 0 takes a free one.")] = 8000,
    grpc_port: Annotated[
        int | None, Option(min=0, max=65535, help="Port of gRPC, too; 0 takes a free one.")
    ] = None,
    socket: Annotated[
        Path | None,
        Option(metavar="FILE", help="Unix socket for your programs on this device: faster."),
    ] = None,
    admin: Annotated[
        Path | None,
        Option(metavar="FILE", help="Unix socket for administration: load and unload models."),
    ] = None,
    token: Annotated[
        Path | None,
        Option(metavar="FILE", help="File with the token that clients on the network must show."),
    ] = None,
    certificate: Annotated[Path | None, Option(metavar="PEM", help="Certificate, for TLS.")] = None,
    certificate_key: Annotated[
        Path | None, Option(metavar="PEM", help="The certificate's private key.")
    ] = None,
    threads: Annotated[
        int | None, Option(min=1, help="Threads of the runtime; by default all processors.")
    ] = None,
    instances: Annotated[
        int, Option(min=1, help="Inferences of one model that may run at the same time.")
    ] = 1,
    waiting: Annotated[
        int, Option(min=0, help="Requests that may wait for a model; one more is refused: 429.")
    ] = 16,
    max_samples: Annotated[int, Option(min=1, help="Samples in one request.")] = 64,
    max_bytes: Annotated[int, Option(min=1024, help="Bytes in one request.")] = 16 << 20,
) -> Never:
    """Serve models over HTTP and gRPC, until interrupted.

    It speaks the Open Inference Protocol v2. Inputs are never written or logged. SIGHUP looks for
    new versions.
    """
    from ..edge.serving.limits import Limits
    from ..edge.serving.repository import Trust
    from ..edge.serving.server import Listen, Settings
    from ..record import encode

    listen = Listen(host, port, grpc_port, socket, admin, token, certificate, certificate_key)
    limits = Limits(body_bytes=max_bytes, samples=max_samples, waiting=waiting)
    trusted = Trust(trust.key, trust.allow_unsigned, trust.secret)
    settings = encode(Settings(root, listen, limits, trusted, threads, instances)).decode()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "edgewise.edge.serving", settings])
