"""Every error that a reader makes: one file for each, and what the command line says of it.

What it says is in messages.txt, to be read as a whole when it changes:
`BNCHECK_WRITE_SNAPSHOTS=1 pytest -q tests/errors`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.commands import ROOT, Outcome
from tests.errors import graphs, keras_files, places, tables
from tests.errors.case import messages
from tests.errors.sites import Site, all_sites, recorded

SNAPSHOT = ROOT / "tests/errors/messages.txt"
TABLES = (places.CASES, tables.CASES, keras_files.CASES, graphs.CASES)
CASES = {name: case for table in TABLES for name, case in table.items()}

_ATTRIBUTES = "checkpoint/hdf5_attributes Hdf5Attributes"
_LISTED = "HDF5 has read the same part of the file before, and would have said so then"
_REFUSED = "HDF5 does not open such a dataset, of which not every version can be sure"
_CHANGED = "the file would have to change between its listing and its reading: see test_hdf5.py"
_DESCRIBED = "such a zip is no Keras archive, as describe says first: see test_keras_archive.py"
# What no file leads to on the command line, and why.
NO_FILE = {
    "checkpoint/files RegularFile.read: f'{self.path} is closed'": "that is a bug of bncheck's",
    "checkpoint/hdf5 Hdf5File._contents: f'the group {_shown(parent)} cannot be read'": _LISTED,
    f"{_ATTRIBUTES}._group: f'the group {{quoted(group)}} cannot be read'": _LISTED,
    f"{_ATTRIBUTES}._object: f'{{quoted(path)}} cannot be opened'": _LISTED,
    "checkpoint/hdf5 Hdf5File._allow: 'it cannot be read'": _LISTED,
    "checkpoint/hdf5 Hdf5File._place: 'it cannot be read'": _LISTED,
    "checkpoint/hdf5 Hdf5File._spend: 'it cannot be read'": _LISTED,
    "checkpoint/hdf5 Hdf5File._variable: f'the dataset {quoted(path)} cannot be read'": _LISTED,
    f"{_ATTRIBUTES}.has_attribute: f'the attributes of {{quoted(group)}} cannot be read'": _LISTED,
    "checkpoint/hdf5 Hdf5File._opened: 'it cannot be found'": _CHANGED,
    "checkpoint/hdf5 Hdf5File._opened: 'it cannot be opened'": _CHANGED,
    "checkpoint/hdf5 Hdf5File.read: 'the file was changed after it was listed'": _CHANGED,
    "checkpoint/hdf5 Hdf5File.check_stored: "
    "f'its values end at byte {place + size}, the file at {self.size}'": _REFUSED,
    "checkpoint/hdf5 Hdf5File.check_stored: "
    "f'it is stored in {count} chunks of {unpacked} bytes'": "only verify unpacks: tests/verifying",
    "checkpoint/zip_archive Zip.__init__: f'is a damaged zip archive: {error}'": _DESCRIBED,
    "checkpoint/window Window.read: f'has a directory of {count} bytes'": _DESCRIBED,
}

# What libraries say, each version of them in other words.
_LIBRARIES = re.compile(
    r"(cannot be (?:read|opened|listed|unpacked|opened as HDF5)|no valid Snappy data"
    r"|m\.index: 'bn/moving_variance'(?=: maximum)): "
    r"(?!Permission|Input|Too many|varint|\d).*?(?=\. [A-Z])"
)


class Ran(NamedTuple):
    """What a case led to: the process' end, the messages, and the sites that they are from."""

    outcome: Outcome
    messages: list[str]
    sites: set[Site]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ran]:
    """Run a case of that name, once."""
    known: dict[str, Ran] = {}

    def ran(name: str) -> Ran:
        if name not in known:
            folder = tmp_path_factory.mktemp("case")
            CASES[name].make(folder)
            with recorded() as recorder:
                outcome = CASES[name].run(folder)
            told = messages(outcome)
            sites = recorder.behind("\n".join(told))
            known[name] = Ran(outcome, [_scrubbed(each, folder) for each in told], sites)
        return known[name]

    return ran


def _scrubbed(text: str, folder: Path) -> str:
    text = text.replace(f"{folder}{os.sep}", "").replace(sys.executable, "python")
    return _LIBRARIES.sub(r"\1: ...", text)


def _expected() -> dict[str, list[str]]:
    blocks = SNAPSHOT.read_text("utf-8").split("\n\n")
    return {lines[0]: lines[1:] for lines in (block.splitlines() for block in blocks)}


@pytest.mark.parametrize("name", CASES)
def test_what_is_said(run: Callable[[str], Ran], name: str) -> None:
    ran = run(name)
    assert ran.outcome.code == 3
    assert ran.sites, "no error of a reader's is behind it"
    assert bool(ran.outcome.out) != bool(ran.outcome.err)
    assert "Traceback" not in ran.outcome.err
    if os.environ.get("BNCHECK_WRITE_SNAPSHOTS") != "1":
        assert ran.messages == _expected()[name]


@pytest.mark.parametrize("name", CASES)
def test_each_message_says_what_to_do_and_says_it_once(
    run: Callable[[str], Ran], name: str
) -> None:
    for message in run(name).messages:
        path, _, rest = message.partition(": ")
        assert path
        sentences = re.split(r"(?<=[.?]) (?=[A-Z-])", rest)
        assert len(sentences) > 1, message
        assert len(set(sentences)) == len(sentences), message
        assert not re.search(r"\.(, and|;)", message), message
        assert re.search(r"[^.][.?]$", message), message


def test_every_error_has_a_file(run: Callable[[str], Ran]) -> None:
    """A new error comes with a file that leads to it; an exception that is none goes."""
    reached = set().union(*(run(name).sites for name in CASES))
    missed = {str(site) for site in all_sites() - reached}
    assert sorted(missed - NO_FILE.keys()) == []
    assert sorted(NO_FILE.keys() - missed) == []


def test_no_case_hides_another() -> None:
    assert len(CASES) == sum(map(len, TABLES))


def test_the_messages_are_those_of_the_cases(run: Callable[[str], Ran]) -> None:
    if os.environ.get("BNCHECK_WRITE_SNAPSHOTS") == "1":
        blocks = ["\n".join([name, *run(name).messages]) for name in CASES]
        SNAPSHOT.write_text("\n\n".join(blocks) + "\n", "utf-8")
    assert list(_expected()) == list(CASES)
