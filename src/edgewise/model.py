"""Model: a trained network as one graph, its signature, and how it came about."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import fx

from .edge.artifact import check_inputs
from .errors import ModelError
from .record import Event, Signature

__all__ = ["Model"]

# Samples that travel with a Model: enough to see a disagreement, small beside the weights.
SAMPLES, SAMPLES_LEAST, SAMPLE_BYTES = 32, 4, 4 << 20


@dataclass(frozen=True, eq=False)
class Model:
    """A network in torch.export's training IR, frozen.

    Attributes:
        graph: placeholders are the inputs, ``get_attr`` the parameters, buffers and constants
            under their original names, ``call_function`` aten operators (functional, in eval
            mode, batch axis dynamic), ``edgewise.fake_quantize`` and integer arithmetic on sizes;
            the output is a tuple. `edgewise.graph.canonical` makes this form. Not to be changed:
            `module` gives a copy.
        signature: inputs and outputs; the batch axis is None.
        lineage: every step since loading.
        samples: a few real inputs, one array an input, kept by the steps that see data; every
            artifact is compared with the Model on them.
    """

    graph: fx.GraphModule
    signature: Signature
    lineage: tuple[Event, ...] = ()
    samples: tuple[np.ndarray, ...] | None = None

    @classmethod
    def of(cls, module: fx.GraphModule, like: Model, event: Event | None = None) -> Model:
        """Close a changed copy of `like.module()` into a Model again.

        Raises:
            ModelError: the graph no longer runs, its outputs changed shape, or a weight is NaN
                or infinite.
        """
        from .graph.canonical import check

        module.graph.lint()
        module.recompile()
        check(module, like.signature)
        lineage = like.lineage + ((event,) if event else ())
        return replace(like, graph=module, lineage=lineage)

    def module(self) -> fx.GraphModule:
        """A copy of the graph: an ordinary `nn.Module`, to be read, changed or trained."""
        return copy.deepcopy(self.graph)

    def with_samples(self, inputs: tuple[np.ndarray, ...]) -> Model:
        """The same Model keeping the first few of these inputs (at most 4 MB, at least 4)."""
        per_sample = sum(array[:1].nbytes for array in inputs)
        n = min(SAMPLES, max(SAMPLES_LEAST, SAMPLE_BYTES // max(1, per_sample)))
        return replace(self, samples=tuple(np.ascontiguousarray(array[:n]) for array in inputs))

    def __call__(self, *inputs):
        """Run the Model in eval mode without gradients.

        Args:
            inputs: numpy arrays or torch tensors, one an input, batch axis first.

        Returns:
            The output in the kind that was given (numpy or torch), or a tuple of the outputs when
            there are several.

        Raises:
            DataError: an input whose shape or dtype does not fit the signature.
        """
        if any(isinstance(array, torch.Tensor) for array in inputs):
            with torch.no_grad():
                outputs = self.graph(*inputs)
        else:
            arrays = tuple(np.asarray(array) for array in inputs)
            check_inputs(arrays, self.signature)
            with torch.no_grad():
                outputs = self.graph(*(torch.from_numpy(a.copy()) for a in arrays))
            outputs = tuple(output.numpy() for output in outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the Model as one ``.pt2`` file: graph, weights, signature, lineage, samples.

        Raises:
            InputError: the file cannot be written.
        """
        from .pt2 import archive

        path = Path(path)
        if path.suffix != ".pt2":
            raise ModelError(f"a Model is saved as .pt2, not as '{path.name}'")
        archive.write(path, self.graph, self.signature, self.lineage, self.samples)
        return path

    @property
    def quantized(self) -> bool:
        """Whether any value in the graph is quantized."""
        target = torch.ops.edgewise.fake_quantize.default
        return any(node.target is target for node in self.graph.graph.nodes)

    @property
    def clustered(self) -> bool:
        """Whether any weight is a codebook and indices."""
        target = torch.ops.edgewise.lookup.default
        return any(node.target is target for node in self.graph.graph.nodes)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{s.name}{list(s.shape)}" for s in self.signature.inputs)
        count = sum(p.numel() for p in self.graph.parameters())
        steps = " > ".join(e.step for e in self.lineage)
        return f"Model({inputs}; {count:,} parameters; {steps})"
