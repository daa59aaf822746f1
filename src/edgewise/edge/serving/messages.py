"""The protocol's gRPC messages, as a table: kserve/open-inference-protocol, "inference_grpc.proto".

Built at run time in a pool of their own, they neither depend on the version of a code generator
nor clash with a client of the same protocol in the same process.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["METHODS", "SERVICE", "message"]

SERVICE = "inference.GRPCInferenceService"

# method -> its messages are METHODRequest and METHODResponse
METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
)

# message -> "field: type = number"; "*" repeats, "{}" maps a string to it, "|" is one of a choice
MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live: bool = 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready: bool = 1",
    "ModelReadyRequest": "name: string = 1; version: string = 2",
    "ModelReadyResponse": "ready: bool = 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name: string = 1; version: string = 2; extensions: string* = 3",
    "ModelMetadataRequest": "name: string = 1; version: string = 2",
    "ModelMetadataResponse": "name: string = 1; versions: string* = 2; platform: string = 3; "
    "inputs: ModelMetadataResponse.TensorMetadata* = 4; "
    "outputs: ModelMetadataResponse.TensorMetadata* = 5",
    "ModelMetadataResponse.TensorMetadata": "name: string = 1; datatype: string = 2; "
    "shape: int64* = 3",
    "InferParameter": "bool_param: bool| = 1; int64_param: int64| = 2; string_param: string| = 3",
    "InferTensorContents": "bool_contents: bool* = 1; int_contents: int32* = 2; "
    "int64_contents: int64* = 3; uint_contents: uint32* = 4; uint64_contents: uint64* = 5; "
    "fp32_contents: float* = 6; fp64_contents: double* = 7; bytes_contents: bytes* = 8",
    "ModelInferRequest": "model_name: string = 1; model_version: string = 2; id: string = 3; "
    "parameters: InferParameter{} = 4; inputs: ModelInferRequest.InferInputTensor* = 5; "
    "outputs: ModelInferRequest.InferRequestedOutputTensor* = 6; "
    "raw_input_contents: bytes* = 7",
    "ModelInferRequest.InferInputTensor": "name: string = 1; datatype: string = 2; "
    "shape: int64* = 3; parameters: InferParameter{} = 4; contents: InferTensorContents = 5",
    "ModelInferRequest.InferRequestedOutputTensor": "name: string = 1; "
    "parameters: InferParameter{} = 2",
    "ModelInferResponse": "model_name: string = 1; model_version: string = 2; id: string = 3; "
    "parameters: InferParameter{} = 4; outputs: ModelInferResponse.InferOutputTensor* = 5; "
    "raw_output_contents: bytes* = 6",
    "ModelInferResponse.InferOutputTensor": "name: string = 1; datatype: string = 2; "
    "shape: int64* = 3; parameters: InferParameter{} = 4; contents: InferTensorContents = 5",
}

FIELD = descriptor_pb2.FieldDescriptorProto


def message(name: str) -> type:
    """The class of a message."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="inference_grpc.proto", package="inference", syntax="proto3"
    )
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for full, fields in MESSAGES.items():
        outer, _, own = full.rpartition(".")
        into = made[outer].nested_type if outer else file.message_type
        made[full] = into.add(name=own)
        for text in filter(None, fields.split("; ")):
            _field(made[full], text, f".inference.{full}")
    return file


def _field(into: descriptor_pb2.DescriptorProto, text: str, scope: str) -> None:
    name, rest = text.split(": ")
    kind, number = rest.split(" = ")
    bare = kind.rstrip("*{}|")
    field = into.field.add(name=name, number=int(number), label=FIELD.LABEL_OPTIONAL)
    if kind.endswith("{}"):  # a map is a repeated entry message, by the language guide
        entry = into.nested_type.add(name=name.title() + "Entry")
        entry.options.map_entry = True
        _field(entry, "key: string = 1", scope)
        _field(entry, f"value: {bare} = 2", scope)
        bare, kind = f"{scope.removeprefix('.inference.')}.{entry.name}", "*"
    if kind.endswith("*"):
        field.label = FIELD.LABEL_REPEATED
    if kind.endswith("|"):
        if not into.oneof_decl:
            into.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if f"TYPE_{bare.upper()}" in FIELD.Type.keys():  # noqa: SIM118 (an enum's, not a dict)
        field.type = FIELD.Type.Value(f"TYPE_{bare.upper()}")
    else:
        field.type, field.type_name = FIELD.TYPE_MESSAGE, f".inference.{bare}"


POOL = descriptor_pool.DescriptorPool()
POOL.Add(_file())
