"""V1 checkpoints: one table file (or several shards) whose values are SavedTensorSlices messages.

Read as TensorSliceReader in tensorflow/core/util/tensor_slice_reader.cc does: the entry under the
empty key lists the tensors and their slices, each slice is an entry of its own. There is no
checksum for a tensor: its table block's guards it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from google.protobuf.message import DecodeError

from bncheck.checkpoint.dtypes import dtype_name, numpy_dtype
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.model import (
    Checkpoint,
    Values,
    Variable,
    decode_name,
    element_count,
    key_of,
)
from bncheck.checkpoint.ordered_code import slice_key
from bncheck.checkpoint.slices import Extents, assemble, check_coverage, extents_of, resolve
from bncheck.checkpoint.table import Table
from bncheck.errors import BncheckError, DamagedError, UnsupportedError
from bncheck.proto.tensors_pb2 import SavedTensorSlices

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from bncheck.proto.tensors_pb2 import SavedTensorSliceMeta, TensorProto

_READER_VERSION = 1  # TF_CHECKPOINT_VERSION in tensorflow/core/public/version.h

_VALUE_FIELDS: Final = {
    "float32": "float_val",
    "float64": "double_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "float16": "half_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "string": "string_val",
} | dict.fromkeys(
    ["int32", "uint8", "int16", "int8", "uint16", "qint8", "quint8", "qint16", "quint16", "qint32"],
    "int_val",
)


@dataclass(slots=True)
class _Tensor:
    variable: Variable
    slices: dict[Extents, int] = field(default_factory=dict)  # to the shard that holds it


class TensorSlices(Checkpoint):
    """A V1 checkpoint; `files` are all its table files in order, one unless it was saved sharded.

    Raises DamagedError where a file breaks the format or two shards contradict each other, and
    UnsupportedError where it was written for a later reader.
    """

    format = "tensor-slices-v1"

    def __init__(self, path: str, files: Sequence[str]) -> None:
        self.path = path
        self._files = tuple(files)
        self.shards = len(self._files)
        self._tensors: dict[str, _Tensor] = {}
        for shard, file_path in enumerate(self._files):
            with RegularFile(file_path) as file:
                self._read_meta(shard, file_path, Table(file))
        self.variables = {
            name: self._tensors[name].variable for name in sorted(self._tensors, key=key_of)
        }

    def _read_meta(self, shard: int, path: str, table: Table) -> None:
        first = table.first()
        at = table.blocks[0][0] if table.blocks else None  # the header is in the first block
        if first is None or first[0] != b"":
            raise DamagedError(path, "has no header entry, so it is no checkpoint", offset=at)
        try:
            meta = SavedTensorSlices.FromString(first[1]).meta
        except DecodeError:
            raise DamagedError(path, "its header is no valid protobuf message", offset=at) from None
        self._check_version(path, meta)
        for tensor in meta.tensor:
            name = decode_name(tensor.name)
            shape = tuple(dimension.size for dimension in tensor.shape.dim)
            if tensor.shape.unknown_rank or any(size < 0 for size in shape):
                raise DamagedError(path, f"its header gives {name!r} no definite shape", offset=at)
            variable = Variable(name, dtype_name(tensor.type), shape)
            known = self._tensors.setdefault(name, _Tensor(variable))
            if known.variable != variable:
                raise DamagedError(
                    path, f"{name!r} has another shape or type than in other shards", offset=at
                )
            for extents in map(extents_of, tensor.slice):
                if extents in known.slices:
                    # TensorFlow calls it overlapping slices: which of the two would be right?
                    raise DamagedError(path, f"holds a slice of {name!r} a second time", offset=at)
                known.slices[extents] = shard

    def _check_version(self, path: str, meta: SavedTensorSliceMeta) -> None:
        if (
            meta.versions.min_consumer > _READER_VERSION
            or _READER_VERSION in meta.versions.bad_consumers
        ):
            raise UnsupportedError(
                path,
                f"is for readers of version {meta.versions.min_consumer} or later",
            )

    def read(self, names: Iterable[str]) -> Values:
        """Read the values of the named variables, and only the blocks that hold them."""
        values = Values()
        wanted = {name: self._tensors[name] for name in names}
        slices, broken = self._read_slices(wanted)
        for name, tensor in wanted.items():
            failure = next((broken[s] for s in tensor.slices.values() if s in broken), None)
            try:
                if failure is not None:
                    raise failure
                values.arrays[name] = _build(tensor, slices)
            except BncheckError as error:
                values.unread[name] = str(error)
            except ValueError as error:
                values.unread[name] = str(DamagedError(self._blamed(tensor), str(error)))
        return values

    def keys(self, shard: int) -> set[bytes]:
        """Return the keys of all slices that a table file should hold."""
        return {
            _key(tensor, extents)
            for tensor in self._tensors.values()
            for extents, place in tensor.slices.items()
            if place == shard
        }

    def _blamed(self, tensor: _Tensor) -> str:
        """Return the file of a tensor that contradicts its header; of several, the prefix."""
        files = {self._files[shard] for shard in tensor.slices.values()}
        return files.pop() if len(files) == 1 else self.path

    def _read_slices(
        self, tensors: dict[str, _Tensor]
    ) -> tuple[dict[tuple[int, bytes], bytes], dict[int, BncheckError]]:
        """Return the stored slices by shard and key, and each unreadable shard's error."""
        keys: dict[int, list[bytes]] = {}
        for tensor in tensors.values():
            for extents, shard in tensor.slices.items():
                keys.setdefault(shard, []).append(_key(tensor, extents))
        slices: dict[tuple[int, bytes], bytes] = {}
        broken: dict[int, BncheckError] = {}
        for shard, wanted in keys.items():
            try:
                with RegularFile(self._files[shard]) as file:
                    for key, value in Table(file).find(wanted):
                        slices[shard, key] = value
            except BncheckError as error:
                broken[shard] = error
        return slices, broken


def _key(tensor: _Tensor, extents: Extents) -> bytes:
    return slice_key(key_of(tensor.variable.name), extents)


def _build(tensor: _Tensor, slices: dict[tuple[int, bytes], bytes]) -> NDArray[Any]:
    variable = tensor.variable
    if not tensor.slices:
        raise ValueError("the header lists no slice of it")
    boxes = [resolve(extents, variable.shape) for extents in tensor.slices]
    check_coverage(boxes, variable.shape)
    parts = []
    for (extents, shard), box in zip(tensor.slices.items(), boxes, strict=True):
        stored = slices.get((shard, _key(tensor, extents)))
        if stored is None:
            raise ValueError("the header lists a slice that the table does not hold")
        try:
            message = SavedTensorSlices.FromString(stored).data
        except DecodeError:
            raise ValueError("its slice is no valid protobuf message") from None
        if decode_name(message.name) != variable.name:
            raise ValueError(f"its slice says that it belongs to {decode_name(message.name)!r}")
        parts.append((box, _decode(message.data, variable.dtype, element_count(box.sizes))))
    if len(parts) == 1:
        return parts[0][1].reshape(variable.shape)
    return assemble(parts, variable.shape, parts[0][1].dtype)


def _decode(data: TensorProto, dtype: str, count: int) -> NDArray[Any]:
    """Return a flat array of a TensorProto that has its values and nothing else.

    Raises ValueError where they are not `count` values, or the type is none that V1 can hold.
    """
    field_name = _VALUE_FIELDS.get(dtype)
    if field_name is None:
        raise ValueError(f"a V1 checkpoint cannot hold the type {dtype}")
    raw = getattr(data, field_name)
    expected = 2 * count if dtype.startswith("complex") else count
    if len(raw) != expected:
        raise ValueError(f"a slice holds {len(raw)} numbers instead of {expected}")
    target = numpy_dtype(dtype)
    if target is None:  # strings
        strings = np.empty(count, np.object_)
        strings[:] = list(raw)
        return strings
    if dtype == "float16":  # half_val holds the 16 bits of each number
        return np.array(raw, np.int64).astype(np.uint16).view(np.float16)
    if dtype.startswith("complex"):
        part = np.float32 if dtype == "complex64" else np.float64
        return np.array(raw, part).view(target)
    return np.array(raw, np.int64 if field_name == "int_val" else target).astype(target)
