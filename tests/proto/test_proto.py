"""bncheck's messages against those of the installed TensorFlow: the same fields on the wire."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from bncheck.proto import graphs_pb2, objects_pb2, tensors_pb2

pytestmark = pytest.mark.tensorflow

MODULES = [
    *(
        f"tensorflow.core.framework.{name}_pb2"
        for name in (
            *("attr_value", "graph", "node_def", "tensor", "tensor_shape", "tensor_slice"),
            *("variable", "versions"),
        )
    ),
    "tensorflow.core.framework.function_pb2",
    "tensorflow.core.framework.op_def_pb2",
    "tensorflow.core.protobuf.meta_graph_pb2",
    "tensorflow.core.protobuf.saved_model_pb2",
    "tensorflow.core.protobuf.saved_object_graph_pb2",
    "tensorflow.core.protobuf.saver_pb2",
    "tensorflow.core.protobuf.tensor_bundle_pb2",
    "tensorflow.core.protobuf.trackable_object_graph_pb2",
    "tensorflow.core.util.saved_tensor_slice_pb2",
    "tensorflow.python.training.checkpoint_state_pb2",
]
# Read as bytes, because a name that is no UTF-8 would make the whole message unreadable.
AS_BYTES = {"SavedSliceMeta.name", "SavedSlice.name"}
# Read as numbers, so that a value which is newer than bncheck is a number that it does not know.
AS_NUMBERS = {
    "AttrValue.ListValue.type",
    "AttrValue.type",
    "BundleEntryProto.dtype",
    "BundleHeaderProto.endianness",
    "SavedSliceMeta.type",
    "SavedVariable.dtype",
    "SaverDef.version",
    "TensorProto.dtype",
}
# Where TensorFlow nests a message, or not, and bncheck does as it does.
NESTED = {"MetaInfoDef": "MetaGraphDef.MetaInfoDef"}


def all_messages(descriptors: Any) -> list[Descriptor]:
    found = []
    for descriptor in descriptors:
        found += [descriptor, *all_messages(descriptor.nested_types)]
    return found


# Keras 2's own; TensorFlow does not ship them, so the fixtures' keras_metadata.pb are the judge.
OF_KERAS = {"SavedMetadata", "KerasSavedObject"}
OURS = [
    message
    for module in (tensors_pb2, objects_pb2, graphs_pb2)
    for message in all_messages(module.DESCRIPTOR.message_types_by_name.values())
    if message.name not in OF_KERAS
]


def short_name(message: Descriptor) -> str:
    """Return the name without the package: `AttrValue.ListValue`."""
    return message.full_name[len(message.file.package) :].lstrip(".")


@pytest.fixture(scope="module")
def theirs(tf: Any) -> dict[str, Descriptor]:  # noqa: ARG001  # importing takes its own order
    files = [importlib.import_module(name).DESCRIPTOR for name in MODULES]
    return {
        short_name(message): message
        for file in files
        for message in all_messages(file.message_types_by_name.values())
    }


def counterpart(message: Descriptor, theirs: dict[str, Descriptor]) -> Descriptor:
    name = short_name(message)
    return theirs[NESTED.get(name, name)]


def described(field: FieldDescriptor) -> dict[str, Any]:
    """Return what of a field the wire or the reading code depends on."""
    return {
        "name": field.name,
        "number": field.number,
        "type": field.type,
        "repeated": field.is_repeated,
        "packed": field.is_packed,
        "in a oneof": field.containing_oneof is not None,
        "presence": field.has_presence,
        "message": short_name(field.message_type) if field.message_type else None,
    }


@pytest.mark.parametrize("message", OURS, ids=short_name)
def test_message(theirs: dict[str, Descriptor], message: Descriptor) -> None:
    """Each field that bncheck reads is TensorFlow's own field of that number and name."""
    other = counterpart(message, theirs)
    assert message.fields
    for field in message.fields:
        name = f"{short_name(message)}.{field.name}"
        assert field.number in other.fields_by_number, name
        ours, expected = described(field), described(other.fields_by_number[field.number])
        if name in AS_BYTES:
            assert expected["type"] == FieldDescriptor.TYPE_STRING, name
            expected["type"] = FieldDescriptor.TYPE_BYTES
        if name in AS_NUMBERS:
            assert expected["type"] == FieldDescriptor.TYPE_ENUM, name
            expected["type"] = FieldDescriptor.TYPE_INT32
        if expected["message"] is not None:
            expected["message"] = expected["message"].replace(
                "MetaGraphDef.MetaInfoDef", "MetaInfoDef"
            )
        assert ours == expected, name


def test_the_exceptions_are_no_more_than_needed() -> None:
    fields = {f"{short_name(m)}.{f.name}": f for m in OURS for f in m.fields}
    assert {fields[name].type for name in AS_BYTES} == {FieldDescriptor.TYPE_BYTES}
    assert {fields[name].type for name in AS_NUMBERS} == {FieldDescriptor.TYPE_INT32}
    assert not any(field.enum_type for field in fields.values())


def test_both_can_be_loaded_in_one_process(theirs: dict[str, Descriptor]) -> None:
    assert {message.file.package for message in OURS} == {"bncheck.proto"}
    assert all(message.file.package != "bncheck.proto" for message in theirs.values())


def test_data_types(tf: Any) -> None:
    """The numbers and names of all DataTypes, and their sizes where they have one."""
    from tensorflow.core.framework import types_pb2

    from bncheck.checkpoint.dtypes import NAMES, dtype_name, numpy_dtype

    plain = {
        number
        for name, number in types_pb2.DataType.items()
        if number and not name.endswith("_REF")
    }
    assert set(NAMES) == plain
    for number, name in NAMES.items():
        dtype = tf.as_dtype(number)
        assert name == dtype.name
        assert dtype_name(number + 100) == name
        ours = numpy_dtype(name)
        assert (ours is None) is (name in ("string", "resource", "variant"))
        if ours is not None:
            assert ours.itemsize == dtype.size
    assert dtype_name(0) == "DataType(0)"
    assert dtype_name(99) == "DataType(99)"
