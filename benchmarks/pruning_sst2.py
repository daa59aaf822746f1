"""A BERT-style classifier of SST-2: heads and neurons cut, twice as fast on ONNX Runtime.

    python -m benchmarks.pruning sst2      # goes on where it was stopped

Four layers of 128 with 4 heads, with words of its own, trained here from random weights (seed 0) on
the 67,349 phrases of the training split; 2,000 of them, drawn with seed 0, choose the best epoch.
The 872 sentences of the development split are looked at only to state the figures. The cut network
is then distilled from the whole one on the same phrases.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import edgewise as ew
from edgewise.train.distill import Distill
from edgewise.train.finetune import Finetune
from edgewise.train.training import Optimizer, Session, Training

from .nets import shared

__all__ = ["run"]

OUT = Path(__file__).parent / "out" / "sst2"
LENGTH = 32  # words; longer sentences are cut off
OPTIMIZER = Optimizer("adamw", rate=1e-3, decay=0.01, clip=1.0, warmup=0.1)
EPOCHS, AGAIN = 1.0, 0.5  # to learn, and to recover
SHARE = 0.68  # of the MACs that goes


class Classifier(nn.Module):
    """BERT with a mask made of the padding, 0."""

    def __init__(self, words: int):
        super().__init__()
        import transformers

        config = transformers.BertConfig(
            vocab_size=words, hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
            intermediate_size=512, max_position_embeddings=LENGTH, num_labels=2,
        )  # fmt: skip
        self.net = transformers.BertForSequenceClassification(config)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = 1 - tokens.clamp(max=1).to(torch.float32)
        return self.net(tokens, attention_mask=(-1e4 * padding)[:, None, None]).logits


def sentences(split: str) -> tuple[list[list[str]], np.ndarray]:
    """Words and classes of one split."""
    lines = shared("sst2", f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return [text.split() for text, _ in rows], np.array([int(y) for _, y in rows], np.int64)


def tokens(texts: list[list[str]], numbers: dict[str, int]) -> np.ndarray:
    """(n, LENGTH) int64: 2 in front, the words (1 where unknown), 0 behind."""
    found = np.zeros((len(texts), LENGTH), np.int64)
    for row, words in zip(found, texts, strict=True):
        ids = [2, *(numbers.get(word, 1) for word in words)][:LENGTH]
        row[: len(ids)] = ids
    return found


def run() -> None:
    """Train, cut, recover, lower, and measure side by side."""
    texts, labels = sentences("train")
    counts = Counter(word for words in texts for word in words)
    numbers = {word: i + 3 for i, (word, n) in enumerate(counts.most_common()) if n > 1}
    held = sentences("dev")
    data = {
        "training": (tokens(texts, numbers), labels),
        "calibration": tokens(texts[::131], numbers),
        "evaluation": (tokens(held[0], numbers), held[1]),
    }
    whole = _kept("whole", lambda: _whole(len(numbers) + 3, data))
    plans: list[object] = []
    step = ew.Prune(SHARE, "macs", "sensitivity", reconstruct=True)
    small = _kept("cut", lambda: step(whole, data, show=plans.append))
    training = Training(epochs=AGAIN, batch=64, optimizer=OPTIMIZER)
    recover = Distill(whole, training=training, session=Session(OUT / "recovery", watch=_watch))
    recovered = _kept("recovered", lambda: recover(small, data))
    paths = []
    for name, model in (("whole", whole), ("cut", small), ("recovered", recovered)):
        paths.append(OUT / f"{name}.onnx")
        ew.lower(model, "onnxruntime", paths[-1])
    found = ew.compare(*map(str, paths), data=data)
    macs = [ew.inspect(model, ()).macs for model in (whole, small)]
    print(f"{macs[0]:,} -> {macs[1]:,} MACs ({macs[0] / macs[1]:.2f}x fewer)")
    for path, m, d in zip(paths, found.measurements, found.differences, strict=True):
        faster = (
            "" if d is None else f", {1 / d.latency:.2f}x faster, {100 * d.drop:.2f} points less"
        )
        print(f"{path.stem}: {100 * m.value:.2f} % of {m.n}, {m.latency_ms.p50:.3f} ms{faster}")


def _whole(words: int, data: dict[str, object]) -> ew.Model:
    torch.manual_seed(0)
    net = Classifier(words).eval()
    model = ew.load(net, torch.ones(1, LENGTH, dtype=torch.int64))
    training = Training(epochs=EPOCHS, batch=64, optimizer=OPTIMIZER)
    return Finetune(training=training, session=Session(OUT / "learning", watch=_watch))(model, data)


def _kept(name: str, make) -> ew.Model:
    """The model of that name, made once."""
    path = OUT / f"{name}.pt2"
    if not path.is_file():
        OUT.mkdir(parents=True, exist_ok=True)
        make().save(path)
    return ew.load(path)


def _watch(progress) -> None:
    if progress.step % 100 == 0:
        print(f"step {progress.step} of {progress.steps}: {progress.loss:.3f}", flush=True)
