"""What a runtime makes of each scheme of quantization: plain data, measured, torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InputError

__all__ = ["Capabilities", "Support"]


@dataclass(frozen=True)
class Support:
    """What one runtime makes of one scheme.

    Attributes:
        scheme: a name of `edgewise.compress.schemes.SCHEMES`.
        speed: against the same layers in float: ``"fast"`` (integer kernels), ``"float"`` (the
            file is smaller, the kernels are those for float), ``"slow"`` or ``"none"`` (refused).
        reason: the figure, or why not, in one sentence.
        layers: which layers it holds for: ``"conv"``, ``"linear"``; others stay float.
        groups: inputs that may share one scale of the weight, the recommended first; empty when
            the runtime takes one scale for each output channel.
        dynamic: what shares a range at run time: ``"sample"``, ``"token"`` or ``"group"`` (as many
            numbers of a token as of the weight); empty when nothing is quantized at run time.
    """

    scheme: str
    speed: str
    reason: str
    layers: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    dynamic: str = ""


@dataclass(frozen=True)
class Capabilities:
    """What one runtime makes of every scheme."""

    runtime: str
    schemes: tuple[Support, ...]

    def support(self, scheme: str) -> Support:
        """The row of a scheme.

        Raises:
            InputError: there is none.
        """
        for row in self.schemes:
            if row.scheme == scheme:
                return row
        raise InputError(f"nothing is known of '{scheme}' on {self.runtime}")
