"""The server beside the agent: telling it of a new version, and whether that does well."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = ["Health", "Service"]

SECONDS = 60.0  # that the server may take to open a model
QUICK = 5.0
OK, FAULT = 200, 500
LARGEST = 1 << 20  # bytes of an answer
ROW = re.compile(r'edgewise_requests_total\{model="([^"]*)",status="(\d+)"\} (\d+)')


@dataclass(frozen=True)
class Health:
    """What was seen of a model at one look.

    Attributes:
        well: whether nothing is wrong.
        why: what is.
        answered, failed: requests of clients so far, and those that ended in a fault (500).
    """

    well: bool
    why: str = ""
    answered: int = 0
    failed: int = 0


class Service:
    """`edgewise serve`, by its socket for administration, and a check of the user's own.

    Args:
        admin: the socket; None where no server of ours runs.
        check: a command line that ends with 0 while all is well.
    """

    def __init__(self, admin: Path | None = None, check: str | None = None):
        self._admin, self._check = admin, shlex.split(check or "")

    @property
    def watched(self) -> bool:
        """Whether there is anything to ask."""
        return self._admin is not None or bool(self._check)

    def up(self) -> bool:
        """Whether the server answers."""
        return self._ask("GET", "/v2/health/live", QUICK)[0] == OK

    def load(self, model: str) -> str:
        """Have the server look for the model's new version; why it does not serve it, or ''."""
        status, text = self._ask("POST", f"/v2/repository/models/{quote(model)}/load", SECONDS)
        return "" if status == OK else _reason(status, text)

    def unload(self, model: str) -> None:
        """Have the server serve it no more."""
        self._ask("POST", f"/v2/repository/models/{quote(model)}/unload", QUICK)

    def health(self, model: str, version: int) -> Health:
        """Ask the server, and the user's command."""
        answered = failed = 0
        if self._admin is not None:
            path = f"/v2/models/{quote(model)}/versions/{version}/ready"
            status, text = self._ask("GET", path, QUICK)
            if status != OK:
                return Health(False, _reason(status, text))
            rows = ROW.findall(self._ask("GET", "/metrics", QUICK)[1])
            counts = {int(code): int(count) for name, code, count in rows if name == model}
            answered, failed = sum(counts.values()), counts.get(FAULT, 0)
        if self._check:
            try:
                done = subprocess.run(
                    self._check,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=QUICK,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return Health(False, f"the check failed: {error}", answered, failed)
            if done.returncode != 0:
                why = f"the check ended with code {done.returncode}"
                return Health(False, why, answered, failed)
        return Health(True, "", answered, failed)

    def _ask(self, method: str, path: str, seconds: float) -> tuple[int, str]:
        """Status and text of one request; status 0 where nobody answers."""
        connection = _Unix(str(self._admin), seconds)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read(LARGEST).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, f"the server does not answer: {error}"
        finally:
            connection.close()


class _Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, seconds: float):
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _reason(status: int, text: str) -> str:
    if not status:
        return text
    try:
        said: Any = json.loads(text)
    except ValueError:
        said = None
    error = said.get("error") if isinstance(said, dict) else None
    return f"the server says: {error}" if error else f"the server answers with {status}"
