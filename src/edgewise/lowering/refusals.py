"""What a runtime cannot take of a Model, all of it, known before anything is written."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..edge import runners
from ..errors import MissingExtra, UnsupportedOperator
from ..graph.fold import fold
from ..model import Model
from .build import build, untranslatable
from .program import Op, Program, Tensor

__all__ = ["Refusals", "refusals"]


@dataclass(frozen=True)
class Refusals:
    """What stands between a Model and one runtime.

    Attributes:
        runtime: its name.
        layers: layer -> why the runtime cannot take it; empty when it takes the whole Model.
        missing: how to install the runtime, where it is not and nothing could be tried.
    """

    runtime: str
    layers: dict[str, str]
    missing: str | None = None


def refusals(model: Model, names: Iterable[str] = tuple(runners.RUNTIMES)) -> tuple[Refusals, ...]:
    """Every layer that each runtime refuses; `lower` stops at the first."""
    module = fold(model.module())
    unknown = untranslatable(module, model.signature)
    if unknown:
        return tuple(Refusals(name, unknown) for name in names)
    operators = [_alone(op) for op in build(module, model.signature, 1).ops]
    return tuple(_refusals(name, operators) for name in names)


def _refusals(name: str, operators: list[Program]) -> Refusals:
    try:
        runners.probe(name)
    except MissingExtra as error:
        return Refusals(name, {}, str(error))
    lowering = importlib.import_module(f".{runners.get(name).module}", __package__)
    found: dict[str, str] = {}
    for program in operators:
        try:
            lowering.check(program)
        except UnsupportedOperator as error:
            op = program.ops[-1] if program.ops[-1].kind != "dequantize" else program.ops[-2]
            found.setdefault(op.layer or op.output.name, str(error))
    return Refusals(name, found)


def _alone(op: Op) -> Program:
    """The operator as a Program of its own, float at its ends."""
    if op.kind in ("quantize", "dequantize"):
        return Program(op.inputs, (op.output,), (op,))
    inputs: dict[str, Tensor] = {}
    before: list[Op] = []
    for tensor in op.inputs:
        if tensor is None or tensor.data is not None or tensor.name in inputs:
            continue
        given = replace(tensor, name=f"{tensor.name}/given", quant=None) if tensor.quant else tensor
        inputs[tensor.name] = given
        if tensor.quant:
            before.append(Op("quantize", (given,), tensor))
    after: list[Op] = []
    output = op.output
    if output.quant:
        output = replace(output, name=f"{output.name}/float", quant=None)
        after.append(Op("dequantize", (op.output,), output))
    return Program(tuple(inputs.values()), (output,), (*before, op, *after))
