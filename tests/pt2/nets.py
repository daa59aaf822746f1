"""Small nets that between them use what exported graphs are made of, each exported once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

__all__ = ["NETS", "examples", "exported", "net"]


class Small(nn.Module):
    """Little to run, for the many files that tests make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, input: Tensor) -> Tensor:
        return self.head(self.stem(input).flatten(1))


class Convolutional(nn.Module):
    """BatchNorm, in-place operators, a residual, dropout, an argument named as a builtin."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding="same"), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(8, 5)

    def forward(self, input: Tensor) -> Tensor:
        x = self.stem(input)
        y = nn.functional.relu6(self.norm(self.depthwise(x)), inplace=True)
        y += nn.functional.max_pool2d(x, 2)
        return self.head(self.drop(y.mean((2, 3)).flatten(1)))


class Recurrent(nn.Module):
    """Sizes as nodes (initial states), operators with several results."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(10, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        y, state = self.gru(y)
        return y[:, -1] + state[0]


class Attention(nn.Module):
    """Products of sizes, masks with minus infinity in an argument, lists of results."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
        self.register_buffer("position", torch.randn(4, 8), persistent=False)
        self.out = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.encoder(x + self.position)
        a, b = self.out(y).chunk(2, dim=2)
        scores = (a @ b.transpose(1, 2)).masked_fill(torch.eye(4).bool(), float("-inf"))
        return scores.softmax(-1), y.argmax(-1)


class TwoInputs(nn.Module):
    """Several inputs and outputs of several dtypes, tied weights, lifted constants, a None."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 6)
        self.decode = nn.Linear(6, 10, bias=False)
        self.decode.weight = self.table.weight

    def forward(self, tokens: Tensor, scale: Tensor, mask: Tensor | None = None) -> dict:
        x = self.table(tokens) * scale[:, None, :] + torch.tensor([1.0, 2, 3, 4, 5, 6])
        if mask is not None:
            x = x * mask
        half = x.half().float()
        return {"logits": self.decode(x), "wide": half.double(), "flag": (x > 0) & (half < 1)}


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[Callable[[int], Tensor | None], ...]]] = {
    "small": (Small, (lambda n: torch.randn(n, 1, 4, 4),)),
    "convolutional": (Convolutional, (lambda n: torch.randn(n, 3, 8, 8),)),
    "recurrent": (Recurrent, (lambda n: torch.randn(n, 7, 4),)),
    "attention": (Attention, (lambda n: torch.randn(n, 4, 8),)),
    "two_inputs": (
        TwoInputs,
        (lambda n: torch.randint(0, 10, (n, 3)), lambda n: torch.rand(n, 6), lambda n: None),
    ),
}


@cache
def net(name: str) -> nn.Module:
    """The net with weights and running statistics that are not their initial ones."""
    torch.manual_seed(0)
    module = NETS[name][0]()
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.add_(torch.rand_like(buffer))
    return module.eval()


def examples(name: str, batch: int, seed: int = 0) -> tuple[Tensor | None, ...]:
    """Inputs for the net."""
    torch.manual_seed(seed)
    return tuple(make(batch) for make in NETS[name][1])


@cache
def exported(name: str, *, train: bool = False, dynamic: bool = True) -> ExportedProgram:
    """The net through torch.export, batch axis dynamic unless said otherwise."""
    args = examples(name, 2)
    shapes = tuple(None if a is None else {0: Dim.DYNAMIC} for a in args) if dynamic else None
    module = net(name).train(train)
    try:
        return torch.export.export(module, args, dynamic_shapes=shapes)
    finally:
        module.eval()
