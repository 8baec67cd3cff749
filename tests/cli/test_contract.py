"""The command line's contract: exit codes, streams, colours, files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from bncheck.cli.output import make_screen
from tests.commands import FIXTURES, ROOT, bncheck

HEALTHY = FIXTURES / "tf1/healthy"
UNTRAINED = FIXTURES / "tf1/no-update-ops"


def _copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target / source.name))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["inspect", str(HEALTHY)], 0),
        (["inspect", str(UNTRAINED)], 1),
        (["inspect", str(UNTRAINED), "--fail-on", "never"], 0),
        # The graph's own word goes first, and BN201 speaks where that is not asked for.
        (["inspect", str(UNTRAINED), "--ignore", "BN501"], 1),
        (["inspect", str(UNTRAINED), "--ignore", "BN201,BN501"], 0),
        (["inspect", str(UNTRAINED), "--no-graph", "--ignore", "untrained-statistics"], 0),
        (["inspect", str(UNTRAINED), "--select", "BN101,BN102"], 0),
        (["inspect", str(UNTRAINED), "--select", "bn201", "--select", "BN101"], 1),
        (["inspect", str(FIXTURES / "tf1/new-head"), "--fail-on", "warning"], 1),
        (["inspect", str(FIXTURES / "tf1/dead-channels"), "--fail-on", "warning"], 0),
        (["inspect", str(FIXTURES / "tf1/dead-channels"), "--fail-on", "note"], 1),
        (["inspect"], 2),
        (["inspect", str(HEALTHY), "--select", "BN999"], 2),
        (["inspect", str(HEALTHY), "--graph", "x", "--no-graph"], 2),
        (["inspect", str(HEALTHY), "--momentum", "1"], 2),
        (["inspect", str(HEALTHY), "--momentum", "nan"], 2),
        (["inspect", str(HEALTHY), "--step", "1" * 400], 2),
        (["inspect", str(HEALTHY), "--select", ""], 2),
        (["inspect", str(HEALTHY), "--select", "BN201", "--ignore", "BN201"], 2),
        (["inspect", str(HEALTHY), "--collection", "trainable", "--no-graph"], 2),
        (["inspect", str(HEALTHY), "-o", str(FIXTURES)], 2),
        (["inspect", str(HEALTHY), "--step", "-1"], 2),
        (["inspect", str(HEALTHY), "--format", "yaml"], 2),
        (["inspect", str(HEALTHY), "-o", "no/such/directory/report"], 2),
        (["nonsense"], 2),
        (["rules", "BN999"], 2),
        (["rules"], 0),
        (["inspect", ""], 3),
        (["inspect", str(HEALTHY / "nothing")], 3),
        (["inspect", str(FIXTURES)], 3),
        (["inspect", str(HEALTHY), "--graph", str(HEALTHY / "nothing.meta")], 3),
        (["inspect", str(HEALTHY), "--graph", str(HEALTHY / "checkpoint")], 0),
        (["inspect", str(HEALTHY), "--graph", str(FIXTURES / "README.md")], 3),
    ],
)
def test_exit_code(arguments: list[str], code: int) -> None:
    outcome = bncheck(*arguments)
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err
    # Reports go to standard output, and talk to standard error.
    assert bool(outcome.err) == (code >= 2)
    assert bool(outcome.out) == (code < 2)


def test_without_arguments_the_help_is_shown() -> None:
    outcome = bncheck()
    assert "Commands:" in outcome.out + outcome.err
    assert "inspect" in outcome.out + outcome.err


def test_missing_data_file_lists_the_layers_and_exits_with_3(tmp_path: Path) -> None:
    directory = _copy(UNTRAINED, tmp_path)
    (directory / "model.ckpt-60.data-00000-of-00001").unlink()
    outcome = bncheck("inspect", str(directory))
    assert outcome.code == 3
    assert "net/bn_in  unreadable" in outcome.out
    assert "this data file is missing" in outcome.out
    assert outcome.out.splitlines()[-1].startswith("NOT AUDITED: 2 layers (2 unreadable)")
    report = json.loads(bncheck("inspect", str(directory), "--format", "json").out)
    assert report["summary"]["verdict"] == "not-audited"
    unread = {each["what"] for each in report["skipped"]}
    assert "net/bn_out/moving_variance" in unread
    assert report["layers"][0]["gamma"]["shape"] == [6]
    assert report["layers"][0]["gamma"]["mean"] is None


def test_missing_shard_of_two_still_judges_the_rest(tmp_path: Path) -> None:
    directory = _copy(FIXTURES / "tf1/v2-sharded-no-update-ops", tmp_path)
    next(directory.glob("*.data-00001-of-00002")).unlink()
    outcome = bncheck("inspect", str(directory), "--format", "json")
    assert outcome.code == 3  # before 1
    report = json.loads(outcome.out)
    assert report["skipped"]
    read = [
        layer[role]["mean"] is not None
        for layer in report["layers"]
        for role in ("gamma", "beta", "moving_mean", "moving_variance")
    ]
    assert any(read)
    assert not all(read)


def test_half_copied_data_file_is_told_even_if_its_end_is_not_needed(tmp_path: Path) -> None:
    directory = _copy(FIXTURES / "tf1/no-batch-norm", tmp_path)
    data = next(directory.glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:-1])
    outcome = bncheck("inspect", str(directory))
    assert outcome.code == 3
    assert "the copy is incomplete" in outcome.out.lower().replace("\n  ", " ")


def test_damaged_graph_beside_the_checkpoint_is_said_and_can_be_left_out(tmp_path: Path) -> None:
    directory = _copy(HEALTHY, tmp_path)
    meta = next(directory.glob("*.meta"))
    meta.write_bytes(meta.read_bytes()[:-100])
    outcome = bncheck("inspect", str(directory))
    assert outcome.code == 3
    assert "--no-graph" in outcome.out
    assert bncheck("inspect", str(directory), "--no-graph").code == 0


def test_missing_index_is_named(tmp_path: Path) -> None:
    directory = _copy(HEALTHY, tmp_path)
    (directory / "model.ckpt-60.index").unlink()
    for path in (directory / "model.ckpt-60", directory / "model.ckpt-60.data-00000-of-00001"):
        outcome = bncheck("inspect", str(path))
        assert outcome.code == 3
        assert "its index is not" in outcome.err


def test_output_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("before")
    outcome = bncheck("inspect", str(UNTRAINED), "--format", "json", "-o", str(target))
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "")
    assert json.loads(target.read_text("utf-8"))["summary"]["error"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_text_in_a_file_is_the_text_on_the_screen(tmp_path: Path) -> None:
    target = tmp_path / "report.txt"
    bncheck("inspect", str(UNTRAINED), "-o", str(target))
    assert target.read_text("utf-8") == bncheck("inspect", str(UNTRAINED)).out


def test_colours_only_where_they_are_wanted() -> None:
    arguments = ("inspect", str(UNTRAINED))
    plain = bncheck(*arguments).out
    assert "\x1b" not in plain
    assert bncheck(*arguments, NO_COLOR="1").out == plain
    assert bncheck(*arguments, "--color", "never", FORCE_COLOR="1").out == plain
    coloured = bncheck(*arguments, "--color", "always", NO_COLOR="1").out
    assert "\x1b[1;31m" in coloured


def test_a_terminal_that_cannot_write_it_gets_plain_marks() -> None:
    outcome = bncheck("inspect", str(UNTRAINED), PYTHONIOENCODING="ascii")
    assert outcome.code == 1
    assert "x moving_mean" in outcome.out
    assert outcome.out.isascii()


def test_a_file_keeps_its_permissions_and_a_link_its_place(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before")
    target.chmod(0o600)
    link.symlink_to(target)
    assert bncheck("inspect", str(HEALTHY), "-o", str(link)).code == 0
    assert link.is_symlink()
    assert target.read_text("utf-8").startswith("checkpoint")
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_fifo_stays_one(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE) as reader:
        assert bncheck("inspect", str(HEALTHY), "-o", str(fifo)).code == 0
        assert reader.communicate(timeout=20)[0].startswith(b"checkpoint")
    assert fifo.is_fifo()


def test_a_dash_is_standard_output() -> None:
    arguments = ("inspect", str(UNTRAINED))
    assert bncheck(*arguments, "-o", "-") == bncheck(*arguments)


def test_a_rule_named_twice_finds_once() -> None:
    arguments = ("inspect", str(UNTRAINED), "--select", "BN201,untrained-statistics")
    assert "2 errors" in bncheck(*arguments).out


def test_quiet_says_what_was_read() -> None:
    outcome = bncheck("inspect", str(FIXTURES / "tf1/state-file-gone-one-left"), "-q")
    assert "read the only checkpoint there" in outcome.out
    assert outcome.out.splitlines()[-1].startswith("PASS")


def test_a_full_disk_is_said() -> None:
    command = f"{sys.executable} -m bncheck inspect {HEALTHY} > /dev/full"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == 3
    assert done.stderr == b"bncheck: standard output: cannot be written: No space left on device\n"


@pytest.mark.parametrize("arguments", ["--help", "--version", "inspect --help", "rules"])
def test_a_full_disk_is_said_of_every_output(arguments: str) -> None:
    command = f"{sys.executable} -m bncheck {arguments} > /dev/full"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == 3
    assert done.stderr == b"bncheck: standard output: cannot be written: No space left on device\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["inspect", "--help"]])
def test_a_help_that_nobody_reads_is_no_failure(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "bncheck", *arguments],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_that_nobody_hears_keeps_its_code() -> None:
    command = f"{sys.executable} -m bncheck nonsense 2> /dev/full"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 2


def test_standard_output_may_have_no_encoding() -> None:
    with redirect_stdout(StringIO()):
        assert make_screen("never").unicode


@pytest.mark.parametrize(
    ("named", "output"),
    [
        ("healthy", "healthy/model.ckpt-60.index"),
        ("healthy", "healthy/checkpoint"),
        ("healthy/model.ckpt-60", "healthy/model.ckpt-60.data-00000-of-00001"),
        ("healthy/model.ckpt-60", "healthy/model.ckpt-60.meta"),
        ("healthy/model.ckpt-60.index", "healthy/model.ckpt-60.index"),
        ("healthy/model.ckpt-60", "link"),
    ],
)
def test_a_report_never_replaces_what_it_is_about(tmp_path: Path, named: str, output: str) -> None:
    _copy(HEALTHY, tmp_path)
    (tmp_path / "link").symlink_to("healthy/model.ckpt-60.index")
    before = (tmp_path / output).read_bytes()
    outcome = bncheck("inspect", named, "-o", output, cwd=tmp_path)
    assert outcome.code == 2
    assert f"{output} is what the report would be about" in outcome.err
    assert (tmp_path / output).read_bytes() == before


def test_a_report_may_lie_beside_what_it_is_about(tmp_path: Path) -> None:
    _copy(HEALTHY, tmp_path)
    for _ in range(2):
        outcome = bncheck("inspect", "healthy", "-o", "healthy/report.json", cwd=tmp_path)
        assert outcome.code == 0


@pytest.mark.parametrize("columns", ["0", "x", "\u00b2", "-5", "3"])
def test_columns_that_are_none_do_no_harm(columns: str) -> None:
    outcome = bncheck("inspect", str(UNTRAINED), COLUMNS=columns)
    assert outcome.code == 1
    assert outcome.err == ""


def test_a_broken_link_in_place_of_the_graph_is_not_no_graph(tmp_path: Path) -> None:
    directory = _copy(HEALTHY, tmp_path)
    meta = next(directory.glob("*.meta"))
    meta.unlink()
    meta.symlink_to("nowhere")
    assert bncheck("inspect", str(directory)).code == 3


def test_a_graph_cut_at_a_fields_end_is_damaged(tmp_path: Path) -> None:
    from bncheck.proto.graphs_pb2 import MetaGraphDef

    directory = _copy(FIXTURES / "tf1/trainable-saver", tmp_path)
    meta = next(directory.glob("*.meta"))
    graph = MetaGraphDef.FromString(meta.read_bytes())
    graph.ClearField("collection_def")
    meta.write_bytes(graph.SerializeToString())
    outcome = bncheck("inspect", str(directory))
    assert outcome.code == 3
    assert "it is cut off, or was stripped" in outcome.out.replace("\n  ", " ")


def test_a_reader_that_stops_early_is_no_bug_and_keeps_the_verdict() -> None:
    command = f"{sys.executable} -m bncheck inspect {UNTRAINED} --all | head -n 1"
    command += "; exit ${PIPESTATUS[0]}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    assert done.stdout.startswith(b"checkpoint")
    assert done.stderr == b""
    assert done.returncode == 1


def test_a_bug_shows_its_traceback_and_exits_with_4() -> None:
    code = (
        "import bncheck.audit, bncheck.cli.main as m, sys\n"
        "def broken(*_): raise ZeroDivisionError('on purpose')\n"
        "bncheck.audit.inspect = broken\n"
        "sys.argv = ['bncheck', 'inspect', 'x']\n"
        "m.run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == 4
    assert b"ZeroDivisionError: on purpose" in done.stderr
    assert b"this is a bug" in done.stderr


def test_batch_norm_can_be_required() -> None:
    path = "fixtures/tf1/no-batch-norm"
    assert bncheck("inspect", path).code == 0
    outcome = bncheck("inspect", path, "--require-batch-norm")
    assert outcome.code == 1
    assert "error BN106 no-batch-norm" in outcome.out
    assert bncheck("inspect", "fixtures/tf1/healthy", "--require-batch-norm").code == 0
