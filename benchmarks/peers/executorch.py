"""torchao's PT2E quantization with the XNNPACKQuantizer, to an ExecuTorch program on XNNPACK."""

from __future__ import annotations

from pathlib import Path

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.exir import to_edge_transform_and_lower
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from ..making import Stages, main
from ..nets import Net

BATCH = 32


def lower(program: torch.export.ExportedProgram, path: Path) -> None:
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    with path.open("wb") as file:
        edge.to_executorch().write_to_file(file)


def make_float(net: Net, folder: Path, stage: Stages) -> None:
    with stage("export"):
        program = torch.export.export(net.module, (net.example,))
    with stage("lower"):
        lower(program, folder / "float.pte")


def make_int8(net: Net, folder: Path, stage: Stages) -> None:
    images = torch.from_numpy(net.calibration)
    with stage("export"):
        # A free batch axis, so that calibration runs in batches: several times as fast as one
        # image at a time, which its histograms make slow. The program is made for batch 1.
        free = ({0: torch.export.Dim("batch", max=len(images))},)
        exported = torch.export.export(net.module, (images[:2],), dynamic_shapes=free)
        module = exported.module()
    with stage("quantize"):
        config = get_symmetric_quantization_config(is_per_channel=True)
        module = prepare_pt2e(module, XNNPACKQuantizer().set_global(config))
        with torch.no_grad():
            for batch in images.split(BATCH):
                module(batch)
        module = convert_pt2e(module)
    with stage("lower"):
        lower(torch.export.export(module, (net.example,)), folder / "int8.pte")


if __name__ == "__main__":
    main(make_float, make_int8, ("torch", "torchao", "executorch"))
