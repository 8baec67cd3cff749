"""Mutation of JSON: values change, the text stays JSON, and so does JSON within a string."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

    from fuzz.target import Raw

_STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 1 << 31, 1 << 63, 1 << 64, -(1 << 63), 1e308, 1e-320,
    float("nan"), float("inf"), "", "/", "..", "\0", "\ud800", "a/b", [], {}, [[]], [{}],
    {"": None}, [1, 2, 3],
)  # fmt: skip


def mutate_json(data: bytes, raw: Raw, rng: random.Random) -> bytes:
    """Return a JSON text with something in it changed."""
    tree = parsed(data)
    if tree is None or rng.random() < 0.08:
        return raw(data)
    return written(mutate_tree(tree, raw, rng))


def parsed(data: bytes | str) -> Any:
    """Return what a JSON text holds, None where it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def written(tree: Any) -> bytes:
    """Return a tree as JSON; half of a surrogate pair stays an escape."""
    return json.dumps(tree).encode()


def mutate_tree(tree: Any, raw: Raw, rng: random.Random) -> Any:
    """Return a tree with one of its nodes changed."""
    children = list(tree) if isinstance(tree, dict) else list(range(_length(tree)))
    if children and rng.random() < 0.85:
        at = rng.choice(children)
        _change(tree, at, raw, rng)
        return tree
    if isinstance(tree, str) and rng.random() < 0.8:
        return _string(tree, raw, rng)
    if isinstance(tree, int | float) and rng.random() < 0.5:
        return tree + rng.choice((-1, 1, 0.5))
    return rng.choice(_STRANGE)


def _length(tree: Any) -> int:
    return len(tree) if isinstance(tree, list) else 0


def _change(tree: Any, at: Any, raw: Raw, rng: random.Random) -> None:
    choice = rng.random()
    if choice < 0.08:
        del tree[at]
    elif choice < 0.16 and isinstance(tree, list):
        tree.insert(rng.randrange(len(tree) + 1), tree[at])
    elif choice < 0.24 and isinstance(tree, dict):
        tree[_string(at, raw, rng)] = tree[at] if rng.random() < 0.5 else tree.pop(at)
    elif choice < 0.32:
        tree[at] = tree[rng.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))]
    elif choice < 0.36:
        tree[at] = [tree[at]] if rng.random() < 0.5 else {str(at): tree[at]}
    else:
        tree[at] = mutate_tree(tree[at], raw, rng)


def _string(text: str, raw: Raw, rng: random.Random) -> str:
    inner = parsed(text) if text[:1] in ("{", "[") and text[:1] else None
    if inner is not None and rng.random() < 0.9:
        return written(mutate_tree(inner, raw, rng)).decode()
    return raw(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
