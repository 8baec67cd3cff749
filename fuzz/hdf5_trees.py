"""HDF5 files as JSON and back, so that what is in them can be mutated and the format stays right.

A group is `{"attributes": {}, "groups": {}, "datasets": {}, "links": {}}`. A dataset has a type,
a shape, and one value for all its elements. A link is `[kind, target]`.
"""

from __future__ import annotations

import io
import json
from typing import Any

import h5py
import numpy as np

_LARGEST = 1 << 12  # elements of a dataset
_MOST = 200  # objects in a file
# h5py turns the library's errors into many kinds, and a tree may be anything.
_NO_TREE = (
    OSError,
    LookupError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
)


class NotWritableError(Exception):
    """What a tree describes is no HDF5 file that h5py can write."""


def tree_of(group: h5py.Group) -> dict[str, Any]:
    """Return what a group holds."""
    tree: dict[str, Any] = {"attributes": {n: _plain(v) for n, v in group.attrs.items()}}
    tree["groups"] = {n: tree_of(each) for n, each in group.items() if isinstance(each, h5py.Group)}
    tree["datasets"] = {
        name: {
            "dtype": each.dtype.str,
            "shape": list(each.shape),
            "value": float(np.asarray(each[()], np.float64).ravel()[0]) if each.size else 0.0,
            "attributes": {n: _plain(v) for n, v in each.attrs.items()},
        }
        for name, each in group.items()
        if isinstance(each, h5py.Dataset) and each.dtype.kind in "fiu"
    }
    return tree


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value


def tree_in(data: bytes) -> bytes:
    """Return the JSON of an HDF5 file."""
    with h5py.File(io.BytesIO(data), "r") as file:
        return json.dumps(tree_of(file)).encode()


def written(data: bytes) -> bytes:
    """Return the HDF5 file that a JSON describes; NotWritableError where it describes none."""
    stream = io.BytesIO()
    try:
        tree = json.loads(data)
        with h5py.File(stream, "w") as file:
            _write(file, tree, [_MOST])
    except _NO_TREE:
        raise NotWritableError from None
    return stream.getvalue()


def _write(group: h5py.Group, tree: dict[str, Any], left: list[int]) -> None:
    _write_attributes(group, tree.get("attributes", {}))
    for name, each in tree.get("groups", {}).items():
        left[0] -= 1
        if left[0] < 0:
            raise NotWritableError
        _write(group.create_group(name), each, left)
    for name, each in tree.get("datasets", {}).items():
        left[0] -= 1
        shape = tuple(each["shape"])
        if left[0] < 0 or np.prod(shape, dtype=float) > _LARGEST:
            raise NotWritableError
        dataset = group.create_dataset(name, shape, each["dtype"], fillvalue=each.get("fill"))
        if each.get("value") is not None:
            dataset[...] = each["value"]
        _write_attributes(dataset, each.get("attributes", {}))
    for name, (kind, target) in tree.get("links", {}).items():
        link = {"soft": h5py.SoftLink, "hard": group.file.__getitem__}.get(kind)
        group[name] = link(target) if link else h5py.ExternalLink("elsewhere.h5", target)


def _write_attributes(thing: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        bytes_like = isinstance(value, list) and all(isinstance(each, str) for each in value)
        thing.attrs[name] = [each.encode() for each in value] if bytes_like and value else value
