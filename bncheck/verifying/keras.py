"""Every byte of Keras' files that anything vouches for: zip archives' CRC-32, HDF5's own places.

HDF5 stores no checksum of values unless a filter does (Fletcher32), so that most of a `.h5` file
can only be found to be there. A zip archive has one for each member.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, cast

from bncheck import limits
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.hdf5 import Hdf5File
from bncheck.checkpoint.keras_archive import WEIGHTS, WEIGHTS_MAP, read_weights_map
from bncheck.checkpoint.keras_weights import is_keras_weights
from bncheck.checkpoint.location import Kind as Form
from bncheck.checkpoint.model import quoted
from bncheck.checkpoint.window import Window
from bncheck.checkpoint.zip_archive import Text, Zip
from bncheck.errors import COPY_AGAIN, BncheckError
from bncheck.report.verify_model import Found, Problem, VerifiedFile, Weight
from bncheck.verifying.accounting import gaps
from bncheck.verifying.spans import ZIP, Span, checksums

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from bncheck.checkpoint.location import Location
    from bncheck.verifying.spans import Advance, Started

_END_RECORD: Final = b"PK\x05\x06"
_LONGEST_END: Final = 22 + 0xFFFF  # bytes of the end record and its comment


def verify_keras(location: Location, started: Started) -> Found:
    """Verify a Keras file, archive, or directory.

    Raises BncheckError where it is none, or is of a form that is not read.
    """
    if location.kind is Form.KERAS_ARCHIVE:
        return _verify_archive(location.prefix, started)
    files = list(_hdf5_files(location))
    advance = started(sum(os.path.getsize(path) for path in files if os.path.isfile(path)))
    found = Found([], [])
    for path in files:
        with RegularFile(path) as file:
            stream = cast("BinaryIO", Window(file, 0, file.size))
            problems, bytes_, tensors, form = _check_hdf5(path, stream, "", advance)
        verified = VerifiedFile(path, file.size, 0, bytes_)
        found = Found(
            [*found.problems, *problems], [*found.files, verified], found.tensors + tensors, form
        )
    return found if location.kind is Form.KERAS_HDF5 else found._replace(form="")


def _hdf5_files(location: Location) -> Iterator[str]:
    path = location.prefix
    if location.kind is Form.KERAS_HDF5:
        yield path
        return
    folder = path if location.kind is Form.KERAS_DIRECTORY else os.path.dirname(path)
    if location.kind is Form.KERAS_DIRECTORY:
        whole = os.path.join(folder, WEIGHTS)
        if os.path.lexists(whole):
            yield whole
            return
        path = os.path.join(folder, WEIGHTS_MAP)
    with RegularFile(path) as file:
        shards = read_weights_map(Text(file.head(file.size), path))
    names = dict.fromkeys(name for each in shards.values() for name in each)
    yield from (os.path.join(folder, name) for name in names)


def _check_hdf5(
    path: str, stream: BinaryIO, member: str, advance: Advance
) -> tuple[list[Problem], int, int, str]:
    """Return what is wrong with an HDF5 file, its datasets' bytes and number, and its format."""
    problems = []
    stored = tensors = 0
    with Hdf5File(path, stream, member) as file:
        end = file.end
        if file.size > end:
            what = f"has {file.size - end} bytes behind the end that HDF5 knows"
            problems.append(Problem(Weight.SUSPECT, path, what, end, file.size - end))
        for variable in file.variables.values():
            try:
                size = file.check_stored(variable)
                stored += size
                tensors += 1
                advance(size)
            except BncheckError as error:
                what = f"{quoted(variable.name)}: {error.what}"
                problems.append(
                    Problem(Weight.DAMAGED, path, what, error.offset, remedy=COPY_AGAIN)
                )
        form = "keras-weights-h5" if is_keras_weights(file) else "keras-h5"
    return problems, stored, tensors, form


def _verify_archive(path: str, started: Started) -> Found:
    with Zip(path) as archive, RegularFile(path) as file:
        advance = started(file.size)
        problems, checked = _check_members(archive, file, advance)
        if not problems:  # else nobody can tell where a member ends
            problems += _leftovers(archive, file)
        tensors = 0
        # What is compressed would have to be unpacked into memory, and has its CRC-32.
        if WEIGHTS in archive.members() and not problems and archive.member(WEIGHTS).is_stored:
            with archive.source(WEIGHTS)() as weights:
                for variable in weights.variables.values():
                    weights.check_stored(variable)
                    tensors += 1
    return Found(problems, [VerifiedFile(path, file.size, checked)], tensors)


def _check_members(archive: Zip, file: RegularFile, advance: Advance) -> tuple[list[Problem], int]:
    """Check the CRC-32 of every member, those that nobody reads included."""
    problems = []
    checked = 0
    for name in archive.members():
        try:
            member = archive.member(name)
            if member.is_stored:
                (crc,) = checksums(file, [Span(*member.place(file))], ZIP, advance)
                if isinstance(crc, BncheckError):
                    raise crc
                member.check_crc(crc)
            else:
                member.check_size(file.size * limits.MEMBER_RATIO)
                for _ in member.chunks(file):
                    pass
                advance(member.packed)
            checked += member.packed
        except BncheckError as error:
            problems.append(
                Problem(Weight.DAMAGED, file.path, error.what, error.offset, remedy=COPY_AGAIN)
            )
    return problems, checked


def _leftovers(archive: Zip, file: RegularFile) -> Iterator[Problem]:
    """Yield the bytes that are in no member, nor in the archive's directory."""
    spans = [Span(*span) for span in archive.spans()]
    tail = file.read(max(0, file.size - _LONGEST_END), min(file.size, _LONGEST_END), "the end")
    at = tail.rfind(_END_RECORD)
    comment = int.from_bytes(tail[at + 20 : at + 22], "little")
    end = file.size - len(tail) + at + 22 + comment
    start = archive.directory_start
    spans.append(Span(start, max(0, min(end, file.size) - start)))
    yield from gaps(file, sorted(spans), "the archive's end")
