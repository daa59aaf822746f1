"""Administration: which models are served. On a socket of its own, for the device's owner alone.

The addresses are those of Triton's extension "model_repository", so that its clients do too:
``POST /v2/repository/index`` and ``POST /v2/repository/models/NAME/load`` or ``/unload``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from ...errors import EdgewiseError
from .app import Application, Receive, Scope, Send, method, respond
from .connection import json_answer
from .limits import Refused
from .models import Models

__all__ = ["Administration"]


class Administration:
    """The repository's addresses, and everything else as for clients.

    Args:
        models: that are served.
        clients: what clients may ask.
    """

    def __init__(self, models: Models, clients: Application):
        self._models, self._clients = models, clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        parts = scope["raw_path"].decode("ascii", "replace").split("/")
        if parts[:3] != ["", "v2", "repository"]:
            await self._clients(scope, receive, send)
            return
        try:
            method(scope, "POST")
            reply = json_answer(200, await self._do(parts[3:]))
        except Refused as refused:
            reply = json_answer(refused.status, {"error": refused.reason})
        except EdgewiseError as error:
            reply = json_answer(400, {"error": str(error)})
        await respond(send, reply)

    async def _do(self, parts: list[str]) -> Any:
        match parts:
            case ["index"]:
                return [
                    {"name": lane.name, "version": lane.version, "state": "READY", "reason": ""}
                    for lane in self._models.index()
                ]
            case ["models", name, "load"]:
                lane = await self._models.load(unquote(name))
                return {"name": lane.name, "version": lane.version}
            case ["models", name, "unload"]:
                await self._models.unload(unquote(name))
                return {}
        raise Refused(404, "there is nothing at this address")
