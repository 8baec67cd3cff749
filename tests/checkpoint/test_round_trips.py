"""Any table, bundle, V1 checkpoint, string tensor and object graph is read as it was written.

The writers are the tests' own and share no code with the readers; TensorFlow reads what they write.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bncheck.checkpoint import open_checkpoint
from bncheck.checkpoint.files import RegularFile
from bncheck.checkpoint.table import Table
from tests.writers import write_bundle, write_table, write_v1
from tests.writers.objects import VALUE, Obj, Var, build, write_objects

NAMES = st.one_of(
    st.text(st.characters(min_codepoint=1, exclude_categories=("Cs",)), min_size=1, max_size=12),
    st.lists(st.sampled_from(["a", "bn", "gamma", "x_1", "."]), min_size=1, max_size=4).map(
        "/".join
    ),
).map(str.encode)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NUMBERS = st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "bool", "float16"])
STRINGS = arrays.arrays(object, SHAPES, elements=st.binary(max_size=300), fill=st.nothing())
TENSORS = st.dictionaries(
    NAMES,
    st.one_of(NUMBERS.flatmap(lambda dtype: arrays.arrays(dtype, SHAPES)), STRINGS),
    min_size=1,
    max_size=8,
)
TABLE_OPTIONS = {
    "block_size": st.sampled_from([1, 20, 300, 1 << 18]),
    "restart_interval": st.integers(1, 20),
    "snappy": st.booleans(),
}
QUICK = settings(max_examples=80, deadline=None)
WITH_TENSORFLOW = settings(max_examples=40, deadline=None)


def same(got: Any, want: np.ndarray) -> bool:
    """Whether two tensors are equal to the bit."""
    if want.dtype.kind == "O":
        # A scalar comes as bytes, whose zeros at the end NumPy's own string type would drop.
        strings = np.asarray(got, object)
        return strings.shape == want.shape and strings.tolist() == want.tolist()
    found = np.asarray(got)
    return (found.dtype, found.shape, found.tobytes()) == (want.dtype, want.shape, want.tobytes())


def check(path: Path, tensors: dict[bytes, np.ndarray]) -> None:
    checkpoint = open_checkpoint(str(path))
    assert {name.encode("utf-8", "surrogateescape") for name in checkpoint.variables} == set(
        tensors
    )
    values = checkpoint.read(checkpoint.variables)
    assert values.unread == {}
    assert checkpoint.damaged_files() == {}
    for name, array in tensors.items():
        assert same(values.arrays[name.decode()], array)


@QUICK
@given(
    st.dictionaries(st.binary(max_size=40), st.binary(max_size=60), max_size=60),
    st.fixed_dictionaries(TABLE_OPTIONS),
    st.lists(st.binary(max_size=3), max_size=5),
)
def test_tables(items: dict[bytes, bytes], options: dict[str, Any], others: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_table(Path(folder) / "t", sorted(items.items()), **options)
        with RegularFile(str(path)) as file:
            table = Table(file)
            assert list(table.scan()) == sorted(items.items())
            assert table.first() == min(items.items(), default=None)
            asked = [*others, *list(items)[::2]]
            assert dict(table.find(asked)) == {key: items[key] for key in asked if key in items}


BUNDLE_OPTIONS = st.fixed_dictionaries(
    TABLE_OPTIONS
    | {
        "shards": st.integers(1, 4),
        "endianness": st.sampled_from(["little", "big"]),
        "alignment": st.sampled_from([1, 8, 64]),
    }
)


@QUICK
@given(TENSORS, BUNDLE_OPTIONS)
def test_bundles(tensors: dict[bytes, np.ndarray], options: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "m", tensors, **options)
        check(Path(folder) / "m", tensors)


V1_OPTIONS = st.fixed_dictionaries(
    TABLE_OPTIONS | {"shards": st.sampled_from([None, 1, 3]), "packed": st.booleans()}
)


@QUICK
@given(TENSORS, V1_OPTIONS)
def test_v1(tensors: dict[bytes, np.ndarray], options: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_v1(Path(folder) / "m", tensors, **options)
        check(Path(folder) / "m", tensors)


@st.composite
def partitioned(draw: st.DrawFn) -> tuple[np.ndarray, list[Any]]:
    """Return a matrix and a grid of slices over it, whole dimensions spelled out or not."""
    rows, columns = (draw(st.integers(1, 6)) for _ in range(2))
    array = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns) + 0.5
    cuts = [
        [0, *sorted(draw(st.sets(st.integers(1, size - 1))) if size > 1 else ()), size]
        for size in (rows, columns)
    ]
    boxes = []
    for top, bottom in zip(cuts[0], cuts[0][1:], strict=False):
        for left, right in zip(cuts[1], cuts[1][1:], strict=False):
            lengths: list[int | None] = [bottom - top, right - left]
            for place, size in enumerate((rows, columns)):
                if lengths[place] == size and draw(st.booleans()):
                    lengths[place] = None
            boxes.append(([top, left], lengths))
    return array, draw(st.permutations(boxes))


@QUICK
@given(partitioned(), st.integers(1, 3), st.sampled_from([1, 1 << 18]))
def test_slices(case: tuple[np.ndarray, list[Any]], shards: int, block_size: int) -> None:
    array, boxes = case
    with tempfile.TemporaryDirectory() as folder:
        two, one = Path(folder) / "two", Path(folder) / "one"
        write_bundle(two, {"w": array}, partitions={"w": boxes}, shards=shards)
        check(two, {b"w": array})
        write_v1(one, {"w": array}, slices={"w": boxes}, shards=shards, block_size=block_size)
        check(one, {b"w": array})


ATTRIBUTES = st.sampled_from(["gamma", "moving_mean", "kernel", "v", "a.b", "a/b", ".S", "x y"])


@st.composite
def objects(draw: st.DrawFn) -> Obj:
    """Return a tree of objects with variables, and edges back to any of them."""
    root = Obj()
    known = [root]
    for number in range(draw(st.integers(1, 6))):
        owner = draw(st.sampled_from(known))
        child = Obj()
        owner.children[f"{draw(ATTRIBUTES)}{number}"] = child
        known.append(child)
        for name in draw(st.sets(ATTRIBUTES, max_size=3)):
            child.children[name] = Var(np.full(3, number, np.float32), f"scope_{number}/{name}")
    for number in range(draw(st.integers(0, 3))):
        back = draw(st.sampled_from(known))
        draw(st.sampled_from(known)).children[f"back{number}"] = back
    return root


@QUICK
@given(objects())
def test_object_graphs(root: Obj) -> None:
    graph, tensors = build(root)
    with tempfile.TemporaryDirectory() as folder:
        opened = open_checkpoint(write_objects(Path(folder) / "m", root))
    assert set(opened.variables) - {"_CHECKPOINTABLE_OBJECT_GRAPH"} == set(tensors)
    structure = opened.structure
    if not tensors:
        return
    assert structure.problem == ""
    told = {a.checkpoint_key: a.full_name for node in graph.nodes for a in node.attributes}
    assert {key: structure.full_names[key] for key in told} == told
    stored = [dict(each.attributes) for each in structure.objects]
    for thing in all_objects(root):
        own = {
            name: next(key for key, value in tensors.items() if value is child.value)
            for name, child in thing.children.items()
            if isinstance(child, Var)
        }
        assert not own or own in stored
    assert all(key.endswith(VALUE) for each in stored for key in each.values())


def all_objects(root: Obj) -> list[Obj]:
    found = [root]
    for thing in found:  # grows while it is walked
        for child in thing.children.values():
            if isinstance(child, Obj) and not any(child is each for each in found):
                found.append(child)
    return found


def tensorflow_reads(tf: Any, path: str, tensors: dict[bytes, np.ndarray]) -> None:
    for name, array in tensors.items():
        dtype = tf.string if array.dtype.kind == "O" else tf.as_dtype(array.dtype)
        (got,) = tf.raw_ops.RestoreV2(
            prefix=path, tensor_names=[name], shape_and_slices=[""], dtypes=[dtype]
        )
        assert same(got.numpy(), array)


@pytest.mark.tensorflow
@WITH_TENSORFLOW
@given(tensors=TENSORS, options=BUNDLE_OPTIONS)
def test_tensorflow_reads_any_bundle(
    tf: Any, tensors: dict[bytes, np.ndarray], options: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "m", tensors, **options)
        tensorflow_reads(tf, f"{folder}/m", tensors)


@pytest.mark.tensorflow
@WITH_TENSORFLOW
@given(tensors=TENSORS, options=V1_OPTIONS)
def test_tensorflow_reads_any_v1(
    tf: Any, tensors: dict[bytes, np.ndarray], options: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_v1(Path(folder) / "m", tensors, **options)
        shards = options["shards"]
        pattern = f"{folder}/m" if shards is None else f"{folder}/m-?????-of-{shards:05d}"
        for name, array in tensors.items():
            dtype = tf.string if array.dtype.kind == "O" else tf.as_dtype(array.dtype)
            got = tf.raw_ops.Restore(file_pattern=pattern, tensor_name=name, dt=dtype)
            assert same(got.numpy(), array)


@pytest.mark.tensorflow
@WITH_TENSORFLOW
@given(case=partitioned(), shards=st.integers(1, 3))
def test_tensorflow_reads_any_slices(
    tf: Any, case: tuple[np.ndarray, list[Any]], shards: int
) -> None:
    array, boxes = case
    # No program writes a variable as one slice of all of it, and TensorFlow does not read that.
    assume(len(boxes) > 1)
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "m", {"w": array}, partitions={"w": boxes}, shards=shards)
        assert same(tf.train.load_checkpoint(f"{folder}/m").get_tensor("w"), array)


@pytest.mark.tensorflow
@WITH_TENSORFLOW
@given(root=objects())
def test_tensorflow_reads_any_object_graph(tf: Any, root: Obj) -> None:
    """A restore by TensorFlow's own objects finds each variable along the same edges."""
    _, tensors = build(root)
    with tempfile.TemporaryDirectory() as folder:
        path = write_objects(Path(folder) / "m", root)
        made: dict[int, Any] = {}
        variables: list[tuple[Any, Any]] = []

        def mirror(thing: Obj) -> Any:
            if id(thing) in made:
                return made[id(thing)]
            made[id(thing)] = mirrored = tf.train.Checkpoint()
            for name, child in thing.children.items():
                if isinstance(child, Obj):
                    mirrored._track_trackable(mirror(child), name)
                else:
                    variable = tf.Variable(tf.zeros(3))
                    mirrored._track_trackable(variable, name)
                    variables.append((variable, child.value))
            return mirrored

        mirror(root).read(path).expect_partial()
        assert len(variables) == len(tensors)
        for variable, value in variables:
            assert same(variable.numpy(), value)
