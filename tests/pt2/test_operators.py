"""The list of operators: nothing on it writes, reads files, or needs data to know its shape."""

from __future__ import annotations

import pytest
import torch
from torch._C import DispatchKey

from edgewise.errors import ModelError
from edgewise.pt2 import operators

LISTED = [
    f"aten.{packet}.{overload}"
    for packet in sorted(operators.ATEN)
    for overload in getattr(torch.ops.aten, packet).overloads()
]


def found(name: str, *, in_place: bool = False) -> torch._ops.OpOverload | None:
    try:
        return operators.resolve(name, in_place=in_place)
    except ModelError:
        return None


def test_every_name_on_the_list_is_an_operator() -> None:
    for packet in operators.ATEN:
        names = getattr(torch.ops.aten, packet).overloads()
        assert any(found(f"aten.{packet}.{overload}") for overload in names), packet


def test_no_operator_on_the_list_changes_its_arguments_or_takes_files() -> None:
    for name in LISTED:
        if operator := found(name):
            assert not operator._schema.is_mutable, name
            assert not any("file" in a.name for a in operator._schema.arguments)
            assert all(str(r.type) != "str" for r in operator._schema.returns)


def test_every_operator_on_the_list_runs_without_data() -> None:
    """So that checking a graph never has to run one on real memory."""
    keys = (
        DispatchKey.Meta,
        DispatchKey.CompositeImplicitAutograd,
        DispatchKey.CompositeExplicitAutograd,
    )
    special = {"aten.lift_fresh_copy.default"}  # the fake mode has its own rule
    for name in LISTED:
        operator = found(name)
        if operator is None or not torch._C._dispatch_has_kernel(operator.name()):
            continue
        assert name in special or any(
            torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), key) for key in keys
        ), name


@pytest.mark.parametrize(
    "name",
    [
        "aten.from_file.default", "aten.save.default", "aten.set_.source_Storage",
        "aten.set_data.default", "aten.resize_.default", "aten.as_strided.default",
        "aten.empty.memory_format", "aten.new_empty.default", "aten._unsafe_index.Tensor",
        "aten.rand.default", "aten.bernoulli.default", "aten.item.default",
        "aten.nonzero.default", "aten.mul.left_t", "aten.add.str", "aten.add.out",
        "aten.add_.Tensor",
        "aten.relu", "aten.relu.", "aten..default", "aten", "", ".", "aten.relu.default.more",
        "aten.__class__.__call__", "aten.relu.__class__", "aten.relu.overloads",
        "operator.attrgetter",
        "operator.pow", "operator.lshift", "operator.setitem", "operator.__class__", "torch.load",
        "torch.sym_ite", "math.exp", "builtins.eval", "prims.add.default", "edgewise.__class__",
        "higher_order.cond", "aten.relu.default\n", " aten.relu.default", "ATEN.relu.default",
    ],
)  # fmt: skip
def test_what_is_not_listed_is_refused_by_name(name: str) -> None:
    with pytest.raises(ModelError, match="is not one that edgewise reads"):
        operators.resolve(name)


@pytest.mark.parametrize("name", ["aten.relu_.default", "aten.add_.Tensor", "aten.copy_.default"])
def test_in_place_forms_are_taken_on_request(name: str) -> None:
    operator = found(name, in_place=True)
    assert operator._schema.is_mutable


@pytest.mark.parametrize("name", ["aten.resize_.default", "aten.normal_.default", "aten.add.out"])
def test_other_changes_are_refused_also_on_request(name: str) -> None:
    assert found(name, in_place=True) is None


def test_names_and_operators_are_each_others_inverse() -> None:
    for name in [*operators.ARITHMETIC, *operators.EDGEWISE]:
        assert operators.name_of(operators.resolve(name)) == name
    for name in LISTED:
        if operator := found(name):
            assert operators.name_of(operator) == name
