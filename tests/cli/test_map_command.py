"""`bncheck map` as a person calls it: exit codes, the screen, the rehearsal."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bncheck.assignment.loaders import Loader
from bncheck.cli.map import _LOADERS
from tests.commands import FIXTURES, ROOT, Outcome, bncheck

HEALTHY = str(FIXTURES / "tf1/healthy")
CHECKPOINT = str(FIXTURES / "tf1/graph-mismatch/model.ckpt-60")
GRAPHS = FIXTURES / "tf1/graph-mismatch"
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([HEALTHY], 0),
        ([HEALTHY, "--collection", "trainable"], 1),
        ([HEALTHY, "--loader", "warm-start"], 1),
        ([HEALTHY, "--loader", "warm-start", "--collection", "global"], 0),
        ([CHECKPOINT, "--graph", str(GRAPHS / "same.meta")], 0),
        ([CHECKPOINT, "--graph", str(GRAPHS / "one-layer-less.meta")], 0),
        ([CHECKPOINT, "--graph", str(GRAPHS / "one-more-layer.meta")], 1),
        ([CHECKPOINT, "--graph", str(GRAPHS / "more-channels.meta")], 1),
        ([CHECKPOINT, "--graph", str(GRAPHS / "renamed-scope.meta")], 1),
        ([CHECKPOINT, "--graph", str(GRAPHS / "renamed-scope.meta"), "--rename", "^net=model"], 0),
        ([HEALTHY, "--graph", HEALTHY], 0),
        ([HEALTHY, "--format", "python"], 0),
        ([HEALTHY, "--format", "json", "--collection", "trainable"], 1),
        ([], 2),
        ([HEALTHY, "--rename", "net"], 2),
        ([HEALTHY, "--rename", "(=x"], 2),
        ([HEALTHY, "--rename", r"net=\1"], 2),
        ([HEALTHY, "--loader", "torch"], 2),
        ([HEALTHY, "--format", "yaml"], 2),
        ([HEALTHY, "--loader", "slim", "--rehearse"], 2),
        ([CHECKPOINT, "--graph", HEALTHY + "/checkpoint", "--rehearse"], 2),
        ([str(FIXTURES / "keras3/trained/model.h5"), "--graph", HEALTHY, "--rehearse"], 2),
        ([HEALTHY, "-o", "no/such/directory/map"], 2),
        ([CHECKPOINT], 3),
        ([HEALTHY + "/nothing"], 3),
        ([HEALTHY, "--graph", HEALTHY + "/nothing.meta"], 3),
        ([HEALTHY, "--loader", "object"], 3),
        ([HEALTHY, "--loader", "keras-by-name"], 3),
        ([HEALTHY, "--graph", HEALTHY + "/checkpoint", "--collection", "trainable"], 3),
    ],
)
def test_exit_code(arguments: list[str], code: int) -> None:
    outcome = bncheck("map", *arguments)
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err
    assert bool(outcome.err) == (code >= 2)
    assert bool(outcome.out) == (code < 2)


def test_the_choices_are_the_loaders() -> None:
    assert set(_LOADERS) == {loader.value for loader in Loader}


TRAINABLE = """\
checkpoint  fixtures/tf1/healthy/model.ckpt-60
            tensor-bundle, 13 variables
graph       fixtures/tf1/healthy/model.ckpt-60.meta
            meta-graph, 13 variables
loader      tf.compat.v1.train.init_from_checkpoint
            given the trainable variables

a map of the trainable variables drops 4 of 4 statistics

net/bn_in  2 of 4 restored
✗ moving_mean      [6]  not trainable, so not in the map
✗ moving_variance  [6]  not trainable, so not in the map
  gamma            [6]  from checkpoint
  beta             [6]  from checkpoint

net/bn_out  2 of 4 restored
✗ moving_mean      [8]  not trainable, so not in the map
✗ moving_variance  [8]  not trainable, so not in the map
  gamma            [8]  from checkpoint
  beta             [8]  from checkpoint

5 other variables: 4 restored, 1 skipped

FAIL: 8 restored, 5 skipped, 0 refused, 0 only in the checkpoint
"""

RENAMED = """\
model/bn_in  4 of 4 restored
  moving_mean      [6]  ← net/bn_in/moving_mean
  moving_variance  [6]  ← net/bn_in/moving_variance
  gamma            [6]  ← net/bn_in/gamma
  beta             [6]  ← net/bn_in/beta
"""

WIDER = """\
net/bn_out  0 of 4 restored
✗ moving_mean      [8]  InvalidArgumentError: shape [5] in the graph
✗ moving_variance  [8]  InvalidArgumentError: shape [5] in the graph
✗ gamma            [8]  InvalidArgumentError: shape [5] in the graph
✗ beta             [8]  InvalidArgumentError: shape [5] in the graph

5 other variables: 2 restored, 2 refused, 1 only in the checkpoint
✗ net/conv_out/kernel  [3, 3, 6, 8]  InvalidArgumentError: shape [3, 3, 6, 5] in the graph
✗ net/head/kernel      [2, 2, 8, 1]  InvalidArgumentError: shape [2, 2, 5, 1] in the graph
"""


def test_the_screen_of_a_map_that_loses_the_statistics() -> None:
    assert bncheck("map", "fixtures/tf1/healthy", "--collection", "trainable").out == TRAINABLE


def test_the_screen_of_a_rename() -> None:
    arguments = ("map", CHECKPOINT, "--graph", str(GRAPHS / "renamed-scope.meta"))
    plain = bncheck(*arguments).out
    assert "  net/ -> model/: 12 more match\n      --rename '^net/=model/'\n" in plain
    mended = bncheck(*arguments, "--rename", "^net/=model/").out
    assert "rename      ^net/=model/: 12 names changed, +12 matches\n" in mended
    assert RENAMED in mended
    assert "nearly agree" not in mended
    assert mended.splitlines()[-1].startswith("PASS: 12 restored, 0 skipped")


def test_the_screen_of_another_shape() -> None:
    arguments = ("map", CHECKPOINT, "--graph", str(GRAPHS / "more-channels.meta"))
    out = bncheck(*arguments, "--loader", "saver").out
    assert WIDER in out
    assert "a resource variable silently takes the checkpoint's shape instead\n" in out


def test_all_lists_every_variable_that_is_matched() -> None:
    out = bncheck("map", HEALTHY, "--all").out
    assert "  net/head/bias        [1]           from checkpoint\n" in out
    assert "net/head/bias" not in bncheck("map", HEALTHY).out


def test_a_file_has_what_the_screen_has(tmp_path: Path) -> None:
    for form in ("text", "json", "python"):
        target = tmp_path / form
        arguments = ("map", HEALTHY, "--format", form)
        assert bncheck(*arguments, "-o", str(target)).out == ""
        assert target.read_text("utf-8") == bncheck(*arguments).out


def test_json_and_python_need_no_rich_and_nothing_needs_tensorflow() -> None:
    for form, absent in (("json", "rich"), ("python", "rich"), ("text", "tensorflow")):
        code = (
            f"import sys; sys.argv = ['bncheck', 'map', {HEALTHY!r}, '--format', {form!r}]\n"
            "from bncheck.cli.main import _exit_code\n"
            "assert _exit_code() == 0\n"
            f"assert {absent!r} not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


# A program that prints, and has one variable that the checkpoint does not know.
PROGRAM = """
import sys
import tensorflow as tf

def build():
    print("hello from the program")
    sys.stderr.write("and more")
    v1 = tf.compat.v1
    with v1.variable_scope("net/bn_in"):
        v1.get_variable("gamma", [6])
        v1.get_variable("moving_mean", [6], trainable=False)
        v1.get_variable("moving_variance", [6], trainable=False)
    v1.get_variable("new", [6])

def breaks():
    raise RuntimeError("no graph today")
"""


def _rehearse(directory: Path, *arguments: str, **environment: str) -> Outcome:
    (directory / "program.py").write_text(PROGRAM, "utf-8")
    return bncheck("map", HEALTHY, "--rehearse", *arguments, cwd=directory, **environment)


@pytest.mark.tensorflow
@pytest.mark.skipif(not HAS_TENSORFLOW, reason="TensorFlow builds the graph")
def test_a_program_is_rehearsed_and_what_it_prints_stays_there(tmp_path: Path) -> None:
    outcome = _rehearse(tmp_path, "--graph", "program:build", "--format", "json")
    assert outcome.code == 0, outcome
    assert outcome.err == ""
    rehearsal = json.loads(outcome.out)["rehearsal"]
    assert rehearsal["agrees"] is True
    assert rehearsal["seen"] == {
        "net/bn_in/gamma": "restored",
        "net/bn_in/moving_mean": "restored",
        "net/bn_in/moving_variance": "restored",
        "new": "kept-initializer",
    }


@pytest.mark.tensorflow
@pytest.mark.skipif(not HAS_TENSORFLOW, reason="TensorFlow builds the graph")
def test_what_takes_too_long_is_not_audited(tmp_path: Path) -> None:
    outcome = _rehearse(tmp_path, BNCHECK_REHEARSAL_TIMEOUT="0.01")
    assert outcome.code == 3
    assert "rehearsal failed: nothing was compared" in outcome.out
    assert "it took longer than 0.01 seconds (BNCHECK_REHEARSAL_TIMEOUT)" in outcome.out
    assert outcome.out.splitlines()[-1].startswith("NOT AUDITED")


def test_without_tensorflow_a_rehearsal_is_refused() -> None:
    hide = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'tensorflow' else find(name)\n"
        f"sys.argv = ['bncheck', 'map', {HEALTHY!r}, '--rehearse']\n"
        "from bncheck.cli.main import run\n"
        "run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", hide], cwd=ROOT, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "pip install 'bncheck[tensorflow]'" in done.stderr.decode()
    assert done.stdout == b""
