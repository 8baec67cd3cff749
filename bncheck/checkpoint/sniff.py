"""What a file that is no TensorFlow checkpoint really is, told by its first bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

from bncheck import limits
from bncheck.checkpoint.window import Window
from bncheck.errors import BncheckError

if TYPE_CHECKING:
    from typing import BinaryIO

    from bncheck.checkpoint.files import RegularFile

_HEAD = 4096

# The magic number of torch.save before 1.6: a pickled long, 0x1950a86a20f9469cfc6c.
_TORCH_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"


class Described(NamedTuple):
    """What a file is, to be read after the word 'is', and what to do about it, if anything."""

    what: str
    remedy: str = ""


HDF5_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC: Final = b"PK\x03\x04"
KERAS_ARCHIVE: Final = Described("a Keras archive (.keras)")
TEXT: Final = Described("a text file")

_UNPACK: Final = "Unpack it first."

_MAGIC: Final = (
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "Run 'git lfs pull'."),
    (0, HDF5_MAGIC, "an HDF5 file"),
    (0, _TORCH_LEGACY, "a PyTorch file (a pickle, as torch.save wrote before PyTorch 1.6)"),
    (0, b"\x93NUMPY", "a NumPy array file (.npy)"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"GGUF", "a GGUF model"),
    (0, b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (0, b"BZh", "compressed with bzip2", _UNPACK),
    (0, b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed with Zstandard", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (8, b'{"', "a safetensors file"),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"\x80\x03", "a Python pickle"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x80\x05", "a Python pickle"),
)


UNKNOWN: Final = Described(
    "of no format that bncheck knows, or cut off at its end", "Was it copied whole?"
)


def describe(file: RegularFile) -> Described:
    """Return what the file is; nothing in it is executed or unpickled."""
    if not file.size:
        return Described("an empty file", "Was the copy interrupted?")
    head = file.head(_HEAD)
    if head.startswith((ZIP_MAGIC, b"PK\x05\x06")):
        return _describe_zip(file)
    for offset, magic, *described in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return Described(*described)
    return _describe_text(head) or UNKNOWN


def is_hdf5(file: RegularFile) -> bool:
    """Whether a file has HDF5's signature, at byte 0 or behind a user block of 512, 1024, ..."""
    offset = 0
    while offset + len(HDF5_MAGIC) <= file.size:
        if file.read(offset, len(HDF5_MAGIC), "a signature") == HDF5_MAGIC:
            return True
        offset = max(512, 2 * offset)
    return False


def may_be_weights_map(file: RegularFile) -> bool:
    """Whether a file starts like the list of Keras weights in several files: NAME.weights.json."""
    head = file.head(_HEAD)
    return head.lstrip()[:1] == b"{" and (b'"weight_map"' in head or b'"total_size"' in head)


def _describe_zip(file: RegularFile) -> Described:
    import zipfile  # 9 ms, and only a wrong file needs it

    try:
        stream = Window(file, 0, file.size, limits.LARGEST_ZIP_DIRECTORY)
        names = zipfile.ZipFile(cast("BinaryIO", stream)).namelist()
    # What zipfile raises of a directory that is no such thing, and the window of one too large.
    except (zipfile.BadZipFile, BncheckError, OSError, ValueError, NotImplementedError):
        return Described("a zip archive that is damaged or cut off", "Copy the file again.")
    if any(name.endswith("data.pkl") for name in names):
        return Described("a PyTorch file (a zip archive with a pickle in it)")
    if "config.json" in names or any(name.startswith("model.weights.") for name in names):
        return KERAS_ARCHIVE
    if names and all(name.endswith(".npy") for name in names):
        return Described("a NumPy archive (.npz)")
    return Described("a zip archive", _UNPACK)


def _describe_text(head: bytes) -> Described | None:
    try:
        # A multi-byte character may be cut in two where the head ends.
        text = head.decode("utf-8", "strict" if len(head) < _HEAD else "ignore")
    except UnicodeDecodeError:
        return None
    if any(ord(character) < 32 and character not in "\t\n\r\f\x1b" for character in text):
        return None
    start = text.lstrip()[:15].lower()
    if start.startswith(("<!doctype html", "<html")):
        return Described("an HTML page", "Was it saved by a download that failed?")
    return Described("a JSON text") if start.startswith(("{", "[")) else TEXT
