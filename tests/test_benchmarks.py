"""The benchmarks' arithmetic, on made-up runs, and one real run without TensorFlow."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as runner
from benchmarks import tables
from benchmarks.cases import BNCHECK, CASES, TENSORFLOW, Case, Command
from benchmarks.measure import CommandFailedError, bytes_read, count_reads, run
from benchmarks.results import BATCH_NORM, Goal, Measured, Metric, Sample
from tests.commands import FIXTURES, ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

_OWN = "bncheck / batch norm's own, read from data files: at most 1.1"
NOTHING = Command("nothing", (sys.executable, "-c", "pass"))
INSPECT = Command(
    BNCHECK, (sys.executable, "-m", "bncheck", "inspect", "tf1/no-update-ops"), exit_code=1
)


def _measured(ours: Sequence[float], theirs: Sequence[float], read: int | None = 110) -> Measured:
    runs = {
        BNCHECK: [Sample(wall, 2 * wall, 20_000_000) for wall in ours],
        TENSORFLOW: [Sample(wall, 4 * wall, 500_000_000) for wall in theirs],
    }
    return Measured(runs, {BNCHECK: read, TENSORFLOW: None}, batch_norm_bytes=100)


def test_medians_are_of_each_command() -> None:
    measured = _measured([1, 9, 2], [30, 10, 20])
    assert measured.median(BNCHECK, Metric.WALL) == 2
    assert measured.median(TENSORFLOW, Metric.CPU) == 80
    assert measured.median(BNCHECK, Metric.PEAK) == 20_000_000
    assert measured.median(BNCHECK, Metric.READ) == 110
    assert measured.median(TENSORFLOW, Metric.READ) is None


def test_ratios_are_medians_of_the_rounds() -> None:
    # The medians themselves are as 2 to 20; the rounds are 1 to 2, 1 to 4 and 1 to 5.
    measured = _measured([10, 1, 2], [20, 4, 10])
    assert measured.ratio(BNCHECK, TENSORFLOW, Metric.WALL) == 1 / 4
    assert measured.ratio(BNCHECK, TENSORFLOW, Metric.CPU) == 1 / 8
    assert measured.ratio(BNCHECK, TENSORFLOW, Metric.PEAK) == 1 / 25
    assert measured.ratio(BNCHECK, TENSORFLOW, Metric.READ) is None
    assert measured.ratio(BNCHECK, BATCH_NORM, Metric.READ) == 1.1


def test_unequal_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        _measured([1], [1, 2]).ratio(BNCHECK, TENSORFLOW, Metric.WALL)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal(Metric.WALL, BNCHECK, 1 / 10, to=TENSORFLOW), True),
        (Goal(Metric.WALL, BNCHECK, 1 / 11, to=TENSORFLOW), False),
        (Goal(Metric.PEAK, BNCHECK, 20_000_000), True),
        (Goal(Metric.PEAK, BNCHECK, 19_999_999), False),
        (Goal(Metric.READ, BNCHECK, 1.1, to=BATCH_NORM), True),
        (Goal(Metric.READ, BNCHECK, 1.09, to=BATCH_NORM), False),
        (Goal(Metric.READ, BNCHECK, 1, to=TENSORFLOW), None),
    ],
)
def test_goals(goal: Goal, met: bool | None) -> None:
    assert _measured([1, 1, 1], [10, 10, 10]).meets(goal) is met


def _case(*goals: Goal, commands: tuple[Command, ...] = ()) -> Case:
    commands = commands or (Command(BNCHECK, ()), Command(TENSORFLOW, ()))
    return Case("made-up", "made up", (), commands, goals)


def test_table_of_medians() -> None:
    table = tables.medians([(_case(), _measured([0.1], [2]))])
    assert table.markdown() == (
        "| | | wall | CPU | peak memory | read from data files |\n"
        "| --- | --- | ---: | ---: | ---: | ---: |\n"
        "| made up | bncheck | 0.100 s | 0.200 s | 20 MB | 0.11 kB |\n"
        "| | TensorFlow | 2 s | 8 s | 500 MB | |\n"
        "| | bncheck / TensorFlow | 1/20 | 1/40 | 1/25 | |\n"
    )


def test_table_of_goals() -> None:
    case = _case(
        Goal(Metric.WALL, BNCHECK, 1 / 15, to=TENSORFLOW),
        Goal(Metric.PEAK, BNCHECK, 19e6),
        Goal(Metric.READ, BNCHECK, 1.1, to=BATCH_NORM),
    )
    table = tables.goals([(case, _measured([0.1], [2], read=None))])
    assert [list(row) for row in table.rows] == [
        ["made up", "bncheck / TensorFlow, wall: at most 1/15", "1/20", "met"],
        ["", "bncheck, peak memory: at most 19 MB", "20 MB", "missed"],
        ["", _OWN, "not measured", "not measured"],
    ]


def test_block_replaces_what_is_between_the_markers() -> None:
    text = "a\n<!-- here -->\nold\n<!-- /here -->\nb\n"
    new = tables.between_markers(text, "here", "new\n")
    assert new == "a\n<!-- here -->\n\nnew\n\n<!-- /here -->\nb\n"
    assert tables.between_markers(new, "here", "new\n") == new
    with pytest.raises(ValueError, match="not one"):
        tables.between_markers(text, "there", "new\n")


def test_both_files_have_their_markers() -> None:
    for path, marker in (("README.md", "benchmarks"), ("benchmarks/README.md", "results")):
        text = (ROOT / path).read_text("utf-8")
        assert "new" in tables.between_markers(text, marker, "new\n")


def test_reads_are_those_of_data_files_below_the_directory() -> None:
    data = "/d/a/model.ckpt-1.data-00000-of-00002"
    lines = [
        f'pread64(3<{data}>, ""..., 256, 512) = 256',
        f'read(3<{data}>, ""..., 64) = 64',
        f'readv(3<{data}>, [{{iov_base=""..., iov_len=9}}], 1) = 9',
        f'read(3<{data}>, "", 64) = 0',
        f"read(3<{data}>, 0x7f0, 64) = -1 EIO (Input/output error)",
        'read(4</d/a/model.ckpt-1.index>, ""..., 48) = 48',
        'read(4</elsewhere/model.ckpt-1.data-00000-of-00001>, ""..., 48) = 48',
        "mmap(NULL, 64, PROT_READ, MAP_PRIVATE, 4</d/a/model.ckpt-1.index>, 0) = 0x7f",
        "mmap(NULL, 64, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f",
    ]
    assert bytes_read(lines, Path("/d")) == 256 + 64 + 9
    mapped = f"mmap(NULL, 64, PROT_READ, MAP_SHARED, 3<{data}>, 0) = 0x7f"
    assert bytes_read([*lines, mapped], Path("/d")) is None


def test_a_real_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    case = _case(commands=(INSPECT, NOTHING))
    measured = runner.measure(case, FIXTURES, 1, None)
    assert [len(runs) for runs in measured.runs.values()] == [1, 1]
    ratio = {metric: measured.ratio(BNCHECK, "nothing", metric) for metric in Metric}
    assert all((ratio[metric] or 0) > 1 for metric in (Metric.WALL, Metric.CPU, Metric.PEAK))
    # An interpreter that does nothing holds some 10 MB; what started it is not to be counted.
    assert 4e6 < (measured.median("nothing", Metric.PEAK) or 0) < 20e6
    assert measured.read["nothing"] in (0, None)  # None: strace is not there


def test_reads_of_a_real_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nothing = count_reads(NOTHING, FIXTURES)
    if nothing is None:
        pytest.skip("strace is not there, or forbidden")
    # Layers of 6 and 8 channels, four variables each, and the global step.
    assert count_reads(INSPECT, FIXTURES) == (6 + 8) * 4 * 4 + 8


def test_another_exit_code_stops() -> None:
    broken = Command("broken", (sys.executable, "-c", "raise SystemExit('so it is')"))
    with pytest.raises(CommandFailedError, match=r"exit code 1, not 0\nso it is"):
        run(broken, FIXTURES)


def test_a_case_of_an_unknown_command_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(BNCHECK, (sys.executable, "-m", "bncheck", "no-such-command", "x"))
    monkeypatch.setattr(runner, "CASES", CASES | {"verify": _case(commands=(command,))})
    monkeypatch.setattr(runner, "_compile", lambda _: None)
    done = CliRunner().invoke(runner.main, ["verify", "--data", str(tmp_path)])
    assert done.exit_code == 0
    assert "this bncheck has no command no-such-command" in done.output


def _pretend(monkeypatch: pytest.MonkeyPatch, data: Path, at_most: float) -> None:
    """Let all cases be one, whose data is there, and whose runs are made up."""
    goal = Goal(Metric.WALL, BNCHECK, at_most, to=TENSORFLOW)
    case = Case("small", "made up", ("small",), _case().commands, (goal,))
    monkeypatch.setattr(runner, "CASES", {"small": case})
    monkeypatch.setattr(runner, "_compile", lambda _: None)
    monkeypatch.setattr(runner, "measure", lambda *_: _measured([0.1], [2]))
    (data / "small").mkdir(parents=True, exist_ok=True)
    (data / "small/facts.json").write_text(json.dumps({"batch_norm_bytes": 100}), "utf-8")


def test_exit_code_tells_of_a_missed_goal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["small", "--data", str(tmp_path), "--markdown"]
    for at_most, code in ((1 / 15, 0), (1 / 25, 1)):
        _pretend(monkeypatch, tmp_path, at_most)
        done = CliRunner().invoke(runner.main, arguments)
        assert "| | bncheck / TensorFlow | 1/20 |" in done.output
        assert done.exit_code == code


def test_a_failed_command_hides_nothing_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, tmp_path, 1 / 15)
    broken = Case("broken", "broken", ("small",), ())
    monkeypatch.setattr(runner, "CASES", {"broken": broken, **runner.CASES})
    monkeypatch.setattr(runner, "_HERE", tmp_path / "no markers here")

    def measure(case: Case, *_: object) -> Measured:
        if case.name == "broken":
            raise CommandFailedError("so it is")
        return _measured([0.1], [2])

    monkeypatch.setattr(runner, "measure", measure)
    done = CliRunner().invoke(runner.main, ["--data", str(tmp_path), "--markdown", "--write"])
    assert done.exit_code == 2
    assert "failed broken: so it is" in done.output
    assert "| | bncheck / TensorFlow | 1/20 |" in done.output


def test_write_fills_both_files_and_discard_deletes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, marker in (("README.md", "benchmarks"), ("benchmarks/README.md", "results")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = f"before\n<!-- {marker} -->\n<!-- /{marker} -->\nafter\n"
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.setattr(runner, "_HERE", tmp_path / "benchmarks")
    _pretend(monkeypatch, tmp_path / "data", 1 / 15)
    arguments = ["--data", str(tmp_path / "data"), "--runs", "3", "--write", "--discard"]
    assert CliRunner().invoke(runner.main, arguments).exit_code == 0
    figures = (tmp_path / "README.md").read_text("utf-8")
    assert re.search(r"^20\d\d-\d\d-\d\d, .* cores, .*; medians of 3 runs$", figures, re.M)
    assert "| made up | bncheck | 0.100 s |" in figures
    goals = (tmp_path / "benchmarks/README.md").read_text("utf-8")
    assert "| bncheck / TensorFlow, wall: at most 1/15 | 1/20 | met |" in goals
    assert not (tmp_path / "data/small").exists()


def test_goals_and_ratios_name_commands_of_their_case() -> None:
    for case in CASES.values():
        names = [command.name for command in case.commands]
        assert len(set(names)) == len(names)
        named = {name for pair in case.ratios for name in pair}
        named |= {name for goal in case.goals for name in (goal.of, goal.to or goal.of)}
        assert named <= {*names, BATCH_NORM}
