"""Intel Neural Compressor's static quantization (PT2E), simulated by itself: accuracy.

    python -m benchmarks.peers.neural_compressor --net resnet20 resnet56

Its defaults: weights per channel, activations uint8 per tensor, min-max ranges of the same 256
calibration images as all others see. In an environment of its own
(`benchmarks/peers/requirements-simulators.txt`).
"""

from __future__ import annotations

import argparse
import logging
import time

import torch
from neural_compressor.torch.export import export
from neural_compressor.torch.quantization import StaticQuantConfig, convert, prepare
from torch import nn

from ..nets import NETS, Net, load

BATCH = 64


def quantized(net: Net) -> nn.Module:
    """The converted program, with quantize and dequantize nodes in it."""
    batches = torch.from_numpy(net.calibration).split(BATCH)
    sizes = {"x": {0: torch.export.Dim("batch", min=1)}}
    program = export(net.module, example_inputs=(batches[0],), dynamic_shapes=sizes)
    prepared = prepare(program, quant_config=StaticQuantConfig())
    with torch.no_grad():
        for batch in batches:
            prepared(batch)
        return convert(prepared)


def accuracy(model: nn.Module, net: Net) -> float:
    """Percent right."""
    right = 0
    with torch.no_grad():
        for at in range(0, len(net.inputs), BATCH):
            choices = model(torch.from_numpy(net.inputs[at : at + BATCH])).argmax(1).numpy()
            right += int((choices == net.labels[at : at + BATCH]).sum())
    return 100 * right / len(net.labels)


def main() -> None:
    """Print one row for each network."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser()
    parser.add_argument("--net", nargs="+", choices=NETS, default=tuple(NETS))
    for name in parser.parse_args().net:
        net, start = load(name), time.perf_counter()
        model = quantized(net)
        seconds = time.perf_counter() - start
        print(f"neural-compressor {name} int8: {accuracy(model, net):.2f}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
