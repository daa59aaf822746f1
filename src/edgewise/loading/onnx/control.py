"""Control flow that folds away while exporting, and sequences."""

from __future__ import annotations

import numpy as np
import torch

from .rows import row
from .shapes import integers
from .values import as_array, as_tensor, known, symbolic

__all__: list[str] = []

MOST_ITERATIONS = 1024


@row("If", raw=True)
def branch(op, condition):
    if not known(condition):
        raise op.fail("its condition is computed from data; a Model has no control flow")
    taken = op["then_branch"] if bool(as_array(condition).reshape(-1)[0]) else op["else_branch"]
    return tuple(op.graph(taken, []))


@row("Loop", raw=True)
def loop(op, count=None, condition=None, *carried):
    """Written out, where the number of iterations is known."""
    body, carried = op["body"], list(carried)
    if (count is not None and not known(count)) or not (condition is None or known(condition)):
        raise op.fail("how often it runs is computed from data; a Model has no control flow")
    most = MOST_ITERATIONS + 1 if count is None else as_array(count).reshape(-1)[0]
    if symbolic(most):
        raise op.fail("it runs once a sample; a Model has no control flow")
    scans: list[list] = [[] for _ in range(len(body.outputs) - 1 - len(carried))]
    done = 0
    while done < most and (condition is None or bool(as_array(condition).reshape(-1)[0])):
        if done == MOST_ITERATIONS:
            raise op.fail(f"it runs more than {MOST_ITERATIONS} times")
        going = np.asarray(True) if condition is None else condition
        outputs = op.graph(body, [np.asarray(done), going, *carried])
        if condition is not None:
            condition = outputs[0]
            if not known(condition):
                raise op.fail("when it ends is computed from data; a Model has no control flow")
        carried = outputs[1 : 1 + len(carried)]
        for scan, value in zip(scans, outputs[1 + len(carried) :], strict=True):
            scan.append(as_tensor(value))
        done += 1
    if not done and scans:
        raise op.fail("it never runs")
    return (*carried, *(torch.stack(scan) for scan in scans))


@row("Scan", raw=True)
def scan(op, *values):
    """Written out over its axis of time."""
    body, count = op["body"], op["num_scan_inputs"]
    if op.version < 9:
        raise op.fail("its form is that before operator set 9: export a newer one")
    states, xs = list(values[: len(values) - count]), [as_tensor(v) for v in values[-count:]]
    axes = op.get("scan_input_axes", [0] * count)
    axes = [op.axis(a, x.ndim) for a, x in zip(axes, xs, strict=True)]
    steps = xs[0].shape[axes[0]]
    if symbolic(steps) or steps > MOST_ITERATIONS or not steps:
        raise op.fail(f"it runs {steps} times; 1 to {MOST_ITERATIONS} can be written out")
    backward = op.get("scan_input_directions", [0] * count)
    scans: list[list] = [[] for _ in range(len(body.outputs) - len(states))]
    for t in range(steps):
        now = [
            x.select(a, steps - 1 - t if b else t)
            for x, a, b in zip(xs, axes, backward, strict=True)
        ]
        outputs = op.graph(body, [*states, *now])
        states = outputs[: len(states)]
        for found, value in zip(scans, outputs[len(states) :], strict=True):
            found.append(as_tensor(value))
    places = op.get("scan_output_axes", [0] * len(scans))
    turned = op.get("scan_output_directions", [0] * len(scans))
    joined = [
        torch.stack(s[::-1] if b else s, a) for s, a, b in zip(scans, places, turned, strict=True)
    ]
    return (*states, *joined)


@row("SequenceConstruct", raw=True)
def sequence(op, *values):
    return list(values)


@row("SequenceEmpty", raw=True)
def empty_sequence(op):
    return []


@row("SequenceInsert", raw=True)
def insert(op, values, value, at=None):
    place = len(values) if at is None else int(as_array(at))
    return [*values[:place], value, *values[place:]]


@row("SequenceAt", raw=True)
def element(op, values, at):
    return values[int(as_array(at))]


@row("SequenceLength", raw=True)
def length(op, values):
    return np.asarray(len(values))


@row("ConcatFromSequence", raw=True)
def join(op, values):
    parts = [as_tensor(v) for v in values]
    return torch.stack(parts, op["axis"]) if op.get("new_axis", 0) else torch.cat(parts, op["axis"])


@row("SplitToSequence", raw=True)
def cut(op, x, sizes=None):
    x, axis = as_tensor(x), op.get("axis", 0)
    if sizes is None:
        parts = torch.split(x, 1, axis)
        return [p if op.get("keepdims", 1) else p.squeeze(axis) for p in parts]
    given = as_array(sizes)
    return list(torch.split(x, int(given) if given.ndim == 0 else integers(given), axis))


@row("OptionalHasElement", raw=True)
def has_element(op, value=None):
    return np.asarray(value is not None)


@row("Optional", "OptionalGetElement", raw=True)
def get_element(op, value=None):
    if value is None:
        raise op.fail("its optional value is not there")
    return value
