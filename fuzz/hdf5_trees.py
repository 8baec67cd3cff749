"""HDF5 files as JSON and back, so that what is in them can be mutated and the format stays right.

A group is `{"attributes": {}, "groups": {}, "datasets": {}, "links": {}}`. A dataset has a type,
a shape, and one value for all its elements. A link is `[kind, target]`.
"""

from __future__ import annotations

import io
import json
from contextlib import suppress
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
    """Write what there is in a tree; a part that h5py cannot write is left out."""
    _write_attributes(group, tree)
    for name, each in _parts(tree, "groups"):
        left[0] -= 1
        if left[0] < 0:
            raise NotWritableError
        with suppress(*_NO_TREE):
            _write(group.create_group(name), each, left)
    for name, each in _parts(tree, "datasets"):
        left[0] -= 1
        if left[0] < 0:
            raise NotWritableError
        with suppress(*_NO_TREE):
            _write_dataset(group, name, each)
    for name, link in _parts(tree, "links"):
        with suppress(*_NO_TREE):
            kind, target = link
            make = {"soft": h5py.SoftLink, "hard": group.file.__getitem__}.get(kind)
            group[name] = make(target) if make else h5py.ExternalLink("elsewhere.h5", target)


def _parts(tree: dict[str, Any], kind: str) -> list[tuple[str, Any]]:
    parts = tree.get(kind, {})
    return list(parts.items()) if isinstance(parts, dict) else []


def _write_dataset(group: h5py.Group, name: str, described: dict[str, Any]) -> None:
    shape = tuple(described["shape"])
    if np.prod(shape, dtype=float) > _LARGEST:
        raise ValueError
    value = described.get("value")
    data = None if value is None else np.full(shape, value, described["dtype"])
    dataset = group.create_dataset(name, shape, described["dtype"], data)
    _write_attributes(dataset, described)


def _write_attributes(thing: Any, tree: dict[str, Any]) -> None:
    for name, value in _parts(tree, "attributes"):
        strings = isinstance(value, list) and all(isinstance(each, str) for each in value)
        with suppress(*_NO_TREE):
            thing.attrs[name] = [each.encode() for each in value] if strings and value else value
