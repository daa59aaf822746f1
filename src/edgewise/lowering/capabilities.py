"""What each runtime makes of each scheme: one row a runtime, measured by `benchmarks.schemes`.

The figures are latencies as multiples of float's, of one image through MobileNetV2 ("images") and
of 64 tokens through a transformer encoder of width 256 ("tokens"), on one core of an x86 processor
with AVX-512 VNNI.
"""

from __future__ import annotations

from ..edge import runners
from ..support import Capabilities, Support

__all__ = ["ROWS", "capabilities", "markdown"]

BOTH, LINEAR = ("conv", "linear"), ("linear",)
# Why not.
AS_FLOAT = "its kernels take such weights as float only, and the file would hold them so"
WIDE = "it has no kernels for int16, the layers would run as float between roundings"
SAME = "as int8: the kernels multiply by any scale"
HALF = "convolutions keep their weights in float32, and ResNet-20 takes twice the time"
EXPANDED = tuple(
    Support(scheme, "none", AS_FLOAT) for scheme in ("bfloat16", "float8-e4m3", "float8-e5m2")
)

ROWS: dict[str, tuple[Support, ...]] = {
    "onnxruntime": (
        Support("int8", "fast", "images 0.64, tokens 0.50", BOTH),
        Support("int8-pow2", "fast", SAME, BOTH),
        Support("16x8", "none", WIDE),
        Support("int8-dynamic", "fast", "tokens 0.56", LINEAR, dynamic="sample"),
        Support("int4-dynamic", "fast", "tokens 0.68", LINEAR, (128, 64, 32), "group"),
        Support("int8-weights", "float", "images 1.01, tokens 0.98", BOTH),
        Support("int4-weights", "float", "tokens 1.09", LINEAR, (32, 64, 128)),
        Support("int4-affine", "float", "tokens 0.99", LINEAR, (32, 64, 128)),
        Support("float16", "float", "images 1.04, tokens 0.88", BOTH),
        *EXPANDED,
    ),
    "litert": (
        Support("int8", "fast", "images 0.61, tokens 0.18", BOTH),
        Support("int8-pow2", "fast", SAME, BOTH),
        Support("16x8", "slow", "images 36.25, tokens 18.78", BOTH),
        Support("int8-dynamic", "fast", "tokens 0.18", LINEAR, dynamic="token"),
        Support("int4-dynamic", "fast", "tokens 0.17", LINEAR, dynamic="token"),
        Support("int8-weights", "float", "images 1.08, tokens 1.03", BOTH),
        Support("int4-weights", "none", AS_FLOAT),
        Support("int4-affine", "none", AS_FLOAT),
        Support("float16", "float", "images 1.06, tokens 1.00", BOTH),
        *EXPANDED,
    ),
    "executorch": (
        Support("int8", "fast", "images 0.50, tokens 0.19", BOTH),
        Support("int8-pow2", "fast", SAME, BOTH),
        Support("16x8", "none", WIDE),
        Support("int8-dynamic", "fast", "tokens 0.19", LINEAR, dynamic="token"),
        Support("int4-dynamic", "fast", "tokens 0.32", LINEAR, (32, 64, 128), "token"),
        Support("int8-weights", "none", AS_FLOAT),
        Support("int4-weights", "none", AS_FLOAT),
        Support("int4-affine", "none", AS_FLOAT),
        Support("float16", "none", HALF),
        *EXPANDED,
    ),
    "openvino": (
        Support("int8", "fast", "images 0.37, tokens 0.38", BOTH),
        Support("int8-pow2", "fast", SAME, BOTH),
        Support("16x8", "none", WIDE),
        Support("int8-dynamic", "fast", "tokens 0.62", LINEAR, (32, 64, 128), "group"),
        Support("int4-dynamic", "fast", "tokens 0.59", LINEAR, (32, 64, 128), "group"),
        Support("int8-weights", "float", "images 1.00, tokens 1.00", BOTH),
        Support("int4-weights", "float", "tokens 0.90", LINEAR, (32, 64, 128)),
        Support("int4-affine", "float", "tokens 0.99", LINEAR, (32, 64, 128)),
        Support("float16", "float", "images 1.02, tokens 1.02", BOTH),
        *EXPANDED,
    ),
}


def capabilities(runtime: str) -> Capabilities:
    """What a runtime makes of every scheme of quantization.

    Args:
        runtime: ``"onnxruntime"``, ``"litert"``, ``"executorch"`` or ``"openvino"``.

    Raises:
        InputError: an unknown runtime.
    """
    name = runners.get(runtime).name
    return Capabilities(name, ROWS[name])


def markdown() -> str:
    """The table of docs/quantization.md."""
    words = {"fast": "fast", "float": "smaller file", "slow": "slower than float", "none": "no"}
    lines = [
        "| runtime | scheme | gain | layers | weight's scale for | range at run time | figures |",
        "|---|---|---|---|---|---|---|",
    ]
    for runtime, rows in ROWS.items():
        for row in rows:
            scales = ""
            if row.speed != "none":
                groups = ", ".join(map(str, row.groups))
                four = row.scheme.startswith("int4")
                scales = f"{groups} inputs" if four and groups else "output channel"
                scales = "" if row.scheme == "float16" else scales
            share = f"group of {row.groups[0]}" if row.dynamic == "group" else row.dynamic
            cells = (runtime, f"`{row.scheme}`", words[row.speed], ", ".join(row.layers), scales,
                     share, row.reason)  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
