"""A systemd unit for the agent, with no more rights than it needs (systemd.exec(5))."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

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
SystemCallFilter=~@privileged
# Runtimes ask for more than they need, such as to pin their threads.
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def systemd_unit(settings: Settings) -> str:
    """The text of a unit that runs the agent with these settings.

    It names no user: the one of the server, whose socket for administration the agent uses, is
    added by `User=` in a drop-in, or by hand.
    """
    words = list(map(_quote, _options(settings)))
    lines = [f"    {name} {value}" for name, value in zip(words[::2], words[1::2], strict=True)]
    return UNIT.format(
        repo=settings.repo.replace("%", "%%"),
        command=" \\\n".join([f"{_quote(sys.executable)} -m edgewise agent", *lines]),
        folder=_quote(str(settings.folder.absolute())),
    )


def _options(settings: Settings) -> Iterator[str]:
    """Those of `edgewise agent`, with paths that hold wherever it is started."""
    watch = settings.watch
    rows = (
        ("--repo", settings.repo),
        ("--root", settings.root.absolute()),
        ("--dir", settings.folder.absolute()),
        *(("--model", model) for model in settings.models),
        ("--cohort", settings.cohort),
        ("--key", settings.key and settings.key.absolute()),
        ("--secret", settings.secret),
        ("--admin", watch.admin and watch.admin.absolute()),
        ("--check", watch.check),
        ("--watch", f"{watch.seconds:g}"),
        ("--interval", f"{settings.interval:g}"),
        ("--max-bytes", settings.largest),
    )
    for name, value in rows:
        if value is not None:
            yield from (name, str(value))


def _quote(text: str) -> str:
    """One word of a command line, as systemd.syntax(7) and systemd.service(5) have it."""
    if re.fullmatch(r"[\w@+=:,./-]+", text):
        return text
    for old, new in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        text = text.replace(old, new)
    return f'"{text}"'
