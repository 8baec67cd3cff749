"""Many plain records at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_R = TypeVar("_R", bound=tuple["Any", ...])


def records(kind: type[_R], *columns: Iterable[Any]) -> Iterator[_R]:
    """Return a NamedTuple for each row of the columns, one column for every field.

    Twice as fast as the class, whose constructor is a Python function.
    """
    return map(partial(tuple.__new__, kind), zip(*columns, strict=True))
