"""ONNX's own node tests (`onnx.backend.test`) through the ONNX front door.

Counted is every case of ``ai.onnx`` operators whose inputs and outputs are dense tensors of floats,
integers or booleans; strings, sequences, optionals, 4-bit and 8-bit floats are not. Each case goes
through reading, preparation, `torch.export` and the canonical form, and that graph is run on the
case's inputs and compared with its outputs. A case passes in one of these ways, the first that
works:

* ``load``: `edgewise.load` itself; axis 0 of inputs and outputs is the batch.
* ``static``: the same, but exported without a free batch axis, since the case has none.
* ``given``: the same again, with the case's values of those inputs that hold sizes, axes, indices
  or other settings put into the file as initializers, as every exporter writes them: a Model's
  graph does not compute shapes from data.

    python -m benchmarks.onnx_nodes [--only NAME] [--each N] [--first K] [--quiet]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from edgewise.errors import EdgewiseError, ModelError
from edgewise.graph.canonical import canonical
from edgewise.loading.onnx import load_onnx
from edgewise.loading.onnx.file import DTYPES, read
from edgewise.loading.onnx.net import Net
from edgewise.loading.onnx.prepare import prepare

__all__ = ["Outcome", "cases", "judge"]

ROUNDINGS = {torch.float32: 4 * 2**-23, torch.float16: 2**-10, torch.bfloat16: 2**-7}
RANDOM = {"Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


@dataclass(frozen=True)
class Outcome:
    """How a case ended: ``load``, ``static``, ``given``, ``refused`` or ``wrong``."""

    name: str
    way: str
    reason: str = ""

    @property
    def passed(self) -> bool:
        return self.way in ("load", "static", "given")


def cases() -> Iterator:
    """The cases that count."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    for case in found:
        values = [*case.model.graph.input, *case.model.graph.output]
        dense = all(
            v.type.HasField("tensor_type") and v.type.tensor_type.elem_type in DTYPES
            for v in values
        )
        if dense and all(n.domain in ("", "ai.onnx") for n in case.model.graph.node):
            yield case


def judge(case, folder: Path) -> Outcome:
    """Run one case in every way until one passes."""
    path = folder / "case.onnx"
    reasons = []
    inputs, outputs = ([_array(v) for v in values] for values in case.data_sets[0])
    if not all(isinstance(v, np.ndarray | np.generic) for v in (*inputs, *outputs)):
        return Outcome(case.name, "refused", "the case's values are no arrays")
    for way, model, kept in _ways(case.model, inputs):
        path.write_bytes(model.SerializeToString())
        given = [_tensor(v) for i, v in enumerate(inputs) if i in kept]
        try:
            graph = load_onnx(path).graph if way == "load" else _static(path, given)
            with torch.no_grad():
                found = graph(*given)
        except EdgewiseError as error:
            reasons.append(str(error).removeprefix("case.onnx: "))
            continue
        except Exception as error:
            reasons.append(f"{way} {type(error).__name__}: {str(error).splitlines()[0]}")
            continue
        difference = _difference(case, found, outputs)
        if not difference:
            return Outcome(case.name, way)
        return Outcome(case.name, "wrong", f"{way}: {difference}")
    return Outcome(case.name, "refused", reasons[-1])


def _ways(model, inputs) -> Iterator[tuple[str, onnx.ModelProto, set[int]]]:
    every = set(range(len(inputs)))
    yield "load", model, every
    yield "static", model, every
    # Data is the first input, if it is no scalar, and every float behind it with several axes.
    kept = {i for i, v in enumerate(inputs) if np.ndim(v) > 1 and np.asarray(v).dtype.kind == "f"}
    if inputs and np.ndim(inputs[0]):
        kept.add(0)
    if kept != every:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        names = [v.name for v in model.graph.input]
        for i in sorted(every - kept):
            copy.graph.initializer.append(numpy_helper.from_array(np.asarray(inputs[i]), names[i]))
        del copy.graph.input[:]
        copy.graph.input.extend(v for i, v in enumerate(model.graph.input) if i in kept)
        yield "given", copy, kept


def _static(path: Path, given: list[torch.Tensor]) -> torch.fx.GraphModule:
    """As `load_onnx`, with every shape fixed as in the case."""
    net = Net(prepare(read(path)), None)
    try:
        program = torch.export.export(net, tuple(given), strict=False)
    except ModelError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"it cannot be exported: {reason}") from error
    return canonical(program.module())


def _array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _tensor(value) -> torch.Tensor:
    array = np.array(value)
    if str(array.dtype) == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(array)


def _difference(case, found, wanted) -> str:
    """Empty where the outputs are those of the case, to the case's own tolerances."""
    if len(found) != len(wanted):
        return f"{len(found)} outputs of {len(wanted)}"
    random = RANDOM & {node.op_type for node in case.model.graph.node}
    for i, (have, want) in enumerate(zip(found, wanted, strict=True)):
        want = _tensor(want)
        if have.dtype != want.dtype or have.shape != want.shape:
            return (
                f"output {i} is {have.dtype} {tuple(have.shape)}, "
                f"not {want.dtype} {tuple(want.shape)}"
            )
        if random:
            continue
        a, b = (t.detach().to(torch.float64).numpy() for t in (have, want))
        # The cases' own results are rounded too: some roundings of the largest element.
        largest = np.nanmax(np.abs(b), initial=0, where=np.isfinite(b))
        atol = case.atol + ROUNDINGS.get(want.dtype, 0.0) * largest
        if not np.allclose(a, b, case.rtol, atol, equal_nan=True):
            return f"output {i} differs by {np.nanmax(np.abs(a - b)):.3g}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--each", type=int, default=1, help="every n-th case")
    parser.add_argument("--first", type=int, default=0, help="from this case on")
    parser.add_argument("--quiet", action="store_true", help="no list of failures")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen = [c for c in cases() if options.only in c.name][options.first :: options.each]
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for i, case in enumerate(chosen):
            if i % 25 == 0:
                torch._dynamo.reset()
                print(f"\r{i} of {len(chosen)}", end="", file=sys.stderr, flush=True)
            outcomes.append(judge(case, Path(folder)))
    print("\r", end="", file=sys.stderr)
    if not options.quiet:
        for outcome in outcomes:
            if not outcome.passed:
                print(f"{outcome.way:8} {outcome.name}: {outcome.reason}")
    ways = Counter(outcome.way for outcome in outcomes)
    passed = sum(outcome.passed for outcome in outcomes)
    print(f"{passed} of {len(outcomes)} pass ({passed / max(len(outcomes), 1):.1%}):", dict(ways))
    return 1 if ways["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
