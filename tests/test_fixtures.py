"""Every fixture gets the layers, findings and exit code that its story calls for."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest

from bncheck.rules import all_rules
from bncheck.rules.rule import Level
from tests.commands import FIXTURES, bncheck_here

MANIFEST = json.loads((FIXTURES / "MANIFEST.json").read_text("utf-8"))
BY_NAME = {entry["name"]: entry for entry in MANIFEST}

# The rules on two checkpoints have runs of their own: see test_runs. BN106 is a question of the
# command line: see test_contract.
OF_ONE_CHECKPOINT = [
    rule.code for rule in all_rules() if not rule.code.startswith("BN6") and rule.code != "BN106"
]

# For each rule, fixtures that look much like those that trip it, and are right or another rule's.
LOOK_ALIKES = {
    "BN101": ["tf1/other-norms", "tf1/other-norms-beside-batch-norm", "tf1/no-affine"],
    "BN102": ["tf1/other-norms", "tf1/unnamed-norms", "tf1/mean-only"],
    "BN103": ["tf1/other-norms", "tf1/unnamed-norms", "tf1/no-batch-norm"],
    "BN104": ["tf1/names-sonnet", "tf1/conditional-batch-norm", "tf1/partitioned"],
    "BN105": ["keras3/no-scale-no-center:keras", "keras3/trained:weights-h5"],
    "BN201": ["tf1/standardized-input-nearly", "tf1/new-head", "tf1/step-0", "tf1/no-affine"],
    "BN202": ["tf1/standardized-input", "tf1/dead-layer", "tf1/shadows"],
    "BN203": ["tf1/residual-zero-gamma", "tf1/half-of-updates", "tf1/random-gamma-step-0"],
    "BN204": ["tf1/no-affine-no-update-ops", "tf1/new-head", "tf1/warm-start-trainables"],
    "BN205": ["tf1/few-steps-after-restore", "tf1/two-updates-a-step", "tf1/zero-debias"],
    "BN206": ["tf1/no-update-ops", "tf1/zero-variance", "tf1/standardized-input"],
    "BN301": ["tf1/exploded", "tf1/negative-variance"],
    "BN302": ["tf1/dead-channels", "tf1/zero-variance"],
    "BN303": ["tf1/raw-pixels", "tf1/half-range"],
    "BN304": ["tf1/dead-channels", "tf1/handmade-average-not-updated"],
    "BN305": ["tf1/raw-pixels", "tf1/dead-channels", "tf1/float16-statistics"],
    "BN401": ["tf1/saver-drops-prefix", "tf1/saver-renames-roles", "tf1/graph-mismatch:same"],
    "BN402": ["tf1/partitioned", "tf1/graph-mismatch:same"],
    "BN403": ["tf1/healthy", "tf1/statistics-in-trainable"],
    "BN404": ["tf1/saver-drops-prefix", "tf1/graph-mismatch:renamed-scope"],
    "BN501": [
        *("tf1/wired-control-dependencies", "tf1/wired-group", "tf1/wired-contrib-in-place"),
        *("tf1/wired-slim-create-train-op", "tf1/wired-cond", "tf1/wired-two-fetches"),
        *("tf1/wired-keras-fit", "tf1/wired-inference-mode", "tf1/wired-unused-branch"),
    ],
    "BN502": ["tf1/wired-own-collection", "tf1/wired-contrib-in-place", "tf1/wired-none"],
    "BN503": ["tf1/healthy", "tf1/saver-renames-roles", "tf1/statistics-in-trainable"],
    "BN504": [
        *("tf1/serving-frozen:right.pb", "tf1/serving-frozen:default-false.pb"),
        *("keras2/trained:saved-model", "keras3/trained:export", "tf1/wired-control-dependencies"),
    ],
    "BN505": ["tf1/shadows", "tf1/zero-debias", "tf1/optimizer-scoped"],
    "BN506": ["tf1/serving-graph-def:if.pb", "keras3/trained:saved-model"],
}


def _arguments(entry: dict[str, Any]) -> list[str]:
    return ["inspect", entry["path"], *entry["arguments"]]


@pytest.mark.parametrize("entry", MANIFEST, ids=list(BY_NAME))
def test_fixture(entry: dict[str, Any]) -> None:
    outcome = bncheck_here(*_arguments(entry), "--format", "json", cwd=FIXTURES)
    assert outcome.code == entry["exit"], outcome.err
    if outcome.code == 3:
        assert outcome.out == ""
        assert outcome.err.startswith("bncheck: ")
        return
    report = json.loads(outcome.out)
    assert {layer["name"]: layer["status"] for layer in report["layers"]} == entry["layers"]
    found = defaultdict(list)
    for finding in report["findings"]:
        found[finding["rule"]].append(finding["layer"])
    assert {rule: sorted(layers) for rule, layers in found.items()} == entry["findings"]
    assert report["checkpoint"]["format"] == entry["format"]
    assert report["checkpoint"]["step"] == entry["step"]
    assert report["skipped"] == []
    assert outcome.err == ""


def test_every_rule_is_tripped_by_a_fixture() -> None:
    tripped = {rule for entry in MANIFEST for rule in entry["findings"]}
    assert tripped == set(OF_ONE_CHECKPOINT)


def test_every_rule_has_look_alikes_that_do_not_trip_it() -> None:
    assert sorted(LOOK_ALIKES) == OF_ONE_CHECKPOINT
    for rule, names in LOOK_ALIKES.items():
        for name in names:
            assert rule not in BY_NAME[name]["findings"], (rule, name)


def test_exit_codes_follow_from_the_levels() -> None:
    errors = {rule.code for rule in all_rules() if rule.level is Level.ERROR}
    # These fixtures hold the three rules' milder forms, which are warnings.
    milder = {
        *("tf1/float16-statistics", "tf1/bfloat16-statistics", "tf1/slightly-negative-variance"),
        "tf1/wired-none-warm-started",
    }
    for entry in MANIFEST:
        if entry["exit"] != 3 and entry["name"] not in milder:
            assert entry["exit"] == int(bool(errors & set(entry["findings"]))), entry["name"]
