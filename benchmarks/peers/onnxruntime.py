"""ONNX Runtime's quantize_static: QDQ, uint8 activations, int8 weights per channel, min-max."""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import: it sends from there on

from pathlib import Path

import numpy as np
import torch
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..making import Stages, main
from ..nets import Net


def export(net: Net, path: Path) -> Path:
    torch.onnx.export(
        net.module,
        (net.example,),
        path,
        dynamo=True,
        external_data=False,
        input_names=["x"],
        verbose=False,
    )
    return path


class Images(quantization.CalibrationDataReader):
    """Hands out the calibration images one by one."""

    def __init__(self, images: np.ndarray) -> None:
        self.rest = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.rest, None)
        return None if image is None else {"x": image[None]}


def make_float(net: Net, folder: Path, stage: Stages) -> None:
    with stage("export"):
        export(net, folder / "float.onnx")


def make_int8(net: Net, folder: Path, stage: Stages) -> None:
    prepared = folder / "prepared.onnx"
    with stage("export"):
        export(net, prepared)
    with stage("quantize"):
        quant_pre_process(prepared, prepared)
        quantization.quantize_static(
            prepared,
            folder / "int8.onnx",
            Images(net.calibration),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
    prepared.unlink()


if __name__ == "__main__":
    main(make_float, make_int8, ("torch", "onnx", "onnxscript", "onnxruntime"))
