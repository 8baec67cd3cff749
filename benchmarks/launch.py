"""Runs one command, and writes its wall time, processor time, peak memory and exit code.

The kernel counts the memory of the process that starts a command as the command's own. So this one,
which runs with `python -I -S` and imports next to nothing, stands between: it holds less than any
Python program that it starts.
"""

import os
import sys
from time import perf_counter

answer, complaints, *command = sys.argv[1:]
streams = [
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, complaints, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
]
started = perf_counter()
child = os.posix_spawnp(command[0], command, os.environ, file_actions=streams)
_, status, usage = os.wait4(child, 0)
wall = perf_counter() - started
unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
with open(answer, "w") as file:
    print(
        wall,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * unit,
        os.waitstatus_to_exitcode(status),
        file=file,
    )
