"""Programs as graphs: what they may return, and every way in which they fail."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bncheck import inspect, load_graph
from bncheck.audit import Options
from bncheck.errors import BncheckError, NotFoundError, ProgramError, UnsupportedError
from bncheck.graph import python_module
from bncheck.graph.python_module import is_program
from tests.commands import FIXTURES

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
ROLES = ("gamma", "beta", "moving_mean", "moving_variance")
PROGRAM = """
import tensorflow as tf

print("noise on stdout")
v1 = tf.compat.v1


def net(size=6):
    x = v1.placeholder(tf.float32, [None, size])
    with v1.variable_scope("net/bn"):
        gamma = v1.get_variable("gamma", [size], initializer=v1.ones_initializer())
        mean = v1.get_variable("moving_mean", [size], trainable=False)
    v1.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean((x - mean) * gamma))
    return x


def fills_the_graph():
    net()
    v1.train.Saver(v1.trainable_variables())


def returns_a_graph():
    with tf.Graph().as_default() as graph:
        net()
    return graph


def returns_a_tensor():
    with tf.Graph().as_default():
        return net()


def returns_some_variables():
    net()
    return v1.trainable_variables()


def returns_a_saver():
    net()
    v1.train.Saver()
    return v1.train.Saver({"renamed": v1.trainable_variables()[0]})


def keras_model():
    x = tf.keras.Input((6,))
    y = tf.keras.layers.Dense(6, name="first")(x)
    y = tf.keras.layers.BatchNormalization(name="bn_in", momentum=0.9)(y)
    model = tf.keras.Model(x, y)
    model.compile("adam", "mse", metrics=["mae"])
    return model


def needs_values():
    model = keras_model()
    model(tf.zeros([2, 6])).numpy()
    return model


class Module(tf.Module):
    def __init__(self):
        super().__init__("net")
        with self.name_scope:
            self.gamma = tf.Variable(tf.ones([3]), name="gamma")
            self.rest = [tf.Variable(0.0, name="a", trainable=False)]


def checkpoint():
    return tf.train.Checkpoint(**{"a.b": Module(), "opt": tf.keras.optimizers.SGD()})


def eager_variables():
    assert tf.executing_eagerly()
    return [tf.Variable(tf.ones([3]), name="a"), tf.Variable(0, name="b", trainable=False)]


class Holder:
    module = Module
"""
FAILING = """
import os
import signal
import time


def raises():
    helper()


def helper():
    raise ValueError("no\\nway")


def leaves():
    raise SystemExit(0)


def nothing():
    pass


def crashes():
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def ends():
    os._exit(0)


def hangs():
    if os.fork() == 0:
        time.sleep(600)
    print("sleeping", flush=True)
    time.sleep(600)


number = 1
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working directory with modules of a user's in it."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package/program.py").write_text(PROGRAM, "utf-8")
    (tmp_path / "failing.py").write_text(FAILING, "utf-8")
    (tmp_path / "broken.py").write_text("import nowhere\n", "utf-8")
    (tmp_path / "garbled.py").write_text("def f(:\n", "utf-8")
    # A module of the user's may be called as one of bncheck's own beside the child's file.
    (tmp_path / "model.py").write_text("from failing import raises\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fake_tensorflow(program: Path) -> Path:
    """Make TensorFlow cheap, for what happens before it is of any use."""
    (program / "tensorflow.py").write_text(
        "import contextlib\n"
        "class Graph:\n"
        "    def as_default(self): return contextlib.nullcontext(self)\n"
        "    def get_operations(self): return []\n"
        "class Variable: pass\n",
        "utf-8",
    )
    return program


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("module:function", True),
        ("package.module:Class.method", True),
        ("gs://bucket/graph.meta", False),
        ("C:/model.ckpt", False),
        ("model.ckpt-60", False),
        ("module:", False),
        (":function", False),
    ],
)
def test_what_looks_like_a_program(path: str, expected: bool) -> None:
    assert is_program(path) is expected


def test_a_file_of_that_name_goes_first(program: Path) -> None:
    (program / "failing:raises").write_text("a/b\n", "utf-8")
    assert load_graph("failing:raises").kind == "names"


@pytest.mark.parametrize(
    ("called", "kind", "what"),
    [
        ("absent:f", NotFoundError, "there is no module 'absent'"),
        ("failing.inner:f", NotFoundError, "there is no module 'failing.inner'"),
        ("failing:absent", NotFoundError, "failing has no 'absent'"),
        ("failing:number", NotFoundError, "'number' in failing is no function"),
        ("failing:raises", ProgramError, "raised ValueError: no, at {here}/failing.py:12"),
        ("model:raises", ProgramError, "raised ValueError: no, at {here}/failing.py:12"),
        ("failing:leaves", ProgramError, "raised SystemExit: 0, at {here}/failing.py:16"),
        ("failing:nothing", ProgramError, "it built no graph, and returned NoneType"),
        ("broken:f", ProgramError, "cannot be imported: ModuleNotFoundError: No module named"),
        ("garbled:f", ProgramError, "cannot be imported: SyntaxError: invalid syntax"),
        ("failing:crashes", ProgramError, "crashed with SIGSEGV; the last that it printed: last"),
        ("failing:ends", ProgramError, "ended its process with exit code 0"),
    ],
)
def test_errors(fake_tensorflow: Path, called: str, kind: type[BncheckError], what: str) -> None:
    with pytest.raises(BncheckError) as caught:
        load_graph(called)
    assert (type(caught.value), caught.value.path) == (kind, called)
    assert what.format(here=fake_tensorflow) in str(caught.value)
    assert "called eagerly" not in str(caught.value)


def test_without_tensorflow(program: Path) -> None:
    (program / "tensorflow.py").write_text("raise ImportError('gone')\n", "utf-8")
    with pytest.raises(UnsupportedError, match="needs TensorFlow") as caught:
        load_graph("failing:raises")
    assert "pip install 'bncheck[tensorflow]'" in caught.value.remedy


@pytest.mark.usefixtures("fake_tensorflow")
def test_a_program_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has started ends with it."""
    monkeypatch.setenv(python_module.TIMEOUT, "1.5")
    started = time.monotonic()
    with pytest.raises(ProgramError, match="did not build its graph in time") as caught:
        load_graph("failing:hangs")
    assert time.monotonic() - started < 10
    assert "the last that it printed: sleeping" in caught.value.what
    assert python_module.TIMEOUT in caught.value.remedy


@pytest.mark.parametrize("written", ["soon", "0", "-1", "nan", "inf"])
@pytest.mark.usefixtures("fake_tensorflow")
def test_a_timeout_that_is_none(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv(python_module.TIMEOUT, written)
    with pytest.raises(ProgramError, match="is no number of seconds"):
        load_graph("failing:nothing")


def test_the_child_is_this_python(fake_tensorflow: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (fake_tensorflow / "shows.py").write_text(
        "import sys\nassert sys.stdin.read() == ''\nprint('noise')\n"
        "def f(): raise ValueError(sys.executable)\n",
        "utf-8",
    )
    with pytest.raises(ProgramError, match=sys.executable):
        load_graph("shows:f")
    assert capfd.readouterr() == ("", "")


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("function", "saved"),
    [
        ("fills_the_graph", {"net/bn/gamma": "net/bn/gamma"}),
        ("returns_a_graph", None),
        ("returns_a_tensor", None),
        ("returns_a_saver", {"net/bn/gamma": "renamed"}),
    ],
)
@pytest.mark.usefixtures("tf", "program")
def test_graphs_of_tensorflow_1(function: str, saved: Any) -> None:
    graph = load_graph(f"package.program:{function}")
    assert (graph.kind, graph.role) == ("python", "training")
    assert graph.source == f"package.program:{function}"
    assert [(each.name, each.shape) for each in graph.variables.values()] == [
        ("net/bn/gamma", (6,)),
        ("net/bn/moving_mean", (6,)),
    ]
    assert list(graph.collection("trainable")) == ["net/bn/gamma"]
    assert graph.saved_as == saved


@pytest.mark.tensorflow
@pytest.mark.usefixtures("tf", "program")
def test_some_variables_of_a_graph() -> None:
    graph = load_graph("package.program:returns_some_variables")
    assert list(graph.variables) == ["net/bn/gamma"]


@pytest.mark.tensorflow
@pytest.mark.parametrize("function", ["keras_model", "needs_values"])
@pytest.mark.usefixtures("tf", "program")
def test_keras_models(function: str) -> None:
    """Its keys are those of a checkpoint of the model; the optimizer and the metrics are apart."""
    graph = load_graph(f"package.program:{function}")
    names = set(graph.structure.full_names.values())
    assert names == {"first/kernel", "first/bias", *(f"bn_in/{role}" for role in ROLES)}
    trainable = {graph.structure.full_names[key] for key in graph.collection("trainable")}
    assert trainable == {"first/kernel", "first/bias", "bn_in/gamma", "bn_in/beta"}
    assert {c.momentum for c in graph.configs.values() if c.momentum} == {0.9}


@pytest.mark.tensorflow
def test_the_keys_are_those_that_tensorflow_writes(program: Path, tf: Any) -> None:
    import runpy

    module = runpy.run_path(str(program / "package/program.py"))
    for function in ("keras_model", "checkpoint"):
        built = module[function]()
        root = built if isinstance(built, tf.train.Checkpoint) else tf.train.Checkpoint(built)
        written = root.write(str(program / function))
        expected = {
            name
            for name, _ in tf.train.list_variables(written)
            if not name.startswith(("optimizer", "opt/", "_CHECKPOINTABLE"))
        }
        found = set(load_graph(f"package.program:{function}").variables)
        assert found >= {name for name in expected if "/.OPTIMIZER_SLOT/" not in name}, function


@pytest.mark.tensorflow
@pytest.mark.usefixtures("tf", "program")
def test_modules_and_checkpoints() -> None:
    graph = load_graph("package.program:Holder.module")
    assert set(graph.variables) == {f"gamma{VALUE}", f"rest/0{VALUE}"}
    assert list(graph.collection("trainable")) == [f"gamma{VALUE}"]
    graph = load_graph("package.program:checkpoint")
    assert set(graph.variables) == {f"a..b/gamma{VALUE}", f"a..b/rest/0{VALUE}"}
    assert {each.path for each in graph.structure.objects} == {"a.b"}


@pytest.mark.tensorflow
@pytest.mark.usefixtures("tf", "program")
def test_variables_by_their_names() -> None:
    graph = load_graph("package.program:eager_variables")
    assert {each.name: (each.dtype, each.shape) for each in graph.variables.values()} == {
        "a": ("float32", (3,)),
        "b": ("int32", ()),
    }
    assert list(graph.collection("trainable")) == ["a"]


@pytest.mark.tensorflow
@pytest.mark.usefixtures("tf", "program")
def test_matched_with_a_checkpoint() -> None:
    path = str(FIXTURES / "keras3/trained/model.weights.h5")
    report = inspect(path, Options(graph="package.program:keras_model"))
    used = {name.rpartition("/")[0]: use for name, use in report.graph_used.items()}
    assert "from-checkpoint" in used.values()
    assert {each.name for each in report.layers} >= {"bn_in"}
