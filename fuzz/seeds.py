"""Where seeds come from: the small files among the fixtures, and checkpoints that fit a graph."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from bncheck.proto.graphs_pb2 import MetaGraphDef, VariableDef
from tests.graph import graphs
from tests.writers import Raw, write_bundle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "fixtures"
_MOST_VARIABLES = 24
# What a variable of three float32s may hold: ones, zeros, trained, negative, not a number, huge.
VALUES = tuple(
    b"".join(bytes.fromhex(each) for each in numbers.split())
    for numbers in (
        "0000803f 0000803f 0000803f",
        "00000000 00000000 00000000",
        "cdcccc3d 0000003f 9a99993f",
        "cdccccbd 0000003f 9a9999bf",
        "0000c07f 0000807f 9a99993f",
        "ffff7f7f 01000000 00000080",
    )
)


def small(*patterns: str, most: int = 24, longest: int = 1 << 14) -> Iterator[Path]:
    """Yield the smallest files among the fixtures that fit, no content twice."""
    paths = {path for pattern in patterns for path in FIXTURES.glob(pattern) if path.is_file()}
    seen: set[bytes] = set()
    for path in sorted(paths, key=lambda path: (path.stat().st_size, path)):
        content = path.read_bytes()
        if len(content) > longest or len(seen) == most:
            return
        if content not in seen:
            seen.add(content)
            yield path


def contents(*patterns: str, most: int = 24, longest: int = 1 << 14) -> Iterator[bytes]:
    """Yield the contents of these files."""
    return (path.read_bytes() for path in small(*patterns, most=most, longest=longest))


def small_meta_graph() -> MetaGraphDef:
    """Return a graph with a batch norm, a function and a Saver, smaller than any program's."""
    nodes = """
        net/bn/gamma = VariableV2() {dtype=type: 1; shape=shape { dim { size: 3 } }}
        net/bn/moving_mean = VarHandleOp() {shared_name=s: "net/bn/moving_mean"; dtype=type: 1}
        x = Placeholder()
        read = Identity(net/bn/gamma)
        mean = ReadVariableOp(net/bn/moving_mean)
        norm = FusedBatchNormV3(x, read, read, mean, read) {is_training=b: true; epsilon=f: 0.001}
        call = PartitionedCall(norm:1) {f=func { name: "update" }}
        update = AssignSubVariableOp(net/bn/moving_mean, call, ^norm)
        """
    function = graphs.function("update", "m", {"out": "one:output:0"}, "one = Identity(m)")
    meta = MetaGraphDef(graph_def=graphs.graph(nodes, function))
    for name in ("net/bn/gamma", "net/bn/moving_mean"):
        variable = VariableDef(variable_name=f"{name}:0", initializer_name=f"{name}/Assign")
        meta.collection_def["variables"].bytes_list.value.append(variable.SerializeToString())
    meta.collection_def["update_ops"].node_list.value.append("update")
    return meta


def write_checkpoint(prefix: Path, names: Iterable[str], **extra: Raw) -> None:
    """Write a checkpoint of variables of these names, of three numbers each, most of them there."""
    tensors: dict[str | bytes, Raw] = {}
    for name in names:
        key = name.encode("utf-8", "surrogateescape")
        mark = zlib.crc32(key)
        if key and mark % 8 and len(tensors) < _MOST_VARIABLES:
            tensors[key] = Raw(1, (3,), VALUES[mark // 8 % len(VALUES)])
    tensors[b"other"] = Raw(1, (3,), VALUES[2])
    tensors.update({name.encode(): tensor for name, tensor in extra.items()})
    write_bundle(prefix, tensors)
