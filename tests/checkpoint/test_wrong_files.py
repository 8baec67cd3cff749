"""Things that are called model.ckpt and are something else: each is told by its content."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bncheck.checkpoint import locate, open_checkpoint
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.sniff import describe
from bncheck.errors import BncheckError, NotACheckpointError
from tests.writers import write_bundle


def zipped(**members: bytes) -> bytes:
    """Return a zip archive; `_` in a member's name stands for a dot, `__` for a slash."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), data)
    return raw.getvalue()


def tar() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO())
    return raw.getvalue()


def npz() -> bytes:
    raw = io.BytesIO()
    np.savez(raw, a=np.ones(3), b=np.zeros(2))
    return raw.getvalue()


def npy() -> bytes:
    raw = io.BytesIO()
    np.save(raw, np.ones(3))
    return raw.getvalue()


def safetensors() -> bytes:
    head = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(head).to_bytes(8, "little") + head + bytes(4)


TORCH_LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"
STATE = {"bn.running_mean": [0.0]}

KINDS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "an empty file. Was the copy interrupted?"),
    "Git LFS": (POINTER, "a Git LFS pointer. Run 'git lfs pull'."),
    "torch": (
        zipped(archive__data_pkl=b"\x80\x02.", archive__data__0=b""),
        "a PyTorch file (a zip",
    ),
    "torch before 1.6": (TORCH_LEGACY, "a PyTorch file (a pickle, as torch.save wrote before"),
    "npz": (npz(), "a NumPy archive (.npz)"),
    "zip": (zipped(readme_txt=b"hello"), "a zip archive. Unpack it first."),
    "empty zip": (zipped(), "a zip archive. Unpack it first."),
    "cut-off zip": (npz()[:-30], "a zip archive that is damaged or cut off"),
    "npy": (npy(), "a NumPy array file (.npy)"),
    "pickle 2": (pickle.dumps(STATE, 2), "a Python pickle"),
    "pickle 3": (pickle.dumps(STATE, 3), "a Python pickle"),
    "pickle 4": (pickle.dumps(STATE, 4), "a Python pickle"),
    "pickle 5": (pickle.dumps(STATE, 5), "a Python pickle"),
    "gzip": (gzip.compress(b"x" * 99), "compressed with gzip. Unpack it first."),
    "bzip2": (bz2.compress(b"x"), "compressed with bzip2. Unpack it first."),
    "xz": (lzma.compress(b"x"), "compressed with xz. Unpack it first."),
    "Zstandard": (b"\x28\xb5\x2f\xfd\x04\x08", "compressed with Zstandard. Unpack it first."),
    "tar": (tar(), "a tar archive. Unpack it first."),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3\x14\0", "a TensorFlow Lite model"),
    "GGUF": (b"GGUF\3\0\0\0", "a GGUF model"),
    "safetensors": (safetensors(), "a safetensors file"),
    "HTML": (
        b"\n <!DOCTYPE html><html>404",
        "an HTML page. Was it saved by a download that failed?",
    ),
    "HTML without doctype": (b"<HTML><head>", "an HTML page. Was it saved by a download"),
    "JSON": (b'  {"error": "not found"}', "a JSON text"),
    "JSON list": (b"[1, 2]", "a JSON text"),
    "text": (b"epoch 1 loss 0.3\r\n\tepoch 2\n", "a text file"),
    "text in UTF-8": ("\u00e9\u65e5\u672c".encode(), "a text file"),
    "long text": (b"x" + "\u65e5".encode() * 3000, "a text file"),
    "old Macintosh text": (b"MZ?", "a text file"),
    "text in Latin-1": (b"caf\xe9", "of no format that bncheck knows, or cut off at its end"),
    "noise": (bytes(range(256)) * 4, "of no format that bncheck knows, or cut off at its end"),
    "zeros": (bytes(5000), "of no format that bncheck knows, or cut off at its end"),
}


@pytest.mark.parametrize("name", KINDS)
def test_told_by_content(tmp_path: Path, name: str) -> None:
    raw, description = KINDS[name]
    path = tmp_path / "model.ckpt"
    path.write_bytes(raw)
    with pytest.raises(NotACheckpointError) as caught:
        open_checkpoint(str(path))
    assert caught.value.path == str(path)
    assert f"{path}: is no TensorFlow checkpoint but {description}" in str(caught.value)


def test_a_zip_with_a_huge_directory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    size = 1 << 31  # of a file with a hole
    with path.open("wb") as file:
        file.write(b"PK\x03\x04" + bytes(100))
        file.seek(size)
        counts = struct.pack("<4H2LH", 0, 0, 1, 1, size - 200, 200, 0)
        file.write(b"PK\x05\x06" + counts)
    tracemalloc.start()
    with pytest.raises(NotACheckpointError, match="a zip archive that is damaged or cut off"):
        open_checkpoint(str(path))
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


@pytest.mark.parametrize("name", KINDS)
def test_as_an_index_it_is_damaged(tmp_path: Path, name: str) -> None:
    """A name that ends in .index is believed; then the content contradicts it."""
    raw, _ = KINDS[name]
    path = tmp_path / "model.ckpt.index"
    path.write_bytes(raw)
    with pytest.raises(BncheckError) as caught:
        open_checkpoint(str(path))
    assert caught.value.path == str(path)
    assert "too short for a table" in str(caught.value) or "magic number" in str(caught.value)


def test_an_index_that_git_lfs_never_fetched(tmp_path: Path) -> None:
    """A clone without LFS has pointers for all files; the index is the first that is opened."""
    for name in ("m.index", "m.data-00000-of-00001"):
        (tmp_path / name).write_bytes(POINTER)
    for path in ("m", "m.index", "m.data-00000-of-00001"):
        with pytest.raises(BncheckError, match="git lfs pull"):
            open_checkpoint(str(tmp_path / path))


def test_beside_a_checkpoint_none_of_them_counts(tmp_path: Path) -> None:
    for number, (raw, _) in enumerate(KINDS.values()):
        (tmp_path / f"model-{number}.ckpt").write_bytes(raw)
        (tmp_path / f"other-{number}.index").write_bytes(raw)
    os.mkfifo(tmp_path / "fifo.index")
    (tmp_path / "folder.index").mkdir()
    write_bundle(tmp_path / "m", {"v": np.ones(1)})
    assert locate(str(tmp_path)).prefix == str(tmp_path / "m")


class Trap:
    """Creates a file as soon as somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("packed", [False, True])
def test_nothing_is_unpickled(tmp_path: Path, packed: bool) -> None:
    raw = pickle.dumps(Trap(tmp_path / "trapped"), protocol=2)
    path = tmp_path / "model.ckpt"
    path.write_bytes(zipped(archive__data_pkl=raw) if packed else raw)
    with pytest.raises(NotACheckpointError):
        open_checkpoint(str(path))
    assert not (tmp_path / "trapped").exists()
    pickle.loads(raw)  # noqa: S301  # the trap works
    assert (tmp_path / "trapped").exists()


@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "/dev/null", "/dev/stdin"])
def test_devices_and_pipes_do_not_block(tmp_path: Path, kind: str) -> None:
    path = kind
    if kind == "fifo":
        path = str(tmp_path / "model.ckpt")
        os.mkfifo(path)
    with pytest.raises(BncheckError) as caught:
        locate(path)
    assert caught.value.path == path
    if kind != "/dev/stdin":  # which can be anything
        assert "is not a regular file" in str(caught.value)


def test_files_of_the_corpus_that_are_no_checkpoints(corpus: Path) -> None:
    wrong = {
        "xnornet-pytorch-trap/model.ckpt": "a PyTorch file (a pickle, as torch.save wrote before",
        "connect4-h5-weights/model/model_best_config.json": "a JSON text",
        "census-estimator-sharded/graph.pbtxt": "a text file",
    }
    for name, description in wrong.items():
        with pytest.raises(NotACheckpointError, match="is no TensorFlow checkpoint but") as caught:
            open_checkpoint(str(corpus / name))
        assert description in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"version https://git-lfs"]),
    st.binary(max_size=400),
)
@example(zipped(a=b"x" * 50)[:60], zipped(a=b"x" * 50)[60:])
@example(npz()[:100], npz()[101:])
def test_no_content_makes_it_stumble(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "model.ckpt"
    path.write_bytes(head + rest)
    with RegularFile(str(path)) as file:
        assert describe(file)
    with pytest.raises(BncheckError):
        open_checkpoint(str(path))


def test_zip_archives_with_flipped_bytes(tmp_path: Path) -> None:
    whole = zipped(archive__data_pkl=b"\x80\x02.", b=b"x" * 20)
    path = tmp_path / "model.ckpt"
    for position in range(4, len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(NotACheckpointError, match="zip archive"):
            open_checkpoint(str(path))
