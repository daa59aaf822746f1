"""The JSON of torch.export.save, as far as it is read: schema version 8.

Mirrors ``torch/_export/serde/schema.py`` (torch 2.9 to 2.14). Fields that are not listed are
skipped; a kind of argument that is not listed is refused. Symbolic expressions stay text that
nothing looks at.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ..errors import ModelError

__all__ = [
    "DTYPES", "LAYOUTS", "MEMORY_FORMATS", "POSITIONAL", "Argument", "GraphModule", "InputSpec",
    "Node", "OptionalTensor", "OutputSpec", "Payload", "Payloads", "Program", "Size", "SymBool",
    "SymFloat", "SymInt", "TensorMeta", "Version", "only",
]  # fmt: skip

POSITIONAL = 1

# ScalarType, Layout and MemoryFormat by number -> names in `graphs.CONSTANTS`.
DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16",
}  # fmt: skip
LAYOUTS = {7: "strided"}
MEMORY_FORMATS = {
    1: "contiguous_format",
    2: "channels_last",
    3: "channels_last_3d",
    4: "preserve_format",
}

Real = float | Literal["Infinity", "-Infinity", "NaN"]


class Name(Struct):
    """TensorArgument and its like."""

    name: str


class Union(Struct, forbid_unknown_fields=True):
    """A JSON object with exactly one of the fields; `only` says which."""


def only(union: Union) -> tuple[str, Any]:
    """The one field that is set, with its value.

    Raises:
        ModelError: none is set, or several.
    """
    found = {
        name: value
        for name in union.__struct_fields__
        if (value := getattr(union, name)) is not UNSET
    }
    if len(found) != 1:
        raise ModelError(f"a {type(union).__name__} with {len(found)} values where one belongs")
    return next(iter(found.items()))


class Size(Union):
    """SymInt: a number, or an expression (never looked at) where the axis is dynamic."""

    as_int: int | UnsetType = UNSET
    as_expr: msgspec.Raw | UnsetType = UNSET


class SymInt(Union):
    as_name: str | UnsetType = UNSET
    as_int: int | UnsetType = UNSET


class SymFloat(Union):
    as_name: str | UnsetType = UNSET
    as_float: Real | UnsetType = UNSET


class SymBool(Union):
    as_name: str | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET


class OptionalTensor(Union):
    as_tensor: Name | UnsetType = UNSET
    as_none: bool | UnsetType = UNSET


class Device(Struct):
    type: str


class Argument(Union):
    """What a node takes or gives. The last rows are recognised only to be refused."""

    as_none: bool | UnsetType = UNSET
    as_tensor: Name | UnsetType = UNSET
    as_tensors: list[Name] | UnsetType = UNSET
    as_optional_tensor: OptionalTensor | UnsetType = UNSET
    as_optional_tensors: list[OptionalTensor] | UnsetType = UNSET
    as_int: int | UnsetType = UNSET
    as_ints: list[int] | UnsetType = UNSET
    as_float: Real | UnsetType = UNSET
    as_floats: list[Real] | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET
    as_bools: list[bool] | UnsetType = UNSET
    as_string: str | UnsetType = UNSET
    as_sym_int: SymInt | UnsetType = UNSET
    as_sym_ints: list[SymInt] | UnsetType = UNSET
    as_sym_float: SymFloat | UnsetType = UNSET
    as_sym_floats: list[SymFloat] | UnsetType = UNSET
    as_sym_bool: SymBool | UnsetType = UNSET
    as_sym_bools: list[SymBool] | UnsetType = UNSET
    as_scalar_type: int | UnsetType = UNSET
    as_memory_format: int | UnsetType = UNSET
    as_layout: int | UnsetType = UNSET
    as_device: Device | UnsetType = UNSET

    as_strings: msgspec.Raw | UnsetType = UNSET
    as_graph: msgspec.Raw | UnsetType = UNSET
    as_custom_obj: msgspec.Raw | UnsetType = UNSET
    as_operator: msgspec.Raw | UnsetType = UNSET
    as_complex: msgspec.Raw | UnsetType = UNSET
    as_nested_tensors: msgspec.Raw | UnsetType = UNSET
    as_int_lists: msgspec.Raw | UnsetType = UNSET
    as_float_lists: msgspec.Raw | UnsetType = UNSET
    as_string_to_argument: msgspec.Raw | UnsetType = UNSET


class NamedArgument(Struct):
    name: str
    arg: Argument
    kind: int | None = None


class Node(Struct):
    target: str
    inputs: list[NamedArgument]
    outputs: list[Argument]
    metadata: dict[str, str] = {}
    name: str | None = None


class TensorMeta(Struct):
    dtype: int
    sizes: list[Size]
    strides: list[Size]
    storage_offset: Size
    layout: int


class Graph(Struct):
    inputs: list[Argument]
    outputs: list[Argument]
    nodes: list[Node]
    tensor_values: dict[str, TensorMeta]


class UserInput(Struct):
    arg: Argument


class Parameter(Struct):
    arg: Name
    parameter_name: str


class Buffer(Struct):
    arg: Name
    buffer_name: str


class TensorConstant(Struct):
    arg: Name
    tensor_constant_name: str


class InputSpec(Union):
    user_input: UserInput | UnsetType = UNSET
    parameter: Parameter | UnsetType = UNSET
    buffer: Buffer | UnsetType = UNSET
    tensor_constant: TensorConstant | UnsetType = UNSET
    constant_input: msgspec.Raw | UnsetType = UNSET

    custom_obj: msgspec.Raw | UnsetType = UNSET
    token: msgspec.Raw | UnsetType = UNSET


class OutputSpec(Union):
    user_output: msgspec.Raw | UnsetType = UNSET
    buffer_mutation: Buffer | UnsetType = UNSET

    loss_output: msgspec.Raw | UnsetType = UNSET
    gradient_to_parameter: msgspec.Raw | UnsetType = UNSET
    gradient_to_user_input: msgspec.Raw | UnsetType = UNSET
    user_input_mutation: msgspec.Raw | UnsetType = UNSET
    parameter_mutation: msgspec.Raw | UnsetType = UNSET
    token: msgspec.Raw | UnsetType = UNSET


class GraphSignature(Struct):
    input_specs: list[InputSpec]
    output_specs: list[OutputSpec]


class GraphModule(Struct):
    graph: Graph
    signature: GraphSignature


class SchemaVersion(Struct):
    major: int
    minor: int


class Version(Struct):
    """The part that is read first."""

    schema_version: SchemaVersion
    torch_version: str = "2.4 or older"


class Program(Struct):
    """``models/<name>.json``."""

    graph_module: GraphModule


class Payload(Struct):
    path_name: str
    is_param: bool
    use_pickle: bool
    tensor_meta: TensorMeta | None


class Payloads(Struct):
    """``data/weights/<name>_weights_config.json``, and the same for constants."""

    config: dict[str, Payload]
