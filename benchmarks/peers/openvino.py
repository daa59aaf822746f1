"""NNCF's post-training quantization to an OpenVINO model, with its default preset."""

from __future__ import annotations

import os

os.environ["NNCF_CI"] = "1"  # NNCF's switch against telemetry; before the import

from pathlib import Path

import nncf
import openvino

from ..making import Stages, main
from ..nets import Net


def convert(net: Net) -> openvino.Model:
    return openvino.convert_model(
        net.module, example_input=net.example, input=[list(net.example.shape)]
    )


def make_float(net: Net, folder: Path, stage: Stages) -> None:
    with stage("export"):
        openvino.save_model(convert(net), folder / "float.xml", compress_to_fp16=False)


def make_int8(net: Net, folder: Path, stage: Stages) -> None:
    with stage("export"):
        model = convert(net)
    with stage("quantize"):
        images = nncf.Dataset(net.calibration, lambda image: image[None])
        model = nncf.quantize(model, images, subset_size=len(net.calibration))
    with stage("lower"):
        openvino.save_model(model, folder / "int8.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main(make_float, make_int8, ("torch", "nncf", "openvino"))
