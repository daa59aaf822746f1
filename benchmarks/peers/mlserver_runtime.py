"""MLServer's custom runtime that runs a LiteRT file, as its documentation tells to write one.

Inputs come as base64 in JSON over HTTP (its fastest form of JSON) or as raw contents over gRPC.

    python -m benchmarks.peers.mlserver_runtime FILE HTTP_PORT GRPC_PORT WORKERS
"""

from __future__ import annotations

import asyncio
import os
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse


class LiteRt(MLModel):
    """One interpreter with one thread."""

    async def load(self) -> bool:
        self._interpreter = Interpreter(self.settings.parameters.uri, num_threads=1)
        self._interpreter.allocate_tensors()
        details = self._interpreter.get_input_details()[0]
        self._input, self._shape = details["index"], details["shape"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = payload.inputs[0]
        if given.datatype == "BYTES":
            array = np.frombuffer(Base64Codec.decode_input(given)[0], np.float32)
        else:
            array = NumpyCodec.decode_input(given)
        # The file's layout, as the server under comparison lays it out.
        batch, height, width, channels = self._shape
        array = array.reshape(batch, channels, height, width).transpose(0, 2, 3, 1)
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(array))
        self._interpreter.invoke()
        found = self._interpreter.get_tensor(self._output)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("y", found)]
        )


async def main(path: str, http: int, grpc: int, workers: int) -> None:
    settings = Settings(
        host="127.0.0.1",
        http_port=http,
        grpc_port=grpc,
        metrics_endpoint=None,
        debug=False,
        gzip_enabled=False,
        parallel_workers=workers if workers > 1 else 0,  # 0: no hop to another process
    )
    server = MLServer(settings)
    parameters = ModelParameters(uri=path)
    await server.start([ModelSettings(name="m", implementation=LiteRt, parameters=parameters)])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    path, *numbers = sys.argv[1:]
    asyncio.run(main(path, *(int(n) for n in numbers)))
