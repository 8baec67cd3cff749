"""The picture of a run: what must be in it, and that nothing breaks it."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest

from bncheck.history.pipeline import HistoryOptions, history
from bncheck.report.history_drift import distances, divergences, layer_names, positions
from tests.commands import FIXTURES, bncheck

if TYPE_CHECKING:
    from bncheck.report.history_model import HistoryReport

pytest.importorskip("matplotlib")

RUNS = FIXTURES / "runs"


def _report(name: str) -> HistoryReport:
    return history(RUNS / name, HistoryOptions(jobs=1))


def _texts(path: Path) -> list[str]:
    root = ElementTree.parse(path).getroot()  # noqa: S314 - bncheck's own file
    return [
        "".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")
    ]


def _draw(report: HistoryReport, path: Path) -> None:
    from bncheck.report.history_plot import draw

    draw(report, str(path))


def test_a_png_of_its_size(tmp_path: Path) -> None:
    path = tmp_path / "run.png"
    _draw(_report("tf1-nan"), path)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (1200, 900)


def test_the_svg_names_what_was_found_and_where(tmp_path: Path) -> None:
    path = tmp_path / "run.svg"
    _draw(_report("tf1-nan"), path)
    texts = _texts(path)
    assert "error BN301 non-finite-values, step 60 to step 80: all 3 layers" in texts
    assert "FAIL: 3 errors, 0 warnings, 0 notes, 7 checkpoints, 3 layers" in texts
    for layer in ("net/bn_1", "net/bn_2", "net/bn_3"):
        assert texts.count(f"{layer} BN301") == 3  # once in each panel
    assert any(text.endswith("runs/tf1-nan") for text in texts)


def test_a_healthy_run_has_no_finding_in_it(tmp_path: Path) -> None:
    path = tmp_path / "run.svg"
    _draw(_report("tf1-healthy"), path)
    assert not [text for text in _texts(path) if "BN" in text]
    assert "PASS: 0 errors, 0 warnings, 0 notes, 7 checkpoints, 3 layers" in _texts(path)


def test_two_drawings_are_the_same_bytes(tmp_path: Path) -> None:
    report = _report("tf1-reset")
    for name in ("a.svg", "b.svg"):
        _draw(report, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", ["run.pdf", "run", "run.svgz"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a plot is a \.png or an \.svg file"):
        _draw(_report("tf1-partitioned"), tmp_path / name)


def _renamed(report: HistoryReport, names: dict[str, str]) -> HistoryReport:
    def rename(mapping: Any) -> Any:
        return {names.get(key, key): value for key, value in mapping.items()}

    points = tuple(
        replace(p, layers=rename(p.layers), spans=rename(p.spans)) for p in report.points
    )
    findings = tuple(replace(f, layer=names.get(f.layer, f.layer)) for f in report.findings)
    return replace(report, points=points, layers=rename(report.layers), findings=findings)


@pytest.mark.parametrize(
    "name",
    ["<b>&amp;</b>", "$\\frac{1}$", "a\nb\x1b[31m", "🔥net", "‮net", "x" * 10_000, "]]>", ""],
)
def test_a_name_may_be_anything(name: str, tmp_path: Path) -> None:
    report = _renamed(_report("tf1-nan"), {"net/bn_2": name})
    report = replace(report, paths=(name,))
    for ending in ("svg", "png"):
        _draw(report, tmp_path / f"run.{ending}")
    texts = _texts(tmp_path / "run.svg")
    assert not [text for text in texts if "\x1b" in text or "‮" in text or len(text) > 300]
    shown = {"<b>&amp;</b>": "<b>&amp;</b> BN301", "$\\frac{1}$": "$\\frac{1}$ BN301"}
    if name in shown:
        assert shown[name] in texts


def test_one_checkpoint_and_no_layers(tmp_path: Path) -> None:
    report = _report("tf1-partitioned")
    _draw(replace(report, points=report.points[:1]), tmp_path / "one.svg")
    assert "net/bn_1" in " ".join(_texts(tmp_path / "one.svg"))
    bare = replace(report.points[0], layers={}, spans={}, vectors=np.zeros((2, 0), np.float32))
    _draw(replace(report, points=(bare, bare), layers={}), tmp_path / "none.svg")
    assert any("0 layers" in text for text in _texts(tmp_path / "none.svg"))


def test_a_drifting_layer_is_named_among_many_findings(tmp_path: Path) -> None:
    report = _report("tf1-nan")
    start = report.points[3]
    names = [f"net/bn_{number}" for number in range(40)]
    size = 6
    points = []
    for number in range(9):
        vectors = np.ones((2, size * len(names)), np.float32)
        vectors[0, -size:] = number  # the last layer moves by a standard deviation each time
        layers = {name: start.layers["net/bn_1"]._replace(divergence=0.0) for name in names}
        spans = {name: slice(at * size, (at + 1) * size) for at, name in enumerate(names)}
        points.append(replace(start, step=number * 10, layers=layers, spans=spans, vectors=vectors))
    findings = tuple(replace(report.findings[0], layer=name) for name in names[:30])
    report = replace(
        report, points=tuple(points), findings=findings, spans=report.spans[:1] * len(findings)
    )
    _draw(report, tmp_path / "run.svg")
    texts = _texts(tmp_path / "run.svg")
    assert texts.count("net/bn_39") == 3
    assert sum(text.endswith(" BN301") for text in texts) == 3 * 5
    assert "error BN301 non-finite-values, step 30 to step 40: 30 layers" in texts
    assert {"25 other layers with findings", "9 other layers"} <= set(texts)


def test_equal_steps_stay_apart_and_say_so(tmp_path: Path) -> None:
    report = _report("tf1-healthy")
    points = tuple(replace(point, step=60) for point in report.points)
    _draw(replace(report, points=points), tmp_path / "run.svg")
    texts = _texts(tmp_path / "run.svg")
    assert texts.count("60") == len(points)
    assert "step (not to scale)" in texts
    points = tuple(replace(point, step=None) for point in points)
    _draw(replace(report, points=points), tmp_path / "run.svg")
    assert {*"1234567", "number of the checkpoint"} <= set(_texts(tmp_path / "run.svg"))


def test_settings_are_neither_used_nor_changed(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = mpl.rcParams.copy()  # dict() would import pyplot to find a backend
    with mpl.rc_context({"text.usetex": True, "font.size": 30}):
        _draw(_report("tf1-nan"), tmp_path / "a.svg")
    _draw(_report("tf1-nan"), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert mpl.rcParams.copy() == before


def test_distances_are_from_the_last_finite_values() -> None:
    points = _report("tf1-nan").points
    names = layer_names(points)
    assert names == ["net/bn_1", "net/bn_2", "net/bn_3"]
    found = distances(points, names)
    assert found.shape == (2, 7, 3)
    assert np.isnan(found[:, 4:]).all()
    assert (found[:, 3] == 0).all()
    old, last = (points[n].vectors[:, points[n].spans["net/bn_2"]].astype(float) for n in (1, 3))
    shift = np.sqrt((((old[0] - last[0]) / np.sqrt(last[1])) ** 2).mean())
    ratio = np.sqrt((np.log(old[1] / last[1]) ** 2).mean())
    assert found[:, 1, 1] == pytest.approx((shift, ratio), rel=1e-6)


def test_divergences_and_damage() -> None:
    points = _report("tf1-nan").points
    values, damaged = divergences(points, layer_names(points))
    assert values.shape == damaged.shape == (3, 6)
    assert values[0, 0] == points[1].layers["net/bn_1"].divergence
    assert damaged.tolist() == [[False] * 3 + [True] * 3] * 3


def test_positions_are_steps_where_steps_can_be_told_apart() -> None:
    points = _report("tf1-healthy").points
    assert positions(points) == (pytest.approx(range(0, 121, 20)), True)
    same = [replace(point, step=60) for point in points]
    assert positions(same) == (pytest.approx(range(7)), False)
    unknown = [replace(point, step=None) for point in points]
    assert positions(unknown) == (pytest.approx(range(7)), False)


def test_the_command_draws_beside_its_report(tmp_path: Path) -> None:
    target = tmp_path / "run.svg"
    outcome = bncheck("history", "tf1-nan", "--plot", str(target), cwd=RUNS)
    assert (outcome.code, outcome.err) == (1, "")
    assert "BN301" in outcome.out
    assert "error BN301 non-finite-values, step 60 to step 80: all 3 layers" in _texts(target)
    refused = bncheck("history", "tf1-nan", "--plot", str(tmp_path / "no" / "x.png"), cwd=RUNS)
    assert refused.code == 2
    assert "cannot write" in refused.err


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.commands import bncheck_here

    for name in [each for each in sys.modules if each.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = bncheck_here("history", "tf1-nan", "--plot", str(tmp_path / "x.png"), cwd=RUNS)
    assert outcome.code == 2
    assert "pip install 'bncheck[plot]'" in outcome.err
