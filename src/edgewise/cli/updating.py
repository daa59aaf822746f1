"""Commands for updates: publish, and agent on the device."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from ..errors import InputError
from .app import Answer, command
from .bundles import SecretOption

__all__ = ["agent", "publish"]


@command
def publish(
    bundles: Annotated[
        list[Path] | None,
        Argument(metavar="BUNDLE...", help="What `edgewise bundle` wrote; none: sign anew."),
    ] = None,
    repo: Annotated[Path, Option(metavar="DIR", help="Folder of the repository.")] = Path("."),
    keys: Annotated[
        list[Path] | None,
        Option(metavar="DIR", help="Folder of private keys, or one of them; repeatable."),
    ] = None,
    init: Annotated[bool, Option("--init", help="Begin a repository, and make its keys.")] = False,
    root_keys: Annotated[int, Option(min=1, help="With --init: keys of the root role.")] = 1,
    threshold: Annotated[
        int, Option(min=1, help="With --init or --rotate: keys that must sign.")
    ] = 1,
    rollout: Annotated[
        list[str] | None,
        Option(
            metavar="[COHORT=]PERCENT",
            help="Devices that take it; without a cohort, those of all others. Default: 100.",
        ),
    ] = None,
    change: Annotated[
        str | None, Option(metavar="MODEL/VERSION", help="Give this release another --rollout.")
    ] = None,
    withdraw: Annotated[
        str | None,
        Option(metavar="MODEL/VERSION", help="Take a release back: devices return to the last."),
    ] = None,
    rotate: Annotated[
        str | None,
        Option(metavar="ROLE", help="root, targets, snapshot or timestamp: replace its keys."),
    ] = None,
    new_key: Annotated[
        list[Path] | None,
        Option(metavar="PRIVATE.pem", help="With --rotate: the role's new keys; repeatable."),
    ] = None,
    days: Annotated[
        int, Option(min=1, help="Until the repository must be signed anew by this command.")
    ] = 7,
) -> Answer:
    """Bundles into an update repository of static files.

    Any web server, object store or CDN can serve it. Without bundles it is signed anew: let a
    timer do that well before --days are over.
    """
    from ..edge.bundle import open_bundle
    from ..edge.updating.publishing import ROLES, Publisher, create
    from ..reporting import updating

    if not keys:
        raise InputError("no keys to sign with: give the folder that they are in (--keys)")
    if init:
        root = create(repo, keys[0], root_keys, threshold)
        return Answer({"root": root}, lambda: updating.begun(root, keys[0]))
    publisher = Publisher(repo, keys, days)
    shares = _shares(rollout or ["100"])
    for path in bundles or ():
        with open_bundle(path, allow_unsigned=True) as opened:
            publisher.add(opened, shares)
    if change is not None:
        publisher.roll_out(*_release(change), shares)
    if withdraw is not None:
        publisher.withdraw(*_release(withdraw))
    if rotate is not None:
        if rotate not in ROLES or not new_key:
            raise InputError(f"--rotate takes one of {', '.join(ROLES)}, and --new-key")
        publisher.rotate(rotate, new_key, threshold)
    publisher.renew()
    publisher.write()
    found: dict[str, Any] = {
        "expires": publisher.expires.isoformat(),
        "releases": [
            {
                "model": r.terms.model,
                "version": r.terms.version,
                "rollout": {cohort: n / 100 for cohort, n in r.terms.rollout.items()},
                "bytes": r.target.length,
                "sha256": r.sha256,
            }
            for r in publisher.releases
        ],
    }
    return Answer(found, lambda: updating.repository(found))


@command
def agent(
    repo: Annotated[str, Option(metavar="URL", help="Where the repository is served.")],
    root: Annotated[Path, Option(metavar="root.json", help="Its first root.")],
    folder: Annotated[
        Path, Option("--dir", metavar="DIR", help="The agent's folder; serve DIR/models.")
    ],
    model: Annotated[
        list[str] | None, Option(help="Model to keep up to date; repeatable. Default: all.")
    ] = None,
    cohort: Annotated[
        str | None, Option(help="Group of devices that this one belongs to, for roll-outs.")
    ] = None,
    key: Annotated[
        Path | None,
        Option(metavar="PUBLIC.pem", help="Who must have signed the bundles, too."),
    ] = None,
    secret: SecretOption = None,
    admin: Annotated[
        Path | None,
        Option(metavar="FILE", help="Administration socket of `edgewise serve DIR/models`."),
    ] = None,
    check: Annotated[
        str | None,
        Option(metavar="COMMAND", help="Ends with 0 while all is well; asked while watching."),
    ] = None,
    watch: Annotated[
        float, Option(min=0, metavar="SECONDS", help="How long a new version must do well.")
    ] = 60.0,
    interval: Annotated[
        float, Option(min=1, metavar="SECONDS", help="From one look to the next, on average.")
    ] = 3600.0,
    max_bytes: Annotated[int, Option(min=1024, help="Bytes of a bundle.")] = 1 << 30,
    once: Annotated[
        bool, Option("--once", help="Look once; exit code 1 when something was refused.")
    ] = False,
    unit: Annotated[
        bool, Option("--unit", help="Print a systemd unit that runs this, and do nothing.")
    ] = False,
) -> Answer:
    """Keep this device's models up to date.

    Until interrupted it looks at a repository now and then (see `publish`).
    """
    from ..edge.updating.agent import Settings, Watch
    from ..record import encode

    settings = Settings(
        repo, root, folder, tuple(model or ()), cohort, key, secret,
        Watch(admin, check, watch), interval, max_bytes,
    )  # fmt: skip
    if unit:
        from ..edge.updating.unit import systemd_unit

        text = systemd_unit(settings)
        return Answer({"unit": text}, lambda: text)
    command = [sys.executable, "-P", "-m", "edgewise.edge.updating", encode(settings).decode()]
    os.execv(sys.executable, command + ["--once"] * once)


def _shares(given: list[str]) -> dict[str, int]:
    shares = {}
    for text in given:
        cohort, _, percent = text.rpartition("=")
        try:
            shares[cohort or "*"] = round(float(percent) * 100)
        except (ValueError, OverflowError):
            raise InputError(f"--rollout {text}: expected PERCENT or COHORT=PERCENT") from None
        if not 0 <= shares[cohort or "*"] <= 10_000:
            raise InputError(f"--rollout {text}: per cent are from 0 to 100")
    return shares


def _release(text: str) -> tuple[str, int]:
    model, _, version = text.rpartition("/")
    if not model or not (version.isascii() and version.isdigit()):
        raise InputError(f"'{text}' names no release: expected MODEL/VERSION")
    return model, int(version)
