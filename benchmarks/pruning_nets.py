"""The networks that `benchmarks.pruning` and its peer are compared on; free of edgewise."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from .nets import load, normalise_cifar, shared

__all__ = ["ANALYSED", "NET", "TARGETS", "labelled", "timed", "training"]

NET = "resnet56"
TARGETS = {"1.30x": 0.2308, "1.98x": 0.495, "2x": 0.5}  # share of the MACs that goes
REPEATS = 7


def training(n: int) -> np.ndarray:
    """The first `n` training images, without labels, as the networks take them."""
    with np.load(shared("cifar10", "cifar10_train20k_test10k.npz")) as file:
        return normalise_cifar(file["x_train"][:n])


def labelled() -> tuple[np.ndarray, np.ndarray]:
    """All 20,000 training images as the networks take them, and their classes."""
    with np.load(shared("cifar10", "cifar10_train20k_test10k.npz")) as file:
        return normalise_cifar(file["x_train"]), file["y_train"].astype(np.int64)


def vit() -> tuple[torch.nn.Module, torch.Tensor]:
    """ViT-B/16 with random weights."""
    import transformers

    config = transformers.ViTConfig()
    net = transformers.ViTForImageClassification(config)
    return Logits(net, "pixel_values").eval(), torch.randn(1, 3, 224, 224)


def llama() -> tuple[torch.nn.Module, torch.Tensor]:
    """Twelve layers, twelve heads on four of keys and values, random weights."""
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=4,
        intermediate_size=2048, vocab_size=32000, use_cache=False,
    )  # fmt: skip
    net = transformers.LlamaForCausalLM(config)
    return Logits(net, "input_ids").eval(), torch.randint(0, 99, (1, 16))


class Logits(torch.nn.Module):
    """The logits of a model of the transformers package."""

    def __init__(self, net: torch.nn.Module, name: str):
        super().__init__()
        self.net, self.name = net, name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(**{self.name: x}).logits


def resnet() -> tuple[torch.nn.Module, torch.Tensor]:
    """ResNet-56 with its trained weights."""
    net = load(NET)
    return net.module, net.example


ANALYSED: dict[str, Callable[[], tuple[torch.nn.Module, torch.Tensor]]] = {
    NET: resnet,
    "vit_b_16": vit,
    "llama_12": llama,
}


def timed(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Least seconds of several runs."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)
