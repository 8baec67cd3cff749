"""The gate: what it is about, what its policy leaves, and what it knows already."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bncheck.config.load import load_policy
from bncheck.config.policy import Policy, Section
from bncheck.errors import BncheckError
from bncheck.gating.auditing import Request, ruling_for
from bncheck.gating.baseline import read_baseline, write_baseline
from bncheck.gating.pipeline import GateOptions, gate
from bncheck.gating.targets import find_targets
from bncheck.report.model import FailOn, Verdict
from bncheck.rules.rule import Level
from tests.commands import FIXTURES

if TYPE_CHECKING:
    from bncheck.report.gate_model import GateReport

TF1 = FIXTURES / "tf1"


def _gate(
    *paths: Path | str, policy: str = "", tmp_path: Path | None = None, **more: Any
) -> GateReport:
    loaded = Policy()
    if policy and tmp_path is not None:
        (tmp_path / "bncheck.toml").write_text(policy, "utf-8")
        loaded = load_policy(str(tmp_path / "bncheck.toml"))
    given = more.pop("given", Section())
    return gate([str(p) for p in paths], GateOptions(Request(loaded, given), jobs=1, **more))


def _names(report: GateReport) -> list[str]:
    return [Path(each.path).name for each in report.checkpoints]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Checkpoints of several forms below one directory."""
    root = tmp_path / "models"
    shutil.copytree(TF1 / "healthy", root / "a" / "healthy")
    shutil.copytree(TF1 / "no-update-ops", root / "b" / "broken")
    shutil.copytree(FIXTURES / "runs/tf1-two-formats/saved_model", root / "b" / "served")
    shutil.copy(FIXTURES / "runs/tf2-two-formats/model.keras", root / "c.keras")
    (root / "readme.txt").write_text("nothing to audit")
    return root


def test_a_tree_is_searched_on_demand(tree: Path) -> None:
    found = [each.path for each in find_targets([str(tree)], recursive=True)]
    assert [str(Path(each).relative_to(tree)) for each in found] == [
        "c.keras",
        "a/healthy/model.ckpt-60",
        "b/broken/model.ckpt-60",
        "b/served",
    ]
    assert [each.path for each in find_targets([str(tree)], recursive=False)] == [str(tree)]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/served", ["b/served"]),
        ("*/*", ["a/healthy", "b/broken", "b/served"]),
        ("**/model.ckpt-*", ["a/healthy/model.ckpt-60", "b/broken/model.ckpt-60"]),
        ("**/*.keras", ["c.keras"]),
        ("**/*.txt", []),
        ("nothing/*", []),
    ],
)
def test_globs(tree: Path, pattern: str, found: list[str]) -> None:
    targets = find_targets([str(tree / pattern)], recursive=False)
    assert [str(Path(each.path).relative_to(tree)) for each in targets] == found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.keras", b""),
        ("x.h5", b"no HDF5"),
        ("x.index", b""),
        ("x.data-00000-of-00001", b"data without its index"),
        ("model.weights.json", b"{"),
        ("x-00001-of-00002", b"half of a V1 checkpoint"),
    ],
)
def test_what_claims_to_be_a_checkpoint_is_a_target(tree: Path, name: str, content: bytes) -> None:
    (tree / "a" / name).write_bytes(content)
    report = _gate(tree, recursive=True)
    assert [each.verdict for each in report.checkpoints].count(Verdict.NOT_AUDITED) == 1
    assert report.exit_code == 3


def test_what_a_state_file_lists_and_is_cut_off_is_a_target(tree: Path) -> None:
    shutil.copytree(TF1 / "v1-single", tree / "v1")
    (file,) = (
        p
        for p in (tree / "v1").iterdir()
        if p.name.startswith("model") and not p.suffix[1:].isalpha()
    )
    assert _gate(tree / "v1", recursive=True).exit_code == 0
    file.write_bytes(file.read_bytes()[:-20])
    assert _gate(tree / "v1", recursive=True).exit_code == 3


def test_what_a_state_file_lists_elsewhere_is_not_of_the_tree(tree: Path) -> None:
    """A directory that was copied lists the absolute paths of the one that it was copied from."""
    state = tree / "a/healthy/checkpoint"
    state.write_text(f'all_model_checkpoint_paths: "{TF1}/no-update-ops/model.ckpt-60"\n')
    found = [each.path for each in find_targets([str(tree / "a")], recursive=True)]
    assert found == [str(tree / "a/healthy/model.ckpt-60")]


def test_a_saved_model_hides_nothing_beside_it(tree: Path) -> None:
    served = tree / "b" / "served"
    for path in (TF1 / "no-update-ops").iterdir():
        shutil.copy(path, served / path.name)
    report = _gate(served, recursive=True)
    assert sorted(_names(report)) == ["model.ckpt-60", "saved_model.pb"]
    assert report.exit_code == 1


def test_a_directory_that_cannot_be_listed_is_not_passed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    listing, scanning = os.listdir, os.scandir

    def refuse(function: Any) -> Any:
        def refusing(path: Any = ".") -> Any:
            if str(path).endswith("b/broken"):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path)

        return refusing

    monkeypatch.setattr(os, "listdir", refuse(listing))
    monkeypatch.setattr(os, "scandir", refuse(scanning))
    found = find_targets([str(tree)], recursive=True)
    assert [each.problem for each in found if each.problem] == [
        "cannot be listed: Permission denied"
    ]


def test_one_checkpoint_by_many_names_is_one(tree: Path) -> None:
    here = tree / "b" / "broken"
    paths = [here, here / "model.ckpt-60", *sorted(here.iterdir())]
    assert len(_gate(*paths).checkpoints) == 1


def test_patterns_mean_checkpoints_however_they_are_spelled(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = "[path.'models/b/broken/*']\nfail-on = 'never'\n"
    for where, path in (
        (tmp_path, "models/b/broken"),
        (tmp_path, "models/b/broken/"),
        (tmp_path, "models/a/../b/broken"),
        (tree, "b/broken"),
        (tree / "b" / "broken", "."),
        (tree / "b" / "broken", "model.ckpt-60"),
    ):
        monkeypatch.chdir(where)
        assert _gate(path, policy=policy, tmp_path=tmp_path).exit_code == 0, path


def test_each_is_audited_once_and_none_hides_the_others(tree: Path) -> None:
    data = next((tree / "a/healthy").glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:-10])
    report = _gate(tree, tree / "c.keras", tree / "nowhere", recursive=True)
    assert [each.verdict for each in report.checkpoints] == [
        Verdict.PASS,
        Verdict.NOT_AUDITED,
        Verdict.FAIL,
        Verdict.PASS,
        Verdict.NOT_AUDITED,
    ]
    assert report.exit_code == 3
    (skipped,) = report.checkpoints[-1].skipped
    assert skipped.reason == "no such file, directory or checkpoint. Check the path."
    without = _gate(tree / "b/broken", tree / "c.keras")
    assert (without.exit_code, without.count(Level.ERROR)) == (1, 2)


def test_processes_make_no_difference(tree: Path) -> None:
    paths = [str(tree), *(str(TF1 / name) for name in ("nan", "slim-healthy", "raw-pixels"))]
    options = [GateOptions(Request(Policy()), recursive=True, jobs=jobs) for jobs in (1, 3)]
    alone, many = (gate(paths, each) for each in options)
    assert [each.path for each in alone.checkpoints] == [each.path for each in many.checkpoints]
    assert [e.fingerprints for e in alone.checkpoints] == [e.fingerprints for e in many.checkpoints]
    assert [e.findings for e in alone.checkpoints] == [e.findings for e in many.checkpoints]
    assert len(many.checkpoints) == 7


def test_nothing_to_audit(tmp_path: Path) -> None:
    report = _gate(tmp_path, recursive=True)
    assert (report.checkpoints, report.verdict) == ((), Verdict.NOT_AUDITED)
    assert _gate(tmp_path, recursive=True, allow_empty=True).exit_code == 0


def test_batch_norm_can_be_required(tmp_path: Path) -> None:
    required = Section(require_batch_norm=True)
    report = _gate(TF1 / "no-batch-norm", TF1 / "healthy", given=required)
    assert [each.verdict for each in report.checkpoints] == [Verdict.FAIL, Verdict.PASS]
    assert [f.rule.code for f in report.checkpoints[0].findings] == ["BN106"]
    policy = "[path.'*no-batch*']\nrequire-batch-norm = true"
    by_path = _gate(TF1 / "no-batch-norm", TF1 / "step-0", policy=policy, tmp_path=tmp_path)
    assert [each.findings[0].rule.code for each in by_path.checkpoints] == ["BN106", "BN204"]


def test_sections_and_levels(tmp_path: Path) -> None:
    policy = """\
ignore = ["BN206"]
[levels]
BN301 = "warning"
[path."*/nan"]
fail-on = "warning"
[path."*/no-update-ops"]
ignore = ["BN501"]
[path."*/no-update-ops".levels]
BN201 = "note"
"""
    report = _gate(
        TF1 / "nan", TF1 / "inf", TF1 / "no-update-ops", policy=policy, tmp_path=tmp_path
    )
    nan, inf, never = report.checkpoints
    assert {f.level for f in nan.findings} == {f.level for f in inf.findings} == {Level.WARNING}
    assert (nan.verdict, inf.verdict) == (Verdict.FAIL, Verdict.PASS)
    # Where BN501 does not count, it explains nothing.
    assert {(f.rule.code, f.level) for f in never.findings} == {("BN201", Level.NOTE)}
    assert report.exit_code == 1


def test_a_cause_that_is_taken_lighter_covers_nothing(tmp_path: Path) -> None:
    path = TF1 / "no-update-ops"
    lighter = _gate(path, policy="[levels]\nBN501 = 'note'\n", tmp_path=tmp_path)
    found = {(f.rule.code, f.level) for f in lighter.checkpoints[0].findings}
    assert found == {("BN501", Level.NOTE), ("BN201", Level.ERROR)}
    assert lighter.exit_code == 1
    both = "[levels]\nBN501 = 'note'\nBN201 = 'note'\n"
    assert _gate(path, policy=both, tmp_path=tmp_path).exit_code == 0
    same = _gate(path, policy="[levels]\nBN501 = 'error'\n", tmp_path=tmp_path)
    assert {f.rule.code for f in same.checkpoints[0].findings} == {"BN501"}


def test_what_is_given_goes_before_every_section(tmp_path: Path) -> None:
    (tmp_path / "bncheck.toml").write_text(
        "fail-on = 'note'\nselect = ['BN101']\nignore = ['BN206']\nmomentum = 0.9\n"
        "[path.'*']\nfail-on = 'never'\n[path.'models/*'.momentum]\n'g/*' = 0.5\n"
        "[thresholds]\noutlier = 3\n"
    )
    policy = load_policy(str(tmp_path / "bncheck.toml"))
    plain = ruling_for(["x/model.ckpt"], Request(policy))
    assert (plain.fail_on, plain.momentum, plain.momenta) == (FailOn.NEVER, 0.9, ())
    assert plain.rules is not None
    assert [r.code for r in plain.rules] == ["BN101"]
    assert plain.thresholds.outlier == 3
    given = Section(fail_on="error", select=("BN206", "BN301"), momentum=0.8)
    ruled = ruling_for(["models/m"], Request(policy, given))
    assert (ruled.fail_on, ruled.momentum, ruled.momenta) == (FailOn.ERROR, 0.8, (("g/*", 0.5),))
    assert ruled.rules is not None
    # What is selected higher up, the file cannot ignore.
    assert [r.code for r in ruled.rules] == ["BN206", "BN301"]
    nothing = ruling_for([], Request(policy, Section(ignore=("BN101",))))
    assert nothing.rules == ()


def test_thresholds_and_momenta_reach_the_rules(tmp_path: Path) -> None:
    path = TF1 / "undertrained-no-meta"
    policy = "[momentum]\n'*' = 0.99\n"
    assert [f.rule.code for f in _gate(path).checkpoints[0].findings] == []
    found = _gate(path, policy=policy, tmp_path=tmp_path).checkpoints[0].findings
    assert {f.rule.code for f in found} == {"BN205"}
    lenient = policy + "[thresholds]\ninitial-weight = 1\n"
    assert _gate(path, policy=lenient, tmp_path=tmp_path).checkpoints[0].findings == ()
    strict = "[thresholds]\nhuge-variance = 0.001\n"
    found = _gate(TF1 / "healthy", policy=strict, tmp_path=tmp_path).checkpoints[0].findings
    assert {f.rule.code for f in found} == {"BN303"}


EXCEPTIONS = """\
[[exceptions]]
rule = "BN501"
layer = "net/bn_in"
checkpoint = "no-update-ops/*"
reason = "inference mode on purpose"
expires = 2026-12-31
[[exceptions]]
rule = "BN301"
reason = "not here"
"""


def test_exceptions_are_counted_and_expire(tmp_path: Path) -> None:
    path = TF1 / "no-update-ops/model.ckpt-60"
    day = datetime.date(2026, 12, 31)
    (tmp_path / "p").mkdir()
    report = _gate(path, policy=EXCEPTIONS, tmp_path=tmp_path, today=day)
    (each,) = report.checkpoints
    assert [f.layer for f in each.findings] == ["net/bn_out"]
    (one,) = each.suppressed
    assert (one.by, one.reason, one.expires) == ("exception", "inference mode on purpose", day)
    assert report.suppressed == 1
    source = tmp_path / "bncheck.toml"
    assert report.warnings == (
        f"{source}:7: the exception for BN301 (not here) matches no finding",
    )
    later = day + datetime.timedelta(days=1)
    expired = _gate(path, policy=EXCEPTIONS, tmp_path=tmp_path, today=later)
    assert len(expired.checkpoints[0].findings) == 2
    assert expired.warnings[0] == (
        f"{source}:1: the exception for BN501 (inference mode on purpose) expired on 2026-12-31, "
        "and no longer holds"
    )


def _baseline(tmp_path: Path, report: GateReport) -> str:
    path = tmp_path / "baseline.json"
    path.write_text(write_baseline(report.checkpoints), "utf-8")
    return str(path)


def test_a_baseline_lets_known_findings_pass(tree: Path, tmp_path: Path) -> None:
    broken = tree / "b/broken"
    known = _baseline(tmp_path, _gate(broken))
    again = _gate(broken, baseline=known)
    assert (again.exit_code, again.suppressed, again.gone) == (0, 2, ())
    # Another checkpoint with the same mistake is not known.
    new = _gate(broken, TF1 / "no-update-ops", baseline=known)
    assert [each.verdict for each in new.checkpoints] == [Verdict.PASS, Verdict.FAIL]
    # Of what was not looked at, nothing is said; of what was mended, that.
    assert _gate(tree / "a/healthy", baseline=known).gone == ()
    shutil.rmtree(broken)
    shutil.copytree(tree / "a/healthy", broken)
    healthy = _gate(broken, baseline=known)
    assert (healthy.exit_code, len(healthy.gone)) == (0, 2)
    assert healthy.gone[0].startswith("BN501 in net/bn_")


def test_a_baseline_excuses_nothing_that_got_worse(tmp_path: Path) -> None:
    place = tmp_path / "x"
    shutil.copytree(TF1 / "slightly-negative-variance", place)
    first = _gate(place)
    assert [f.level for f in first.checkpoints[0].findings] == [Level.WARNING]
    known = _baseline(tmp_path, first)
    assert _gate(place, baseline=known).suppressed == 1
    shutil.rmtree(place)
    shutil.copytree(TF1 / "negative-variance", place)
    worse = _gate(place, baseline=known)
    assert (worse.exit_code, worse.suppressed) == (1, 0)


def test_a_baseline_does_not_excuse_one_checkpoint_for_another(tmp_path: Path) -> None:
    for name, source in (("gan1", "no-update-ops"), ("gan2", "healthy")):
        shutil.copytree(TF1 / source, tmp_path / name / "x")
    paths = [tmp_path / "gan1/x", tmp_path / "gan2/x"]
    known = _baseline(tmp_path, _gate(*paths))
    assert _gate(*paths, baseline=known).exit_code == 0
    (tmp_path / "gan1/x").rename(tmp_path / "kept")
    (tmp_path / "gan2/x").rename(tmp_path / "gan1/x")
    (tmp_path / "kept").rename(tmp_path / "gan2/x")
    swapped = _gate(*paths, baseline=known)
    assert [each.verdict for each in swapped.checkpoints] == [Verdict.PASS, Verdict.FAIL]
    assert len(swapped.gone) == 2


def test_what_nobody_could_read_is_not_gone(tree: Path, tmp_path: Path) -> None:
    broken = tree / "b/broken"
    known = _baseline(tmp_path, _gate(broken))
    next(broken.glob("*.data-*")).unlink()
    report = _gate(broken, baseline=known)
    assert (report.exit_code, report.gone) == (3, ())
    again = json.loads(write_baseline(report.checkpoints, report.kept))
    assert len(again["findings"]) == 2


def test_a_baseline_holds_for_moved_directories_and_later_steps(tree: Path, tmp_path: Path) -> None:
    known = _baseline(tmp_path, _gate(tree / "b/broken/model.ckpt-60"))
    moved = tmp_path / "elsewhere" / "broken"
    shutil.copytree(tree / "b/broken", moved)
    for path in list(moved.iterdir()):
        path.rename(path.with_name(path.name.replace("-60", "-80")))
    report = _gate(moved / "model.ckpt-80", baseline=known)
    assert (report.exit_code, report.suppressed, report.gone) == (0, 2, ())
    # Each known finding excuses one: beside the one that it was written for, a copy is new.
    both = _gate(moved / "model.ckpt-80", tree / "b/broken/model.ckpt-60", baseline=known)
    assert [each.verdict for each in both.checkpoints] == [Verdict.FAIL, Verdict.PASS]


def test_a_baseline_is_kept_when_it_is_written_again(tree: Path, tmp_path: Path) -> None:
    known = _baseline(tmp_path, _gate(tree / "b/broken"))
    content = Path(known).read_text("utf-8")
    again = _gate(tree / "b/broken", baseline=known)
    assert write_baseline(again.checkpoints) == content
    assert [each["rule"] for each in json.loads(content)["findings"]] == ["BN501"] * 2


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema_version": 1}', '{"schema_version": 1, "findings": [3]}']
)
def test_what_is_no_baseline(tmp_path: Path, content: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(content)
    with pytest.raises(BncheckError, match="is no baseline of bncheck"):
        read_baseline(str(path))
    path.write_text('{"schema_version": 2, "findings": []}')
    with pytest.raises(BncheckError, match="is of version 2"):
        read_baseline(str(path))
    with pytest.raises(BncheckError, match="cannot be read"):
        read_baseline(str(tmp_path / "nowhere"))


def test_reports_keep_no_values(tree: Path) -> None:
    """A thousand checkpoints must not be in memory at the end."""
    import pickle

    report = _gate(tree, recursive=True)
    assert len(pickle.dumps(report.checkpoints[1])) < 2_000
