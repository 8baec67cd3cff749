"""The reports of `bncheck map`: their schema, their numbers, and names that want to be more."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from bncheck.assignment.edits import parse_rename
from bncheck.assignment.loaders import Loader
from bncheck.mapping import MapOptions, map_checkpoint
from bncheck.report.map_json import to_json
from bncheck.report.map_model import Fate, MapReport, Match
from bncheck.report.map_python import to_python
from tests.commands import FIXTURES, ROOT, bncheck
from tests.writers import write_bundle

SCHEMA = json.loads((ROOT / "bncheck/report/map-schema-v1.json").read_text("utf-8"))


def _closed(schema: object) -> object:
    """Return the schema with every object closed: a field that it does not describe is an error."""
    if isinstance(schema, dict):
        closed = {key: _closed(value) for key, value in schema.items()}
        if "properties" in schema:
            closed["additionalProperties"] = False
        return closed
    return [_closed(each) for each in schema] if isinstance(schema, list) else schema


VALIDATOR = jsonschema.Draft202012Validator(_closed(SCHEMA))
MISMATCH = "tf1/graph-mismatch/model.ckpt-60"


def _map(path: str, graph: str | None = None, **options: Any) -> MapReport:
    given = str(FIXTURES / graph) if graph else None
    return map_checkpoint(str(FIXTURES / path), MapOptions(given, **options))


def _defined(text: str) -> dict[str, str]:
    """Return the map that a Python file defines, without a look at TensorFlow."""
    compile(text, "map.py", "exec")
    assigned = next(node for node in ast.parse(text).body if isinstance(node, ast.Assign))
    value: dict[str, str] = ast.literal_eval(assigned.value)
    namespace: dict[str, Any] = {}
    exec(text, namespace)  # noqa: S102 - what is tested is that this does no more than it says
    assert namespace["assignment_map"] == value
    assert namespace.keys() - {"__builtins__", "assignment_map"} <= {"make_saver"}
    return value


def test_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("path", "graph", "loader"),
    [
        ("tf1/healthy", None, Loader.ASSIGNMENT_MAP),
        ("tf1/trainable-saver", None, Loader.SAVER),
        ("tf1/saver-drops-prefix", None, Loader.WARM_START),
        ("tf1/saver-renames-roles", None, Loader.SLIM),
        ("tf1/saved-model-two-graphs/model", None, Loader.ASSIGNMENT_MAP),
        (MISMATCH, "tf1/graph-mismatch/more-channels.meta", Loader.SAVER),
        ("tf1/v1-sharded", "tf1/slim-healthy/model.ckpt-60.meta", Loader.ASSIGNMENT_MAP),
        ("tf2/object-based-module", "tf2/object-based-module-adam", Loader.OBJECT),
        ("keras2/trained/saved_model", None, Loader.OBJECT),
        ("keras3/trained/model.keras", "keras2/trained/model.h5", Loader.KERAS_BY_NAME),
        ("keras2/trained/model.h5", "keras3/trained/model.keras", Loader.KERAS_BY_NAME),
    ],
)
def test_reports_follow_the_schema_and_count_each_variable_once(
    path: str, graph: str | None, loader: Loader
) -> None:
    report = _map(path, graph, loader=loader)
    told = json.loads(to_json(report))
    VALIDATOR.validate(told)
    summary = told["summary"]
    assert sum(summary[each.value] for each in Match) == len(told["variables"])
    assert sum(summary[each.value] for each in Fate) == told["graph"]["variables"]
    assert told["assignment_map"] == _defined(to_python(report))


def test_the_loss_of_the_statistics_is_the_headline() -> None:
    report = _map("tf1/healthy", collection="trainable")
    assert report.headline == "a map of the trainable variables drops 4 of 4 statistics"
    assert report.statistics == (4, 0)
    assert report.exit_code == 1
    whole = _map("tf1/healthy")
    assert whole.headline == "all 4 statistics come from the checkpoint"
    assert whole.exit_code == 0
    saver = _map("tf1/trainable-saver", loader=Loader.SAVER)
    assert saver.headline == "a Saver of the graph's own list of variables drops 4 of 4 statistics"


def test_other_headlines() -> None:
    renamed = _map(MISMATCH, "tf1/graph-mismatch/renamed-scope.meta")
    assert renamed.headline == (
        "4 of 4 statistics keep their initializers: nothing in the checkpoint is theirs"
    )
    wider = _map(MISMATCH, "tf1/graph-mismatch/more-channels.meta")
    assert wider.headline == (
        "assignment-map raises and restores nothing: it refuses 6 variables, "
        "2 of 4 statistics among them"
    )
    assert (wider.exit_code, wider.statistics) == (1, (4, 0))
    none = _map("tf1/no-batch-norm", "tf1/no-batch-norm")
    assert none.headline == "the graph asks for no statistics of batch normalization"
    assert none.exit_code == 0


def test_what_the_loader_finds_under_another_name_is_matched() -> None:
    report = _map("tf1/saver-drops-prefix", loader=Loader.SAVER)
    row = next(row for row in report.rows if row.name == "net/bn_in/moving_mean")
    assert (row.key, row.match, row.fate) == (
        *("bn_in/moving_mean", Match.MATCHED),
        Fate.RESTORED,
    )
    assert report.count(Match.CHECKPOINT_ONLY) == 0


def test_a_graph_without_one_of_the_layers_gets_all_it_asks_for() -> None:
    report = _map(MISMATCH, "tf1/graph-mismatch/one-layer-less.meta")
    assert report.exit_code == 0
    left = {row.key for row in report.rows if row.match is Match.CHECKPOINT_ONLY and row.place}
    assert left == {
        f"net/bn_out/{role}" for role in ("gamma", "beta", "moving_mean", "moving_variance")
    }


def test_a_rename_says_what_it_gained_and_lost() -> None:
    graph = "tf1/graph-mismatch/renamed-scope.meta"
    edits = tuple(map(parse_rename, ["^net/=model/", "^model/bn_in=x", "nothing=y"]))
    report = _map(MISMATCH, graph, renames=edits)
    assert [(each.renamed, each.gained) for each in report.applied] == [(12, 12), (4, -4), (0, 0)]
    mended = _map(MISMATCH, graph, renames=edits[:1])
    assert mended.exit_code == 0
    assert mended.assignment_map["net/bn_in/moving_mean"] == "model/bn_in/moving_mean"
    assert mended.suggestions == ()
    (suggestion,) = _map(MISMATCH, graph).suggestions
    assert (suggestion.edit.option, suggestion.gains) == ("^net/=model/", 12)


def test_two_names_that_become_one_match_nothing() -> None:
    edits = (parse_rename("moving_(mean|variance)$=moving_mean"),)
    report = _map("tf1/healthy", renames=edits)
    assert "net/bn_in/moving_mean" not in report.assignment_map.values()


@pytest.mark.tensorflow
def test_the_python_that_is_made_restores_what_it_says(tf: Any) -> None:
    edits = (parse_rename("^net/=model/"),)
    report = _map(MISMATCH, "tf1/graph-mismatch/renamed-scope.meta", renames=edits)
    namespace: dict[str, Any] = {}
    exec(to_python(report), namespace)  # noqa: S102 - what is tested
    v1 = tf.compat.v1
    reader = tf.train.load_checkpoint(report.checkpoint.path)

    def build() -> list[Any]:
        return [
            v1.get_variable(each.name, each.shape, tf.as_dtype(each.dtype))
            for each in report.graph.variables.values()
        ]

    with tf.Graph().as_default(), v1.Session() as session:
        build()
        v1.train.init_from_checkpoint(report.checkpoint.path, namespace["assignment_map"])
        session.run(v1.global_variables_initializer())
        mapped = {v.op.name: session.run(v) for v in v1.global_variables()}
    with tf.Graph().as_default(), v1.Session() as session:
        build()
        namespace["make_saver"]().restore(session, report.checkpoint.path)
        saved = {v.op.name: session.run(v) for v in v1.global_variables()}
    assert len(mapped) == 12
    for name, value in mapped.items():
        expected = reader.get_tensor(name.replace("model/", "net/"))
        np.testing.assert_array_equal(value, expected)
        np.testing.assert_array_equal(saved[name], expected)


def test_a_variable_of_an_object_goes_by_its_full_name() -> None:
    module = "tf2/object-based-module-name-scope"
    mapped = _map(module, module).assignment_map
    key = "model/norm_a/moving_mean/.ATTRIBUTES/VARIABLE_VALUE"
    assert mapped[key] == "net/bn_in/moving_mean"
    other = "model/first/w/.ATTRIBUTES/VARIABLE_VALUE"
    assert mapped[other] == other  # six variables are called net/Variable


def test_without_renames_no_saver_is_made() -> None:
    assert "Saver(" not in to_python(_map("tf1/healthy"))


HOSTILE = {
    "quotes": "a'b\"c'''",
    "code": "x': __import__('os').system('false')}\n#",
    "comment": "x\nimport os\n",
    "backslash": "a\\",
    "ansi": "\x1b[31mred",
    "markup": "[bold red]x[/]",
    "emoji code": ":skull:",
    "bidi": "\u202egnp.exe",
    "line separator": "a\u2028b\x85c",
    "NUL": "a\x00b",
    "long": "x" * 10_000,
    "braces": "{1+2}{0}",
}


def _write(directory: Path, name: bytes, *, matched: bool) -> tuple[str, str]:
    """Write a checkpoint and one that stands for the graph, with a batch norm of this name."""
    roles = (b"gamma", b"beta", b"moving_mean", b"moving_variance")
    ours = {name + b"/" + role: np.ones(3, np.float32) for role in roles}
    ours[name + b"/kernel"] = np.ones((2, 3), np.float32)
    theirs = {(b"" if matched else b"other/") + key: value for key, value in ours.items()}
    write_bundle(directory / "ours", ours)
    write_bundle(directory / "theirs", theirs)
    return str(directory / "ours"), str(directory / "theirs")


@pytest.mark.parametrize("matched", [True, False])
@pytest.mark.parametrize(
    "name", [*(name.encode() for name in HOSTILE.values()), b"\xff\xfe"], ids=[*HOSTILE, "bytes"]
)
def test_hostile_names_are_data(name: bytes, matched: bool, tmp_path: Path) -> None:
    path, graph = _write(tmp_path, name, matched=matched)
    text = bncheck("map", path, "--graph", graph, "--all", "--color", "never")
    assert text.code == (0 if matched else 1), text
    assert text.out.replace("\n", "").isprintable()
    assert max(map(len, text.out.splitlines())) < 2500
    # One row for each variable of either side, and none that a name made up.
    rows = [line for line in text.out.splitlines() if "moving_mean " in line]
    assert len(rows) == (1 if matched else 2)
    report = map_checkpoint(path, MapOptions(graph))
    told = json.loads(to_json(report))
    VALIDATOR.validate(told)
    json.dumps(told, ensure_ascii=False).encode("utf-8")
    python = to_python(report)
    assert python.isascii()
    assert _defined(python) == dict(report.assignment_map)
    decoded = name.decode("utf-8", "surrogateescape")
    assert (f"{decoded}/moving_mean" in report.assignment_map) == matched


def test_python_names_what_it_leaves_out_as_data(tmp_path: Path) -> None:
    name = "x\nimport os\n#'"
    path, graph = _write(tmp_path, name.encode(), matched=False)
    python = bncheck("map", path, "--graph", graph, "--format", "python").out
    assert _defined(python) == {}
    assert f"#   {('other/' + name + '/moving_mean')!a}: not in the checkpoint" in python
