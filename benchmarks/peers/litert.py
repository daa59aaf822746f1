"""litert-torch to a float file, ai-edge-quantizer's static int8 recipe on that.

The input is channel-last, as LiteRT's kernels want it (the file in the benchmark takes NHWC), and
float in both files, as for every other tool.
"""

from __future__ import annotations

import os
from pathlib import Path

import litert_torch
from ai_edge_quantizer import quantizer, recipe
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.calibrator import CalibrationMode
from ai_edge_quantizer.qtyping import TFLOperationName

from ..making import Stages, main
from ..nets import Net


def convert(net: Net, path: Path) -> None:
    module = litert_torch.to_channel_last_io(net.module, args=[0]).eval()
    example = net.example.permute(0, 2, 3, 1).contiguous()
    litert_torch.convert(module, (example,)).export(str(path))


def make_float(net: Net, folder: Path, stage: Stages) -> None:
    with stage("export"):
        convert(net, folder / "float.tflite")


def make_int8(net: Net, folder: Path, stage: Stages) -> None:
    converted, quantized = folder / "converted.tflite", folder / "int8.tflite"
    with stage("export"):
        convert(net, converted)
    with stage("quantize"):
        images = net.calibration.transpose(0, 2, 3, 1)
        tool = quantizer.Quantizer(converted, recipe.static_wi8_ai8())
        for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
            tool.update_quantization_recipe(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
        ranges = tool.calibrate(
            {"serving_default": [{"args_0": image[None]} for image in images]},
            num_threads=os.cpu_count() or 1,
            # Four times as fast as the default mode; the ranges are the same.
            mode=CalibrationMode.CALIBRATION_PROFILER_BASED,
        )
        tool.quantize(ranges).export_model(quantized, overwrite=True)
    converted.unlink()


if __name__ == "__main__":
    main(make_float, make_int8, ("torch", "litert-torch", "ai-edge-quantizer", "ai-edge-litert"))
