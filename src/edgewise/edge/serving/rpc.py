"""The protocol over gRPC: kserve/open-inference-protocol, "inference_grpc.proto"."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from ...errors import InputError
from ...record import Signature
from ..machine import versions
from .app import authorized, metadata
from .limits import Limits, Refused
from .messages import METHODS, SERVICE, message
from .models import Models
from .protocol import (
    DATATYPES,
    Asked,
    checked,
    from_bytes,
    from_numbers,
    tensors,
    to_bytes,
    wanted,
)

__all__ = ["Rpc"]

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
OPEN = ("ServerLive", "ServerReady")  # without a token: they say nothing
BODIES = 8  # requests of full size that are held at the same time
CONTENTS = {
    "bool": "bool_contents",
    "int8": "int_contents",
    "int16": "int_contents",
    "int32": "int_contents",
    "int64": "int64_contents",
    "uint8": "uint_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
}


class Rpc:
    """The service, on the event loop of the HTTP server.

    Args:
        models: that are served.
        limits: for clients.
        token: that clients must show; None where none is needed.
    """

    def __init__(self, models: Models, limits: Limits, token: bytes | None):
        self._models, self._limits, self._token = models, limits, token
        options = {
            "grpc.max_receive_message_length": limits.body_bytes,
            "grpc.max_metadata_size": limits.head_bytes,
            "grpc.max_connection_idle_ms": int(limits.idle_seconds * 1000),
            "grpc.so_reuseport": 0,  # another server on the port is an error, not a partner
        }
        self._server = grpc.aio.server(
            options=list(options.items()), maximum_concurrent_rpcs=limits.waiting + BODIES
        )
        self._server.add_generic_rpc_handlers((self._handlers(),))

    async def start(self, host: str, port: int, tls: tuple[bytes, bytes] | None) -> int:
        """Listen; returns the port.

        Args:
            host, port: the address.
            tls: private key and certificate chain, as PEM.

        Raises:
            InputError: the address cannot be taken.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                port = self._server.add_insecure_port(address)
            else:
                credentials = grpc.ssl_server_credentials([tls])
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            raise InputError(f"{address} cannot be taken for gRPC: choose another port") from None
        await self._server.start()
        return port

    async def close(self, seconds: float) -> None:
        """Take no more requests, let those that run be answered for a while, and end."""
        await self._server.stop(seconds)

    def _handlers(self) -> Any:
        answers = {
            "ServerLive": lambda request: {"live": True},
            "ServerReady": lambda request: {"ready": self._models.ready},
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda request: {
                "name": "edgewise",
                "version": versions().get("edgewise", ""),
            },
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        methods = {name: self._handler(name, answers[name]) for name in METHODS}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _handler(self, name: str, answer: Callable[[Any], Any]) -> Any:
        reply = message(f"{name}Response")

        async def handle(request: Any, context: Any) -> Any:
            try:
                self._check_token(name, context)
                found = answer(request)
                if isinstance(found, Awaitable):
                    found = await found
            except Refused as refused:
                await context.abort(CODES[refused.status], refused.reason)
            return found if isinstance(found, reply) else reply(**found)

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=message(f"{name}Request").FromString,
            response_serializer=reply.SerializeToString,
        )

    def _check_token(self, method: str, context: Any) -> None:
        if self._token is None or method in OPEN:
            return
        given = dict(context.invocation_metadata() or ()).get("authorization", "")
        if not authorized(str(given).encode(), self._token):
            raise Refused(
                401, "a token is needed: send it as metadata  authorization: Bearer TOKEN"
            )

    def _model_ready(self, request: Any) -> dict[str, Any]:
        try:
            self._models.lane(request.name, request.version)
        except Refused:
            return {"ready": False}
        return {"ready": True}

    def _model_metadata(self, request: Any) -> dict[str, Any]:
        return metadata(self._models.lane(request.name, request.version))

    async def _infer(self, request: Any) -> Any:
        begin = time.perf_counter()
        lane = self._models.lane(request.model_name, request.model_version)
        status = 200
        try:
            asked = ask(request, lane.signature, self._limits.samples)
            outputs = await lane.infer(asked.arrays)
        except Refused as refused:
            status = refused.status
            raise
        finally:
            self._models.metrics.count(lane.name, status, time.perf_counter() - begin)
        reply = INFER_RESPONSE(id=asked.id, **lane.model)
        for position, _ in asked.outputs:
            spec, array = lane.signature.outputs[position], outputs[position]
            datatype = DATATYPES[spec.dtype]
            reply.outputs.add(name=spec.name, datatype=datatype, shape=array.shape)
            reply.raw_output_contents.append(to_bytes(array).tobytes())
        return reply


INFER_RESPONSE = message("ModelInferResponse")


def ask(request: Any, signature: Signature, samples: int) -> Asked:
    """Read a ``ModelInferRequest``.

    Raises:
        Refused: 400 for what does not fit, and why.
    """
    raw, given = request.raw_input_contents, {}
    if raw and len(raw) != len(request.inputs):
        raise Refused(400, f"{len(request.inputs)} inputs have {len(raw)} raw contents")
    for at, tensor in enumerate(request.inputs):
        spec = checked(tensor, signature, samples)
        if tensor.name in given:
            raise Refused(400, f"input '{tensor.name}' is given twice")
        if raw:
            given[tensor.name] = from_bytes(raw[at], tensor.name, list(tensor.shape), spec)
        elif spec.dtype in CONTENTS:
            data = getattr(tensor.contents, CONTENTS[spec.dtype])
            given[tensor.name] = from_numbers(data, tensor, spec)
        else:
            raise Refused(400, f"input '{tensor.name}' of {tensor.datatype} goes as raw contents")
    return Asked(request.id, tensors(given, signature), wanted(request.outputs, True, signature))
