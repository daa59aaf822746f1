"""Bits for each layer beside the same bits everywhere, at equal size.

python -m benchmarks.mixed --net resnet56 --bits 2 3 4

For each width: all weights of so many bits, then `edgewise.allocate` within the bytes that those
take; both rounded by GPTQ on the same calibration images, judged on the whole test set.
"""

from __future__ import annotations

import argparse

import edgewise as ew
from edgewise.compress.allocate import choose

from .accuracy import NETS, accuracy, subject


def main(arguments: list[str] | None = None) -> None:
    """Print one row for each width."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=NETS, default="resnet56")
    parser.add_argument("--bits", nargs="+", type=int, default=(2, 3, 4))
    given = parser.parse_args(arguments)
    model, calibration, x, y = subject(given.net)
    data = {"calibration": calibration}
    measured = ew.allocate(model, data, float("inf")).measured
    weights = sum(row.cost for row in measured if row.bits == 8)
    print(f"{given.net}: float {accuracy(model, x, y):.2f}", flush=True)
    for bits in given.bits:
        found = choose(measured, weights * bits / 8)
        for name, width in (("everywhere", bits), ("by layer", found.bits)):
            small = ew.RoundWeights()(ew.Quantize("int8", weight_bits=width)(model, data), data)
            print(f"  {bits} bits {name:<10} {accuracy(small, x, y):.2f}", flush=True)


if __name__ == "__main__":
    main()
