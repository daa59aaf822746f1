"""Training: one loop for fine-tuning, distillation, quantization-aware and sparse training.

    Finetune | Distill  --objective-->  loop.train  --> the same Model, other weights

A quantized Model trains as it is: its fake-quantize nodes pass gradients straight through, and
its scales learn. Exact zeros of weights stay zero, so a sparse Model stays sparse; codebooks learn
and indices stay. `Training` decides the result, `Session` where it runs and what is kept.
"""

from __future__ import annotations

from .distill import Distill
from .features import Hint
from .finetune import Finetune
from .fresh import fresh
from .rounds import PruneRounds
from .training import Change, Optimizer, Session, Training
from .write_back import write_back

__all__ = [
    "Change", "Distill", "Finetune", "Hint", "Optimizer", "PruneRounds", "Session", "Training",
    "fresh", "write_back",
]  # fmt: skip
