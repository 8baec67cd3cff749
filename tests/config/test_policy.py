"""The policy's file: what it says, and where it goes wrong."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bncheck.config.keys import OPTIONS, SECTION_KEYS, ConfigError
from bncheck.config.load import find_policy, load_policy
from bncheck.config.policy import Policy, fits_path
from bncheck.rules.rule import Level, Thresholds
from tests.commands import ROOT

SCHEMA = json.loads((ROOT / "bncheck/config/config-schema-v1.json").read_text("utf-8"))

WHOLE = """\
paths = ["models"]
recursive = true
fail-on = "warning"
select = ["BN201", "negative-variance"]
ignore = "BN206"
momentum = 0.99
report = ["sarif=out.sarif"]
jobs = 2

[levels]
BN205 = "error"
dead-channels = "warning"

[thresholds]
initial-weight = 0.01
huge-variance = 1e5

[path."models/gan/*"]
fail-on = "never"
[path."models/gan/*".momentum]
"generator/*" = 0.999

[[exceptions]]
rule = "BN201"
layer = "generator/*"
reason = "batch statistics at test time, on purpose"

[[exceptions]]
rule = "BN301"
checkpoint = "old/*"
reason = "to be retrained"
expires = 2027-03-31
"""

RIGHT = "[[exceptions]]\nrule = 'BN201'\nreason = 'x'\n"


def _load(tmp_path: Path, text: str, name: str = "bncheck.toml") -> Policy:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return load_policy(str(path))


def _plain(text: str) -> dict[str, Any]:
    if sys.version_info < (3, 11):
        import tomli as tomllib
    else:
        import tomllib
    return json.loads(json.dumps(tomllib.loads(text), default=str))


def test_everything_that_a_policy_may_say(tmp_path: Path) -> None:
    policy = _load(tmp_path, WHOLE)
    assert policy.options == {
        "paths": ["models"],
        "recursive": True,
        "report": ["sarif=out.sarif"],
        "jobs": 2,
    }
    top, gan = policy.sections
    assert (top.path, top.select, top.ignore) == ("*", ("BN201", "BN302"), ("BN206",))
    assert (top.fail_on, top.momentum, top.momenta) == ("warning", 0.99, ())
    assert top.levels == {"BN205": Level.ERROR, "BN206": Level.WARNING}
    assert top.thresholds == {"initial_weight": 0.01, "huge_variance": 1e5}
    assert (gan.path, gan.fail_on) == ("models/gan/*", "never")
    assert gan.momenta == (("generator/*", 0.999),)
    first, second = policy.exemptions
    assert (first.rule, first.layer, first.checkpoint) == ("BN201", "generator/*", "*")
    assert first.line == 23
    assert second.expires == datetime.date(2027, 3, 31)
    assert second.holds(datetime.date(2027, 3, 31))
    assert not second.holds(datetime.date(2027, 4, 1))
    jsonschema.validate(_plain(WHOLE), SCHEMA)


def test_a_section_of_a_project(tmp_path: Path) -> None:
    text = '[project]\nname = "x"\n\n[tool.bncheck]\nfail-on = "note"\n'
    text += '[tool.bncheck.levels]\nBN205 = "eror"\n'
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text, "pyproject.toml")
    assert str(caught.value) == (
        f"{tmp_path}/pyproject.toml:7: BN205: must be one of note, warning, error; "
        "did you mean 'error'?"
    )
    assert _load(tmp_path, text.replace("eror", "error"), "pyproject.toml").sections[0].fail_on == (
        "note"
    )


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("fial-on = 'error'", 1, "fial-on: there is no such key; did you mean 'fail-on'?"),
        ("\n\nfail-on = 'eror'", 3, "must be one of error, warning, note, never; did you mean"),
        ("fail-on = 3", 1, "fail-on: must be a string"),
        ("jobs = true", 1, "jobs: must be a number"),
        ("jobs = 0", 1, "jobs: must be a number above 0"),
        ("quiet = 1", 1, "quiet: must be true or false"),
        ("select = ['BN2O1']", 1, "there is no rule 'BN2O1'; did you mean 'BN201'?"),
        ("select = [1]", 1, "select: must be an array of strings"),
        ("[levels]\nBN205 = 'bad'", 2, "BN205: must be one of note, warning, error"),
        ("[levels]\nBN999x = 'note'", 2, "there is no rule 'BN999x'"),
        ("momentum = 1.0", 1, "momentum: must be a number from 0 to below 1"),
        ("[momentum]\n'a/*' = 2", 2, "a/*: must be a number from 0 to below 1"),
        ("[thresholds]\ninital-weight = 1", 2, "did you mean 'initial-weight'?"),
        ("[thresholds]\noutlier = -1", 2, "outlier: must be a number above 0"),
        ("[path.'a/*']\njobs = 3", 2, "jobs: there is no such key"),
        ("[path]\na = 3", 2, "a: must be a table"),
        ("[[exceptions]]\nrule = 'BN201'", 1, "reason: is missing"),
        ("[[exceptions]]\nreason = 'x'", 1, "rule: is missing"),
        (
            f"{RIGHT}{RIGHT}expires = 'soon'",
            7,
            "expires: must be a date, like 2026-12-31",
        ),
        ("[[exceptions]]\nrule = 'BN201'\nreason = 'x'\nlayers = 'y'", 4, "did you mean 'layer'?"),
        ("exceptions = 3", 1, "exceptions: must be an array"),
        (f"{RIGHT}layer = ''", 4, "layer: is empty: leave it out to mean everything"),
        ("collection = 'globl'", 1, "did you mean 'global'?"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/bncheck.toml:{line}: ")
    assert said in str(caught.value)
    if "there is no rule" not in said and "BN2O1" not in text:
        with pytest.raises(jsonschema.ValidationError):
            checker = jsonschema.FormatChecker()
            jsonschema.validate(_plain(text), SCHEMA, format_checker=checker)


def test_what_is_no_policy_at_all(tmp_path: Path) -> None:
    for content, said in (
        (b"fail-on = ", "is no TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a = 1\na = 2", "is no TOML"),
        (b"x = " + b"[" * 100_000, "is no TOML"),
        (b"step = " + b"1" * 10_000, "is no TOML"),
    ):
        path = tmp_path / "bncheck.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=said):
            load_policy(str(path))
    with pytest.raises(ConfigError, match="must be a table"):
        _load(tmp_path, "[[tool.bncheck]]\nfail-on = 'note'\n", "pyproject.toml")
    assert _load(tmp_path, "\ufefffail-on = 'note'").sections[0].fail_on == "note"
    with pytest.raises(ConfigError, match="is not a regular file"):
        load_policy(str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_policy(str(tmp_path / "nowhere.toml"))


def test_the_schema_has_every_key() -> None:
    assert set(SCHEMA["properties"]) == {*OPTIONS, *SECTION_KEYS, "path", "exceptions"}
    section = SCHEMA["properties"]["path"]["additionalProperties"]["properties"]
    assert set(section) == set(SECTION_KEYS)
    fields = {name.replace("_", "-") for name in Thresholds._fields}
    assert set(section["thresholds"]["properties"]) == fields


def test_the_nearest_file_above_counts(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.bncheck]\n")
    assert find_policy(str(deep)) == str(tmp_path / "pyproject.toml")
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\n")  # of something else
    assert find_policy(str(deep)) == str(tmp_path / "pyproject.toml")
    (tmp_path / "a" / "bncheck.toml").write_text("")
    assert find_policy(str(deep)) == str(tmp_path / "a" / "bncheck.toml")


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("models/gan/model.ckpt-60", "models/gan/*", True),
        ("/srv/models/gan/model.ckpt-60", "models/gan/*", True),
        ("models/gan2/model.ckpt-60", "models/gan/*", False),
        ("models/gan/deep/er", "models/*", True),
        ("models", "models", True),
        ("other-models", "models", False),
        ("a\\b\\c", "b/*", True),
    ],
)
def test_patterns_of_paths(path: str, pattern: str, *, fits: bool) -> None:
    assert fits_path(path, pattern) is fits
