"""The state file in every spelling of the text format, with TensorFlow as the judge."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bncheck.checkpoint import locate
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.state_file import candidate_prefixes, is_state_file, read_state
from bncheck.errors import AmbiguousError, BncheckError, DamagedError, NotFoundError
from tests.conftest import FIXTURES, manifest
from tests.writers import write_bundle

FIELD = b"model_checkpoint_path: "
SPELLINGS: dict[str, tuple[bytes, str]] = {
    "as TensorFlow writes it": (
        b'model_checkpoint_path: "m-7"\nall_model_checkpoint_paths: "m-7"\n',
        "m-7",
    ),
    "single quotes": (FIELD + b"'m-7'", "m-7"),
    "quotes in quotes": (FIELD + b'"it\\"s \'m\\\'"', "it\"s 'm'"),
    "double in single quotes": (FIELD + b"'a\"b'", 'a"b'),
    "adjacent strings": (FIELD + b'"m" \'-\' \n "7"', "m-7"),
    "octal": (FIELD + b'"mod\\303\\250le"', "mod\u00e8le"),
    "hexadecimal": (FIELD + b'"mod\\xc3\\xa8le"', "mod\u00e8le"),
    "unicode escape": (FIELD + b'"mod\\u00e8le"', "mod\u00e8le"),
    "raw UTF-8": (FIELD + "'mod\u00e8le \u65e5\u672c'".encode(), "mod\u00e8le \u65e5\u672c"),
    "backslashes": (FIELD + b'"C:\\\\runs\\\\m-7"', "C:\\runs\\m-7"),
    "tab and newline": (FIELD + b'"a\\tb\\nc"', "a\tb\nc"),
    "comments": (b"# moved\n" + FIELD + b'"m-7" # here\n#model_checkpoint_path: "no"', "m-7"),
    "a hash in a string": (FIELD + b'"m#7"', "m#7"),
    "Windows line ends": (FIELD + b'"m-7"\r\nall_model_checkpoint_paths: "m-7"\r\n', "m-7"),
    "no space": (b'model_checkpoint_path:"m-7"', "m-7"),
    "separators": (FIELD + b'"m-7"; last_preserved_timestamp: 1.5,', "m-7"),
    "a list": (b"all_model_checkpoint_paths: ['a', \"b\"] " + FIELD + b"'m-7'", "m-7"),
    "timestamps": (
        FIELD + b"'m-7'\nall_model_checkpoint_timestamps: 1.6e9\nlast_preserved_timestamp: inf",
        "m-7",
    ),
    "path last": (b'all_model_checkpoint_paths: "m-6"\n' + FIELD + b'"m-7"', "m-7"),
    "only the others": (b'all_model_checkpoint_paths: "m-6"\n', ""),
    "empty path": (FIELD + b'""', ""),
    "empty file": (b"", ""),
    "the path twice": (FIELD + b'"m-6"\n' + FIELD + b'"m-7"', "m-7"),
}
NOT_TEXT_FORMAT = {
    "no quotes": FIELD + b"m-7",
    "open quote": FIELD + b'"m-7',
    "a number": FIELD + b"7",
    "two lines in a string": FIELD + b'"m\n-7"',
    "no UTF-8": FIELD + b'"m\xff"',
    "an escape that is no UTF-8": FIELD + b'"m\\377"',
    "half of a surrogate pair": FIELD + b'"\\ud800"',
    "binary": bytes(range(256)),
    "JSON": b'{"model_checkpoint_path": "m-7"}',
    "group that never ends": b"a {",
    "groups without end": b"a {" * 50_000,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings(tmp_path: Path, name: str) -> None:
    raw, path = SPELLINGS[name]
    state = tmp_path / "checkpoint"
    state.write_bytes(raw)
    assert read_state(str(state)) == path
    with RegularFile(str(state)) as file:
        assert not path or is_state_file(file)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", SPELLINGS)
def test_tensorflow_reads_the_same(tf: Any, tmp_path: Path, name: str) -> None:
    raw, path = SPELLINGS[name]
    (tmp_path / "checkpoint").write_bytes(raw)
    if not path:
        with pytest.raises(ValueError, match="Invalid checkpoint state"):
            tf.train.get_checkpoint_state(str(tmp_path))
        return
    read = tf.train.get_checkpoint_state(str(tmp_path))
    assert read.model_checkpoint_path == os.path.join(tmp_path, path)


@pytest.mark.parametrize("name", NOT_TEXT_FORMAT)
def test_what_is_no_text_format(tmp_path: Path, name: str) -> None:
    state = tmp_path / "checkpoint"
    state.write_bytes(NOT_TEXT_FORMAT[name])
    with pytest.raises(DamagedError) as caught:
        read_state(str(state))
    assert caught.value.path == str(state)
    assert caught.value.what.startswith("is no valid checkpoint state file")
    try:
        NOT_TEXT_FORMAT[name].decode("utf-8")
    except UnicodeDecodeError as error:
        assert caught.value.offset == error.start
    else:
        assert caught.value.offset is None
    assert "Name the checkpoint itself instead of the directory." in str(caught.value)


def test_fields_of_later_versions_are_skipped(tmp_path: Path) -> None:
    state = tmp_path / "checkpoint"
    state.write_bytes(b'future { a: 1 b: "x" } ' + FIELD + b'"m" and_more: [1, 2]')
    assert read_state(str(state)) == "m"


def test_too_long_for_a_state_file(tmp_path: Path) -> None:
    state = tmp_path / "checkpoint"
    with state.open("wb") as file:
        file.write(FIELD + b'"m"')
        file.truncate((16 << 20) + 1)
    with pytest.raises(DamagedError, match="is 16777217 bytes long, too long for a state file"):
        read_state(str(state))
    with RegularFile(str(state)) as opened:
        assert not is_state_file(opened)


def test_candidates() -> None:
    assert candidate_prefixes("d", "m-7") == ["d/m-7"]
    assert candidate_prefixes("d", "sub/m-7") == ["d/sub/m-7"]
    assert candidate_prefixes("d", "/old/run/m-7") == ["/old/run/m-7", "d/m-7"]
    assert candidate_prefixes("d", "C:\\run\\m-7") == ["d/C:\\run\\m-7", "d/m-7"]
    assert candidate_prefixes("d", "\\\\host\\run\\m-7") == ["d/\\\\host\\run\\m-7", "d/m-7"]
    assert candidate_prefixes("d", "C:/run/m-7") == ["d/C:/run/m-7", "d/m-7"]
    assert candidate_prefixes("d", ".") == ["d/"]
    assert candidate_prefixes("d", "run/") == ["d/run/"]
    assert candidate_prefixes("d", "/old/run/") == ["/old/run/", "d/"]
    assert candidate_prefixes("d", "") == []
    assert candidate_prefixes("", "m-7") == ["m-7"]


def write(folder: Path, *names: str, state: bytes | None = None) -> Path:
    for name in names:
        write_bundle(os.path.join(folder, name), {"v": np.ones(1)})
    if state is not None:
        (folder / "checkpoint").write_bytes(state)
    return folder


# What the state file says, what is there, the prefix that is found (in the folder), the remark.
STORIES: dict[str, tuple[str, list[str], str, str]] = {
    "relative": ("m-7", ["m-6", "m-7"], "m-7", ""),
    "the older one": ("m-6", ["m-6", "m-7"], "m-6", ""),
    "stale absolute path": ("/old/m-7", ["m-6", "m-7"], "m-7", "path is stale (/old/m-7); read "),
    "Windows": ("D:\\x\\m-7", ["m-6", "m-7"], "m-7", "path is stale (D:\\x\\m-7); read "),
    "Windows network": ("\\\\h\\x\\m-7", ["m-6", "m-7"], "m-7", "path is stale"),
    "empty basename": (".", ["", "m-7"], "", ""),
    "empty basename, moved": ("/old/run/", ["", "m-7"], "", "path is stale (/old/run/); read "),
    "below": ("./m-7", ["m-6", "m-7"], "./m-7", ""),
    "gone, one left": ("m-9", ["m-7"], "m-7", "names 'm-9', which is not there; read the only"),
    "names none, one left": ("", ["m-7"], "m-7", "the state file names no checkpoint; read the on"),
    "folder that is a file": ("m-7.index/x", ["m-7"], "m-7", "which is not there; read the only"),
    "a NUL in its name": ("m\\000-7", ["m-7"], "m-7", "which is not there; read the only"),
    "a very long name": ("x" * 5000, ["m-7"], "m-7", "which is not there; read the only"),
}


@pytest.mark.parametrize("given", ["directory", "directory/", "state file", "from inside"])
@pytest.mark.parametrize("name", STORIES)
def test_stories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, given: str) -> None:
    path, there, prefix, remark = STORIES[name]
    text = path.replace("\\", "\\\\").replace("\\\\000", "\\000")
    write(tmp_path, *there, state=FIELD + b'"' + text.encode() + b'"')
    monkeypatch.chdir(tmp_path)
    found = locate(
        {
            "directory": str(tmp_path),
            "directory/": f"{tmp_path}/",
            "state file": f"{tmp_path}/checkpoint",
            "from inside": ".",
        }[given]
    )
    folder = "." if given == "from inside" else str(tmp_path)
    assert found.prefix == os.path.join(folder, prefix)
    assert len(found.remarks) == bool(remark)
    assert remark in "".join(found.remarks)


def test_a_nul_in_the_folder_of_a_path(tmp_path: Path) -> None:
    write(tmp_path, "m-7", state=FIELD + b'"a\\000b/m-7"')
    assert locate(str(tmp_path)).prefix == f"{tmp_path}/m-7"


def test_state_file_under_another_name(tmp_path: Path) -> None:
    """Saver.save(..., latest_filename=...): the file is given as PATH."""
    write(tmp_path, "m-6", "m-7", state=FIELD + b"'m-7'")
    (tmp_path / "best").write_bytes(FIELD + b"'m-6'")
    assert locate(str(tmp_path / "best")).prefix == str(tmp_path / "m-6")
    assert locate(str(tmp_path)).prefix == str(tmp_path / "m-7")


def test_a_state_file_that_points_to_another_directory(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old = write(tmp_path / "old", "m-7")
    new = write(tmp_path / "new", "m-6", state=FIELD + f"'{old}/m-7'".encode())
    found = locate(str(new))
    assert found.prefix == f"{old}/m-7"
    assert found.remarks == (f"the state file points to another directory: {old}/m-7",)


@pytest.mark.parametrize("state", [b"", FIELD + b"'m-9'", b"}broken", FIELD + b"'C:\\\\m-9'"])
def test_nothing_or_too_much_left(tmp_path: Path, state: bytes) -> None:
    for count, kind in ((0, NotFoundError), (2, AmbiguousError)):
        folder = tmp_path / str(count)
        folder.mkdir()
        write(folder, *[f"m-{i}" for i in range(count)], state=state)
        with pytest.raises(BncheckError) as caught:
            locate(str(folder))
        assert type(caught.value) is kind
        assert caught.value.path == str(folder)
        text = str(caught.value)
        assert "state file" in text
        assert ("m-9" in text) is (b"m-9" in state)
        assert all(f"{folder}/m-{i}" in text for i in range(count))
        assert ("there is no checkpoint in this directory" in text) is (count == 0)


@pytest.mark.parametrize(
    "story",
    [story for story in manifest(FIXTURES) if story["name"].startswith("tf1/state-file")],
    ids=lambda story: story["name"],
)
def test_fixtures(fixtures: Path, story: dict[str, Any]) -> None:
    """The exit code tells whether there is a checkpoint to be found."""
    if story["exit"] == 3:
        with pytest.raises((AmbiguousError, NotFoundError)):
            locate(str(fixtures / story["path"]))
    else:
        found = locate(str(fixtures / story["path"]))
        assert os.path.dirname(found.prefix) == str(fixtures / story["path"])
        assert f"-{story['step']}" in os.path.basename(found.prefix)
