"""What is measured: each case's data, its commands, which run in turn, and its goals."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import BATCH_NORM, Goal, Metric

_HERE = Path(__file__).parent
_PREFIX = "model.ckpt-1000"
_MB = 1_000_000
BNCHECK, TENSORFLOW = "bncheck", "TensorFlow"
_RAW = "raw CRC32C"


@dataclass(frozen=True)
class Command:
    """A command line, which runs in the directory of the datasets; its name is a table's row."""

    name: str
    arguments: tuple[str, ...]
    exit_code: int = 0


@dataclass(frozen=True)
class Case:
    """Commands that run in turn, the datasets they need, and the ratios that the table shows."""

    name: str
    title: str
    datasets: tuple[str, ...]
    commands: tuple[Command, ...]
    goals: tuple[Goal, ...] = ()
    ratios: tuple[tuple[str, str], ...] = ((BNCHECK, TENSORFLOW),)


def directory_of(dataset: str) -> str:
    """Return the directory's name of a dataset as `make_data.py` calls it."""
    return dataset.replace(":", "-")


def _bncheck(command: str, *arguments: str, name: str = BNCHECK) -> Command:
    return Command(name, (sys.executable, "-m", "bncheck", command, *arguments))


def _tensorflow(what: str, path: str, name: str = TENSORFLOW) -> Command:
    return Command(name, (sys.executable, str(_HERE / "tensorflow_side.py"), what, path))


def _raw(*files: str) -> Command:
    return Command(_RAW, (sys.executable, str(_HERE / "raw_crc32c.py"), *files))


def _against_tensorflow(metric: Metric, at_most: float, of: str = BNCHECK) -> Goal:
    return Goal(metric, of, at_most, to=TENSORFLOW)


def _values(dataset: str) -> tuple[Command, Command]:
    path = f"{dataset}/{_PREFIX}"
    return _bncheck("inspect", path), _tensorflow("values", path)


_OWN_BYTES = Goal(Metric.READ, BNCHECK, 1.1, to=BATCH_NORM)
_SMALL_GOALS = (
    _against_tensorflow(Metric.WALL, 1 / 15),
    _against_tensorflow(Metric.PEAK, 1 / 8),
    _OWN_BYTES,
)
_IMPORTS = Command("imports", (sys.executable, "-c", "import click, rich.console, numpy"))
_LAYERS_DATA = f"layers/{_PREFIX}.data-00000-of-00001"
_WITHOUT_GRAPH = "bncheck --no-graph"
_SORTED = "TensorFlow, sorted"

_COMPARISONS = (
    Case(
        "small",
        "small checkpoint: 5 layers of 64 channels",
        ("small",),
        (_bncheck("inspect", f"small/{_PREFIX}"), _IMPORTS, _values("small")[1]),
        (*_SMALL_GOALS, Goal(Metric.WALL, BNCHECK, 1.6, to=_IMPORTS.name)),
        ratios=((BNCHECK, TENSORFLOW), (BNCHECK, _IMPORTS.name)),
    ),
    Case(
        "small-graph",
        "the same from a training of TensorFlow 1, with its `.meta`",
        ("small-graph",),
        (
            _bncheck("inspect", f"small-graph/{_PREFIX}"),
            _tensorflow("graph", f"small-graph/{_PREFIX}"),
        ),
        _SMALL_GOALS,
    ),
    Case(
        "layers",
        "20,000 layers of 64 channels in 2 GiB",
        ("layers",),
        (
            *_values("layers"),
            _tensorflow("sorted-values", f"layers/{_PREFIX}", name=_SORTED),
        ),
        (
            _against_tensorflow(Metric.WALL, 1 / 10),
            Goal(Metric.PEAK, BNCHECK, 300 * _MB),
            _OWN_BYTES,
        ),
        ratios=((BNCHECK, TENSORFLOW), (BNCHECK, _SORTED)),
    ),
    Case("wide", "100 layers of 4,096 channels", ("wide",), _values("wide"), goals=(_OWN_BYTES,)),
    Case(
        "graph",
        "a `.meta` of 100 MB: 200 layers in 51 towers",
        ("graph",),
        (_bncheck("inspect", f"graph/{_PREFIX}"), _tensorflow("graph", f"graph/{_PREFIX}")),
        goals=(_OWN_BYTES,),
    ),
    Case(
        "saved-model",
        "ResNet-50 as a SavedModel of Keras 3",
        ("keras:saved-model",),
        (
            _bncheck("inspect", "keras-saved-model/model"),
            _tensorflow("saved-model", "keras-saved-model/model"),
        ),
    ),
    Case(
        "h5",
        "ResNet-50 as `.h5`",
        ("keras:h5",),
        (_bncheck("inspect", "keras-h5/model.h5"), _tensorflow("h5", "keras-h5/model.h5")),
    ),
    Case(
        "gate",
        "1,000 small checkpoints with their `.meta`",
        ("many",),
        (
            _bncheck("gate", "--isolated", "-q", "-r", "many"),
            _bncheck("gate", "--isolated", "-q", "-r", "--no-graph", "many", name=_WITHOUT_GRAPH),
            _tensorflow("many", "many"),
        ),
        (
            _against_tensorflow(Metric.WALL, 1),
            _against_tensorflow(Metric.WALL, 0.6, _WITHOUT_GRAPH),
            _OWN_BYTES,
        ),
        ratios=((BNCHECK, TENSORFLOW), (_WITHOUT_GRAPH, TENSORFLOW)),
    ),
    Case(
        "verify",
        "every byte of 8 GiB in 8 files, 512 tensors",
        ("shards:8",),
        (
            _bncheck("verify", f"shards-8/{_PREFIX}"),
            _raw(*(f"shards-8/{_PREFIX}.data-{n:05d}-of-00008" for n in range(8))),
        ),
        (
            Goal(Metric.WALL, BNCHECK, 1 / 0.7, to=_RAW),
            Goal(Metric.PEAK, BNCHECK, 200 * _MB),
        ),
        ratios=((BNCHECK, _RAW),),
    ),
    Case(
        "verify-layers",
        "every byte of the 20,000 layers: 2 GiB, 100,001 tensors",
        ("layers",),
        (_bncheck("verify", f"layers/{_PREFIX}"), _raw(_LAYERS_DATA)),
        (Goal(Metric.PEAK, BNCHECK, 200 * _MB),),
        ratios=((BNCHECK, _RAW),),
    ),
)


def _growth(name: str, title: str, rows: dict[str, str], goals: tuple[Goal, ...]) -> Case:
    commands = tuple(
        _bncheck("inspect", f"{directory_of(dataset)}/{_PREFIX}", name=row)
        for row, dataset in rows.items()
    )
    return Case(name, title, tuple(rows.values()), commands, goals, ratios=())


_GROWTH = (
    _growth(
        "growth-variables",
        "time by the number of variables (layers of 64 channels and nothing else)",
        {f"{4 * n:,} variables": f"variables:{n}" for n in (1250, 2500, 5000, 10_000, 20_000)},
        # Start-up is in both, so that linear growth stays below 2.
        (Goal(Metric.CPU, "80,000 variables", 2.1, to="40,000 variables"),),
    ),
    _growth(
        "growth-bytes",
        "time by the bytes of other variables (2,000 layers of 64 channels, 2,000 kernels)",
        {
            f"{gib} GiB": f"bytes:{max(4, int(gib * 2**30 / 2000) // 4 * 4)}"
            for gib in (0, 0.25, 0.5, 1, 2)
        },
        (
            Goal(Metric.CPU, "2 GiB", 1.1, to="0 GiB"),
            Goal(Metric.READ, "2 GiB", 1, to="0 GiB"),
        ),
    ),
)

CASES = {case.name: case for case in (*_COMPARISONS, *_GROWTH)}
