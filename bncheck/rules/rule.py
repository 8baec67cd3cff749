"""What a rule is, what it sees, and what it finds."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from enum import IntEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from bncheck.assignment import Assignment
    from bncheck.batchnorm.grouping import Group
    from bncheck.batchnorm.layers import Layer
    from bncheck.changes.model import Comparison
    from bncheck.checkpoint.model import Variable
    from bncheck.graph.model import Graph


class Level(IntEnum):
    """How bad a finding is; a higher number is worse."""

    NOTE = 1
    WARNING = 2
    ERROR = 3

    def __str__(self) -> str:
        return self.name.lower()


class Thresholds(NamedTuple):
    """Where the rules on values begin to speak.

    `initial_weight` is the share of the initial value that BN205 lets be, `huge_variance` the
    variance that BN303 always speaks of, and `outlier` how many times the median layer's it is
    where it speaks of it, too.
    """

    initial_weight: float = 0.05
    huge_variance: float = 1e6
    outlier: float = 1e4


class Evidence(NamedTuple):
    """All that the rules may look at.

    `graph_is_own` says that the graph lay beside the checkpoint, so that its Saver is the one that
    wrote it. `step` is the number of training steps; `momentum`, and `momenta` by patterns of
    names, are what the user said of layers whose graph does not tell theirs. `slots` maps optimizer
    slots to the variables that they serve, where the checkpoint tells, `ambiguous` places to why
    their variables' roles cannot be told. `keras` says that the checkpoint is of objects or layers,
    not of a TensorFlow 1 graph. `required` says that there must be a layer. `comparison` is with an
    earlier checkpoint, where there is one; the other fields then are of the later one.
    """

    variables: Mapping[str, Variable]
    layers: tuple[Layer, ...]
    unknown: tuple[Group, ...] = ()
    graph: Graph | None = None
    graph_is_own: bool = False
    assignment: Assignment | None = None
    collection: str = "global"
    step: int | None = None
    momentum: float | None = None
    momenta: tuple[tuple[str, float], ...] = ()
    thresholds: Thresholds = Thresholds()
    slots: Mapping[str, str] = MappingProxyType({})
    ambiguous: Mapping[str, str] = MappingProxyType({})
    keras: bool = False
    comparison: Comparison | None = None
    required: bool = False

    def momentum_of(self, layer: Layer) -> float | None:
        """Return a layer's momentum: its graph's, else by the first pattern, else the general."""
        if layer.momentum is not None:
            return layer.momentum
        told = (value for glob, value in self.momenta if fnmatchcase(layer.name, glob))
        return next(told, self.momentum)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one layer, or with the whole checkpoint where `layer` is empty.

    `evidence` holds the numbers that the finding rests on, `help` what to do about it, `explains`
    the codes of the findings on the same layer that have this one as their cause.
    """

    rule: Rule
    level: Level
    layer: str
    variables: tuple[str, ...]
    message: str
    help: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    explains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern: its stable code, the name of the bad pattern, its level, and its check.

    The check's docstring is the rule's documentation: one sentence, then paragraphs that start with
    "What:", "Why:", "Right:" (what looks alike and is silent) and "Fix:".
    """

    code: str
    name: str
    level: Level
    check: Callable[[Evidence], Iterable[Finding]]

    def __reduce__(self) -> tuple[Callable[[str], Rule], tuple[str]]:
        """Let a finding go from process to process; a check is no data, and its code is."""
        return _registered, (self.code,)

    @property
    def summary(self) -> str:
        """The first sentence of the rule's documentation, in one line."""
        return " ".join(self.documentation.partition("\n\n")[0].split())

    @property
    def documentation(self) -> str:
        """The check's docstring, unindented."""
        return inspect.getdoc(self.check) or ""

    @property
    def fix(self) -> str:
        """The documentation's last paragraph in one line, without its heading."""
        return " ".join(self.documentation.rpartition("Fix: ")[2].split())


RULES: Final[dict[str, Rule]] = {}
"""Every rule by its code; filled as the families are imported."""


def _registered(code: str) -> Rule:
    return RULES[code]


@dataclass(frozen=True, slots=True)
class Draft:
    """What a check yields: a finding but for what the rule itself knows.

    An empty `help` means the rule's fix.
    """

    layer: str
    variables: tuple[str, ...]
    message: str
    help: str = ""
    level: Level | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    explains: tuple[str, ...] = ()


def rule(
    code: str, name: str, level: Level
) -> Callable[[Callable[[Evidence], Iterable[Draft]]], Callable[[Evidence], Iterable[Draft]]]:
    """Register a check as the rule of that code."""

    def register(
        check: Callable[[Evidence], Iterable[Draft]],
    ) -> Callable[[Evidence], Iterable[Draft]]:
        def find(evidence: Evidence) -> Iterable[Finding]:
            for draft in check(evidence):
                yield Finding(
                    rule=registered,
                    level=registered.level if draft.level is None else draft.level,
                    layer=draft.layer,
                    variables=draft.variables,
                    message=draft.message,
                    help=draft.help or registered.fix,
                    evidence=draft.evidence,
                    explains=draft.explains,
                )

        find.__doc__ = check.__doc__
        registered = Rule(code, name, level, find)
        RULES[code] = registered
        return check

    return register
