"""What a student is taught by: distances between its outputs or features and a teacher's.

Each is a mean over the batch, a scalar tensor with a gradient with respect to the student's side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "attention_transfer",
    "decoupled_divergence",
    "hint",
    "mixture",
    "relational",
    "soft_divergence",
]

TINY = 1e-12


def mixture(logits: list[Tensor], temperature: float) -> Tensor:
    """The logits whose softmax at `temperature` is the mean of the teachers' (batch, classes).

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531), section
    2: an ensemble teaches by the arithmetic mean of its predictive distributions.
    """
    if len(logits) == 1:
        return logits[0]
    mean = torch.stack([F.softmax(each / temperature, -1) for each in logits]).mean(0)
    return mean.clamp(min=TINY).log() * temperature


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(student / T))``, logits (batch, ..., classes).

    arXiv:1503.02531, section 2.1: the factor T^2 keeps the gradients' size as T changes.
    """
    ours = F.log_softmax(student / temperature, -1).flatten(0, -2)
    theirs = F.log_softmax(teacher / temperature, -1).flatten(0, -2)
    divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def decoupled_divergence(
    student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, weight: float = 8.0
) -> Tensor:
    """Decoupled knowledge distillation: what is said of the target, and of the others apart.

    Zhao et al. 2022, "Decoupled Knowledge Distillation" (arXiv:2203.08679), equations 6 and 7:
    ``T^2 (TCKD + weight * NCKD)``.

    Args:
        student, teacher: logits, float32 (batch, classes).
        targets: classes, int64 (batch,).
        weight: beta of the paper, of the classes that are not the target.
    """
    right = F.one_hot(targets, student.shape[-1]).bool()
    chances = [F.softmax(x / temperature, -1)[right] for x in (student, teacher)]
    pairs = [torch.stack([p, 1 - p], -1).clamp(min=TINY) for p in chances]
    target = F.kl_div(pairs[0].log(), pairs[1], reduction="batchmean")
    others = [(x / temperature)[~right].reshape(len(x), -1) for x in (student, teacher)]
    ours, theirs = (F.log_softmax(x, -1) for x in others)
    rest = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return (target + weight * rest) * temperature**2


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of features of one shape, over the teacher's mean square.

    Romero et al. 2015, "FitNets: Hints for Thin Deep Nets" (arXiv:1412.6550), equation 3; divided
    so that layers of any scale weigh alike.
    """
    return F.mse_loss(student, teacher) / teacher.square().mean().clamp(min=TINY)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance of where the two look: features (batch, channels, *places), any two channel counts.

    Zagoruyko and Komodakis 2017, "Paying More Attention to Attention" (arXiv:1612.03928), equation
    2 with p = 2: maps of the summed squares over channels, each of unit length.
    """
    ours, theirs = (F.normalize(x.square().sum(1).flatten(1), dim=1) for x in (student, teacher))
    return (ours - theirs).square().sum(1).mean()


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance of how the samples of a batch lie to one another; features (batch, ...), any sizes.

    Park et al. 2019, "Relational Knowledge Distillation" (arXiv:1904.05068), equations 4 to 9:
    pairwise distances over their mean, weighed 1, and angles of triplets, weighed 2, both by the
    Huber loss.
    """
    ours, theirs = student.flatten(1), teacher.flatten(1)
    distance = F.smooth_l1_loss(_distances(ours), _distances(theirs))
    return distance + 2 * F.smooth_l1_loss(_angles(ours), _angles(theirs))


def _distances(x: Tensor) -> Tensor:
    """Euclidean distances of all pairs over their mean (batch, batch)."""
    square = (x[:, None] - x[None]).square().sum(-1)
    distance = square.clamp(min=TINY).sqrt()
    apart = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    return torch.where(apart, distance / distance[apart].mean().clamp(min=TINY), 0.0)


def _angles(x: Tensor) -> Tensor:
    """Cosines of the angles of all triplets, the corner first (batch, batch, batch)."""
    towards = F.normalize(x[None] - x[:, None], dim=-1)
    return towards @ towards.transpose(1, 2)
