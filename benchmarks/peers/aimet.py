"""AIMET's post-training quantization, simulated by AIMET itself: accuracy over the whole test set.

    python -m benchmarks.peers.aimet --net resnet20 resnet56 [--bits 4 --adaround 2000]

Weights per channel, activations of 8 bits, batch norms folded, AIMET's default ranges; the same 256
calibration images as all others see. With ``--adaround N``, N iterations a layer on 256 images.
In an environment of its own (`benchmarks/peers/requirements-simulators.txt`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from aimet_torch.adaround.adaround_weight import Adaround, AdaroundParameters
from aimet_torch.batch_norm_fold import fold_all_batch_norms
from aimet_torch.common.quantsim_config.utils import get_path_for_per_channel_config
from aimet_torch.model_preparer import prepare_model
from aimet_torch.quantsim import QuantizationSimModel
from torch import nn

from ..nets import NETS, Net, load

PER_CHANNEL = get_path_for_per_channel_config()
BATCH = 64


def quantized(net: Net, bits: int, iterations: int) -> nn.Module:
    """The simulation, its ranges taken from the calibration images."""
    model = prepare_model(net.module)
    fold_all_batch_norms(model, input_shapes=tuple(net.example.shape))
    batches = torch.from_numpy(net.calibration).split(BATCH)
    options = {"default_param_bw": bits, "config_file": PER_CHANNEL}
    if iterations:
        given = AdaroundParameters(
            [(b, torch.zeros(len(b))) for b in batches], len(batches), iterations,
            forward_fn=lambda model, batch: model(batch[0]),
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            model = Adaround.apply_adaround(
                model, net.example, given, folder, "rounded", default_param_bw=bits,
                default_config_file=PER_CHANNEL,
            )  # fmt: skip
            simulation = QuantizationSimModel(model, net.example, **options)
            simulation.set_and_freeze_param_encodings(str(Path(folder) / "rounded.encodings"))
    else:
        simulation = QuantizationSimModel(model, net.example, **options)
    with torch.no_grad():
        simulation.compute_encodings(lambda m, _: [m(b) for b in batches], None)
    return simulation.model


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
    parser = argparse.ArgumentParser()
    parser.add_argument("--net", nargs="+", choices=NETS, default=tuple(NETS))
    parser.add_argument("--bits", type=int, default=8, help="of the weights")
    parser.add_argument("--adaround", type=int, default=0, metavar="ITERATIONS")
    given = parser.parse_args()
    for name in given.net:
        torch.manual_seed(0)
        net, start = load(name), time.perf_counter()
        model = quantized(net, given.bits, given.adaround)
        seconds = time.perf_counter() - start
        way = f"AdaRound {given.adaround}" if given.adaround else "nearest"
        found = accuracy(model, net)
        print(f"aimet {name} weights {given.bits} bits, {way}: {found:.2f}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
