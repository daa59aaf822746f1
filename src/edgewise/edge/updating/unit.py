"""A systemd unit for the agent, with no more rights than it needs (systemd.exec(5))."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from ...record import encode
from .agent import Settings

__all__ = ["systemd_unit"]

UNIT = """\
[Unit]
Description=Keeps this device's models up to {repo}
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={command}
Restart=always
RestartSec=30
Nice=10
MemoryMax=1G
TasksMax=64
UMask=0077
# It writes to its folder and nowhere else.
ProtectSystem=strict
ReadWritePaths={folder}
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
LockPersonality=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
"""


def systemd_unit(settings: Settings) -> str:
    """The text of a unit that runs the agent with these settings.

    It names no user: the one of the server, whose socket for administration the agent uses, is
    added by `User=` in a drop-in, or by hand.
    """
    command = (sys.executable, "-P", "-m", "edgewise.edge.updating", _settings(settings))
    return UNIT.format(
        repo=settings.repo.replace("%", "%%"),
        command=" ".join(map(_quote, command)),
        folder=_quote(str(settings.folder.absolute())),
    )


def _settings(settings: Settings) -> str:
    """As one line, with paths that hold wherever it is started."""
    watch = settings.watch
    absolute = replace(
        settings,
        root=settings.root.absolute(),
        folder=settings.folder.absolute(),
        key=_absolute(settings.key),
        watch=replace(watch, admin=_absolute(watch.admin)),
    )
    return " ".join(line.strip() for line in encode(absolute).decode().splitlines())


def _absolute(path: Path | None) -> Path | None:
    return path and path.absolute()


def _quote(text: str) -> str:
    """One word of a command line, as systemd.syntax(7) and systemd.service(5) have it."""
    for old, new in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        text = text.replace(old, new)
    return f'"{text}"'
