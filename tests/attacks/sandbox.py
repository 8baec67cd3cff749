"""Runs bncheck's command line and ends the process where it does what no audit may do.

    python sandbox.py FOLDER inspect PATH ...

Python tells an audit hook of every file that is opened, every process, socket and unpickled class
before it is there: https://docs.python.org/3/library/audit_events.html. FOLDER is where the files
of the attack are, and behind colons where else it leads to on purpose; what lies elsewhere may be
read where Python and bncheck themselves are, and nothing may be written anywhere.
"""

from __future__ import annotations

import os
import platform
import sys

FORBIDDEN_EXIT = 99
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN = (
    *(
        "os.system",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.startfile",
    ),
    *("subprocess.Popen", "pty.spawn", "socket.connect", "socket.bind", "socket.getaddrinfo"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link"),
    *("os.symlink", "os.truncate", "os.utime", "tempfile.mkstemp"),
    *("tempfile.mkdtemp", "pickle.find_class", "mmap.__new__", "shutil.copyfile", "shutil.move"),
)


def _places(folders: list[str]) -> tuple[str, ...]:
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    pythons = {sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path)}
    system = ("/proc", "/sys", "/dev/null", "/usr", "/lib", "/etc/localtime", "/etc/ld.so")
    return tuple(os.path.realpath(each) for each in (*folders, home, *pythons)) + system


def _watch(folders: list[str]) -> None:
    allowed = _places(folders)

    def forbid(what: str) -> None:
        os.write(2, f"forbidden: {what}\n".encode("ascii", "backslashreplace"))
        os._exit(FORBIDDEN_EXIT)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, (str, bytes)) or not isinstance(flags, int):
                return  # a descriptor that is open already
            if os.fsdecode(path) == os.devnull:
                return  # h5py looks whether that can be written
            if flags & _WRITES:
                forbid(f"writes {path!r}")
            real = os.path.realpath(os.fsdecode(path))
            if not real.startswith(allowed):
                forbid(f"reads {real!r}")
        elif event in _FORBIDDEN:
            forbid(f"{event} {arguments!r}")

    sys.addaudithook(hook)


def _run() -> None:
    folders, *arguments = sys.argv[1:]
    sys.argv = ["bncheck", *arguments]
    platform.processor()  # h5py's import asks for it, and Python asks `uname`; then it is known
    _watch(folders.split(os.pathsep))
    from bncheck.cli.main import run

    run()


if __name__ == "__main__":
    _run()
