"""Renames that are proposed: what each kind finds, what is ambiguous, and how long it takes."""

from __future__ import annotations

from time import perf_counter

import pytest

from bncheck.assignment.edits import parse_rename
from bncheck.assignment.renames import suggest

Shape = tuple[int, ...]
ROLES = ("gamma", "beta", "moving_mean", "moving_variance")


def _layers(pattern: str, count: int = 5, width: int | None = None) -> dict[str, Shape]:
    """Return layers of different widths, unless they all have one."""
    return {
        f"{pattern.format(i)}/{role}": (width or i + 2,) for i in range(count) for role in ROLES
    }


def _numbered(first: int, count: int, widths: list[int], scope: str = "") -> dict[str, Shape]:
    return {
        f"{scope}batch_normalization{f'_{first + i}' if first + i else ''}/{role}": (widths[i],)
        for i in range(count)
        for role in ROLES
    }


def _found(checkpoint: dict[str, Shape], graph: dict[str, Shape]) -> list[tuple[str, int]]:
    """Return what is suggested, after a check that the options do what they promise."""
    suggestions = suggest(checkpoint, graph)
    names = dict(checkpoint)
    for each in suggestions:
        assert not each.alternatives, each
        edit = parse_rename(each.edit.option)
        before = sum(graph.get(name) == shape for name, shape in names.items())
        names = {edit.apply(name): shape for name, shape in names.items()}
        after = sum(graph.get(name) == shape for name, shape in names.items())
        assert after - before == each.gains
    return [(each.description, each.gains) for each in suggestions]


def test_prefixes() -> None:
    assert _found(_layers("net/bn{}"), _layers("model/bn{}")) == [("net/ -> model/", 20)]
    assert _found(_layers("bn{}"), _layers("a/b/bn{}")) == [("no prefix -> a/b/", 20)]
    assert _found(_layers("module/bert/bn{}"), _layers("bert/bn{}")) == [
        ("module/ -> no prefix", 20)
    ]


def test_a_prefix_and_then_the_last_parts() -> None:
    checkpoint = {name.replace("moving_", ""): shape for name, shape in _layers("net/bn{}").items()}
    assert _found(checkpoint, _layers("model/bn{}")) == [
        ("net/ -> model/", 10),
        ("mean -> moving_mean", 5),
        ("variance -> moving_variance", 5),
    ]


def test_suffixes_are_dropped_and_added() -> None:
    plain = _layers("net/bn{}")
    averaged = {f"{name}/ExponentialMovingAverage": shape for name, shape in plain.items()}
    assert _found(averaged, plain) == [("/ExponentialMovingAverage dropped", 20)]
    assert _found(plain, averaged) == [("/ExponentialMovingAverage added", 20)]
    parts = {f"{name}/part_0": shape for name, shape in plain.items()}
    assert _found(parts, plain) == [("/part_0 dropped", 20)]


def test_versions_are_dropped_wherever_they_are() -> None:
    assert _found(_layers("net_v1/bn{}_v1"), _layers("net/bn{}")) == [("_v1 dropped", 20)]


def test_scopes_in_the_middle() -> None:
    assert _found(_layers("net/b{}/tower_0/bn"), _layers("net/b{}/bn")) == [
        ("tower_0/ -> no prefix", 20)
    ]
    assert _found(_layers("net/b{}/bn"), _layers("net/b{}/unit/bn")) == [("bn/ -> unit/bn/", 20)]


def test_roles_decide_between_variables_of_equal_shape() -> None:
    checkpoint = {
        name.replace("moving_mean", "running_mean").replace("moving_variance", "running_var"): shape
        for name, shape in _layers("net/bn{}", width=4).items()
    }
    assert _found(checkpoint, _layers("net/bn{}", width=4)) == [
        ("running_mean -> moving_mean", 5),
        ("running_var -> moving_variance", 5),
    ]


def test_what_tells_no_role_is_ambiguous_and_no_rival_of_what_does() -> None:
    names = {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }
    graph = _layers("net/bn{}", width=4)
    checkpoint = {f"{n.rpartition('/')[0]}/{names[n.rpartition('/')[2]]}": (4,) for n in graph}
    told = {each.description: len(each.alternatives) for each in suggest(checkpoint, graph)}
    assert told["running_mean -> moving_mean"] == told["running_var -> moving_variance"] == 0
    ambiguous = {description for description, rivals in told.items() if rivals}
    assert ambiguous == {"weight -> gamma", "weight -> beta"}


def test_what_could_be_either_is_shown_as_ambiguous() -> None:
    checkpoint = {f"bn{i}/{leaf}": (4,) for i in range(3) for leaf in ("one", "other")}
    graph = {f"bn{i}/gamma": (4,) for i in range(3)}
    (only,) = suggest(checkpoint, graph)
    assert (only.description, only.gains) == ("one -> gamma", 3)
    assert [description for description, _ in only.alternatives] == ["other -> gamma"]


def test_shapes_must_be_equal_and_one_variable_is_chance() -> None:
    assert suggest({"a/bn/gamma": (3,), "a/bn/beta": (3,)}, {"b/bn/gamma": (4,)}) == []
    assert suggest({"a/w": (3,)}, {"b/w": (3,)}) == []
    assert suggest({"a/w": (3,), "a/v": (3,)}, {"b/w": None, "b/v": None}) == []


def test_what_would_break_as_much_as_it_mends_is_not_proposed() -> None:
    matched = {f"net/{i}/bias": (1,) for i in range(9)}
    checkpoint = {"net/bn_a/bias": (4,), "net/bn_b/bias": (4,), **matched}
    graph = {"net/bn_a/beta": (4,), "net/bn_b/beta": (4,), **matched}
    assert suggest(checkpoint, graph) == []


@pytest.mark.parametrize("offset", [1, 2, 7, -2])
def test_a_shift_of_numbers_is_one_rename(offset: int) -> None:
    widths = [8, 16, 16, 32, 8, 64]
    first = max(-offset, 0)
    checkpoint, graph = _numbered(first, 6, widths), _numbered(first + offset, 6, widths)
    matching = sum(graph.get(name) == shape for name, shape in checkpoint.items())
    found = _found(checkpoint, graph)
    assert found == [(f"batch_normalization_N -> batch_normalization_N{offset:+d}", 24 - matching)]


def test_a_shift_of_layers_that_match_by_name_and_mean_others() -> None:
    widths = [8] * 6
    # Four of six match by name, all of them wrongly.
    assert _found(_numbered(0, 6, widths), _numbered(2, 6, widths)) == [
        ("batch_normalization_N -> batch_normalization_N+2", 8)
    ]


def test_a_shift_is_found_by_the_shapes_where_both_ends_have_others() -> None:
    widths = [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    checkpoint, graph = _numbered(0, 12, widths), _numbered(20, 5, widths[5:])
    assert _found(checkpoint, graph) == [("batch_normalization_N -> batch_normalization_N+15", 20)]


def test_a_shift_that_several_offsets_explain_is_ambiguous() -> None:
    (only,) = suggest(_numbered(0, 6, [8] * 6), _numbered(7, 5, [8] * 5))
    assert only.gains == 20
    assert only.description == "batch_normalization_N -> batch_normalization_N+6"
    assert [description for description, _ in only.alternatives] == [
        "batch_normalization_N -> batch_normalization_N+7"
    ]


def test_a_subset_that_matches_by_name_is_no_shift() -> None:
    assert suggest(_numbered(0, 6, [8] * 6), _numbered(2, 3, [8] * 3)) == []


@pytest.mark.parametrize("name", ["a{1+2}", "x\\y", "a=b", "(", "\n", "a" * 10_000, "/" * 5_000])
def test_hostile_names_propose_nothing_that_fails(name: str) -> None:
    checkpoint = {f"{name}/{i}/gamma": (3,) for i in range(3)}
    graph = {f"b{name}/{i}/gamma": (3,) for i in range(3)}
    for each in suggest(checkpoint, graph):
        parsed = parse_rename(each.edit.option)
        assert {parsed.apply(source) for source in checkpoint} == graph.keys()


def _seconds(count: int) -> float:
    checkpoint = _layers("net/block/unit{}/bn", count, width=64)
    graph = _layers("model/block/unit{}/bn", count, width=64)
    start = perf_counter()
    assert len(suggest(checkpoint, graph)) == 1
    return perf_counter() - start


def test_the_time_grows_with_the_names_and_not_with_their_square() -> None:
    small = min(_seconds(500) for _ in range(3))
    large = min(_seconds(5_000) for _ in range(2))
    assert large < 50 * small
