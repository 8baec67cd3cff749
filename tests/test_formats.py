"""One model, saved in every format: the same layers, the same numbers, the same findings."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from bncheck import inspect
from bncheck.batchnorm.names import ANY_AFFINE, STATISTICS
from tests.commands import FIXTURES

if TYPE_CHECKING:
    from bncheck.report.model import Report

MANIFEST = json.loads((FIXTURES / "MANIFEST.json").read_text("utf-8"))
STORIES: dict[str, list[dict[str, Any]]] = defaultdict(list)
for entry in MANIFEST:
    story, _, form = entry["name"].partition(":")
    if story.startswith(("keras2/", "keras3/")):
        STORIES[story].append(entry)

# Without a configuration or names, one file cannot know what the others do: it says so in a note.
ONLY_WITHOUT_CONFIG = {"BN105"}
# Two layers of one name there go by their paths, which are each format's own; and a subclassed
# model's attributes (bn1) are not its layers' names (batch_normalization).
NAMED_BY_PATH = {
    f"{keras}/{story}"
    for keras in ("keras2", "keras3")
    for story in ("nested-same-names", "subclassed", "subclassed-built")
}


def _numbers(report: Report) -> list[Any]:
    """Return every layer's state and bytes; which of two an affine is, not every file tells."""
    layers = []
    for layer in report.layers:
        values = [
            (member.variable.dtype, member.variable.shape, member.values.tobytes())
            for role in (*ANY_AFFINE, *STATISTICS)
            if (member := layer.saved(role)) is not None
            and member.variable is not None
            and member.values is not None
        ]
        layers.append((layer.status.value, values))
    return sorted(layers, key=repr)


def _findings(report: Report) -> list[tuple[str, str, str]]:
    """Return what was found; what a message adds of the step, not every format knows."""
    return sorted(
        (finding.rule.code, str(finding.level), finding.message.partition("; the step is")[0])
        for finding in report.findings
        if finding.rule.code not in ONLY_WITHOUT_CONFIG
    )


def _own_name(layer: str) -> str:
    """Return a layer's own name without the models around it, as only some formats tell them."""
    return layer.rpartition("/")[2]


@pytest.mark.parametrize("story", STORIES)
def test_one_model_in_every_format(story: str) -> None:
    reports = {each["name"]: inspect(str(FIXTURES / each["path"])) for each in STORIES[story]}
    assert len(reports) >= 2
    numbers = {name: _numbers(report) for name, report in reports.items()}
    first = next(iter(numbers.values()))
    assert first
    assert all(values for _, values in first)
    for name, own in numbers.items():
        assert own == first, name
    findings = {name: _findings(report) for name, report in reports.items()}
    for name, found in findings.items():
        assert found == next(iter(findings.values())), name


@pytest.mark.parametrize("story", sorted(STORIES.keys() - NAMED_BY_PATH))
def test_layers_are_called_alike(story: str) -> None:
    named = {
        each["name"]: sorted(map(_own_name, each["layers"]))
        for each in STORIES[story]
        # Keras 2's .weights.h5 knows no names but those of its groups.
        if not each["name"].startswith("keras2/") or each["format"] != "keras-weights-h5"
    }
    for name, own in named.items():
        assert own == next(iter(named.values())), name


def test_every_format_has_every_story() -> None:
    """The stories of the two Kerases, and the formats that each was saved in."""
    forms = {story: {each["format"] for each in entries} for story, entries in STORIES.items()}
    everything = {
        "object-based", "saved-model", "keras-h5", "keras-weights-h5", "keras-archive",
    }  # fmt: skip
    for keras in ("keras2", "keras3"):
        assert forms[f"{keras}/trained"] == everything
        for story, own in forms.items():
            if story.startswith(keras):
                assert own >= {"object-based", "keras-weights-h5"}, story
