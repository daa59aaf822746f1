"""LitServe's server that runs a LiteRT file: base64 in JSON, as its documentation sends images.

python -m benchmarks.peers.litserve_api FILE PORT WORKERS
"""

from __future__ import annotations

import base64
import sys

import litserve
import numpy as np


class LiteRt(litserve.LitAPI):
    """One interpreter with one thread, in each worker process."""

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def setup(self, device: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(self._path, num_threads=1)
        self._interpreter.allocate_tensors()
        details = self._interpreter.get_input_details()[0]
        self._input, self._shape = details["index"], details["shape"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def decode_request(self, request: dict) -> np.ndarray:
        array = np.frombuffer(base64.b64decode(request["x"]), np.float32)
        batch, height, width, channels = self._shape
        array = array.reshape(batch, channels, height, width).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(array)

    def predict(self, array: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, array)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)

    def encode_response(self, found: np.ndarray) -> dict:
        return {"y": found.tolist()}


if __name__ == "__main__":
    path, port, workers = sys.argv[1:]
    server = litserve.LitServer(
        LiteRt(path), accelerator="cpu", workers_per_device=int(workers), fast_queue=True
    )
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="error")
