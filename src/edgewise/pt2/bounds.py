"""A graph from a file is run once without data, within bounds, before anything else runs it.

Running without data costs nothing for a large tensor, but an operator that gives a list makes as
many tensors as it is told, and one that walks over time takes as many steps.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode

from ..errors import ModelError
from ..graph.canonical import empty
from ..record import TensorSpec

__all__ = ["check_bounds", "quiet"]

MAX_ELEMENTS = 2**31
MAX_PIECES = 100_000  # of all lists together

RECURRENT = {"aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from logging a traceback for each graph that does not run; we raise instead."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def check_bounds(module: fx.GraphModule, inputs: tuple[TensorSpec, ...]) -> None:
    """Check that a graph runs on a batch of 2 and makes nothing of absurd size.

    Raises:
        ModelError: naming the operator that cannot run or makes too much.
    """
    # Without fallbacks: an operator that needs data to know its shape does not get any.
    mode = FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False)
    with torch.no_grad(), mode:
        outputs = _Bounded(module, mode).run(*(empty(spec, 2) for spec in inputs))
    if not all(isinstance(output, torch.Tensor) for output in outputs):
        raise ModelError("the graph gives out a number or a list where tensors belong")


class _Bounded(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, mode: FakeTensorMode):
        super().__init__(module)
        self.extra_traceback = False
        self.mode = mode
        self.pieces = 0

    def get_attr(self, target: str, args: tuple, kwargs: dict) -> torch.Tensor:
        return self.mode.from_tensor(super().get_attr(target, args, kwargs))

    def run_node(self, node: fx.Node) -> object:
        where = f"'{node.name}' ({node.target})"
        try:
            if isinstance(node.target, OpOverload):
                args, kwargs = self.fetch_args_kwargs_from_env(node)
                rows = node.target._schema.arguments
                given = {row.name: arg for row, arg in zip(rows, args, strict=False)}
                self.pieces += _pieces(node.target._schema.name, {**given, **kwargs})
            if self.pieces <= MAX_PIECES:
                value = super().run_node(node)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"the graph does not run at {where}: {reason:.300}") from error
        if self.pieces > MAX_PIECES:
            raise ModelError(f"{where} would take a tensor apart into too many pieces")
        if isinstance(value, torch.Tensor) and value.numel() > MAX_ELEMENTS:
            raise ModelError(f"{where} makes a tensor of {value.numel()} elements")
        return value


def _pieces(name: str, given: Mapping[str, object]) -> int:
    """How many tensors an operator makes on its way, 1 for those that make what they give."""
    x = given.get("self", given.get("input"))
    if name in RECURRENT:
        return max(x.shape[:2]) * given["num_layers"]
    if name == "aten::unbind":
        return x.shape[given.get("dim", 0)]
    if name == "aten::split" and isinstance(given.get("split_size"), int):
        return x.shape[given.get("dim", 0)] // max(1, given["split_size"])
    if name in ("aten::chunk", "aten::tensor_split"):
        count = given.get("chunks", given.get("sections"))
        return min(count, x.shape[given.get("dim", 0)]) if isinstance(count, int) else 1
    return 1
