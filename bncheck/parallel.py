"""Work for several processes: the same function on many tasks, the results in their order."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, TypeVar

from bncheck.errors import BncheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_T = TypeVar("_T")
_R = TypeVar("_R")


def processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_processes(
    function: Callable[[_T], _R], tasks: Sequence[_T], jobs: int, about: str
) -> Iterator[_R]:
    """Yield the function's result for each task; with one job, in this process.

    So it is, too, in a program of several threads: a fork would not have them, and might wait for
    ever for a lock that one of them holds. Functions, tasks and results go from process to process,
    so that they must be picklable. Raises BncheckError, on `about`, where a process is killed.
    """
    if jobs < 2 or len(tasks) < 2 or threading.active_count() > 1:
        yield from map(function, tasks)
        return
    from concurrent.futures import ProcessPoolExecutor  # 15 ms
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_all_start_methods, get_context

    # A fork has all modules loaded already.
    method = "fork" if "fork" in get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context(method)) as pool:
        try:
            yield from pool.map(function, tasks)
        except BrokenProcessPool:
            raise BncheckError(
                about,
                "a process that read checkpoints was killed",
                remedy="Was the memory enough? --jobs 1 reads with one process.",
            ) from None
