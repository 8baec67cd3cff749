"""Layers: the roles of one batch normalization with their values, and what state they are in."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck.batchnorm.names import (
    AFFINE,
    ANY_AFFINE,
    GAMMA_OR_BETA,
    MOVING_VARIANCE,
    STATISTICS,
    Family,
    Role,
)
from bncheck.batchnorm.statistics import Summary, summarise
from bncheck.checkpoint.dtypes import is_floating
from bncheck.checkpoint.model import element_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from bncheck.batchnorm.grouping import Candidate, Group
    from bncheck.checkpoint.model import Values, Variable
    from bncheck.checkpoint.structure import LayerConfig
    from bncheck.graph.model import Graph, GraphVariable

# What the statistics, gamma and beta start from where no graph says otherwise. Sonnet 2 and
# averages of moments start the variance at 0 as well.
_DEFAULT_INITIAL: Final = {
    Role.GAMMA: 1.0,
    Role.BETA: 0.0,
    Role.MOVING_MEAN: 0.0,
    Role.MOVING_VARIANCE: 1.0,
    Role.MOVING_STDDEV: 1.0,
}
_ROLES: Final = tuple(Role)  # iterating over an Enum takes ten times as long
_EXACT_TYPES: Final = frozenset(("float32", "float64"))

# A mean this near to 0 beside a variance of exactly 1 is that of standardised inputs: in float32,
# an average that starts at 1 cannot leave it while the batch's variance is within 3e-6 of 1.
_STANDARDISED_MEAN: Final = 1e-5


_Told = tuple[bool | None, bool | None, float | None]
"""Of one variable: `initial`, `moved` and `expected` as Member has them."""


class Status(str, Enum):
    """The state of a layer's statistics."""

    TRAINED = "trained"
    UNTRAINED = "untrained"
    HALF_TRAINED = "half-trained"
    MISSING = "missing"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"


class Member(NamedTuple):
    """One role's variable: `variable` as the checkpoint has it, `graph_variable` as the graph does.

    `name` is its key, `label` what a person would call it. `initial` is whether all its elements
    are bit-exactly what the initializer writes, `moved` whether training has changed it: None where
    that cannot be told, because the initializer is random or the values were not read.
    """

    name: str
    variable: Variable | None
    graph_variable: GraphVariable | None = None
    values: NDArray[Any] | None = None
    summary: Summary | None = None
    initial: bool | None = None
    moved: bool | None = None
    expected: float | None = None
    label: str = ""


class Layer(NamedTuple):
    """One batch normalization; `members` holds the roles that the checkpoint or the graph has.

    `config` is what the model's own configuration says of it.
    """

    name: str
    members: Mapping[Role, Member]
    momentum: float | None = None
    epsilon: float | None = None
    zero_debiased: frozenset[Role] = frozenset()
    status: Status = Status.TRAINED
    config: LayerConfig | None = None

    def saved(self, role: Role) -> Member | None:
        """Return the role's variable if the checkpoint has it."""
        member = self.members.get(role)
        return member if member is not None and member.variable is not None else None

    def summary(self, role: Role) -> Summary | None:
        """Return the numbers of a role whose values were read, None of any other."""
        member = self.members.get(role)
        return None if member is None else member.summary

    def names(self, *roles: Role) -> tuple[str, ...]:
        """Return the names of those of the roles that the layer has, in the roles' order."""
        return tuple(self.members[role].name for role in roles if role in self.members)

    @property
    def channels(self) -> int | None:
        """The number of channels: the statistics' elements, else the affine's last axis."""
        for role in (*STATISTICS, *ANY_AFFINE):
            member = self.members.get(role)
            if member is None:
                continue
            holder = member.variable or member.graph_variable
            if holder is not None and holder.shape:
                return element_count(holder.shape) if role in STATISTICS else holder.shape[-1]
        return None

    @property
    def statistics(self) -> tuple[Role, ...]:
        """The statistics that the layer ought to have: both, unless a graph knows of one alone."""
        return _statistics_of(self.members)

    @property
    def affine_moved(self) -> bool | None:
        """Whether training changed gamma or beta; None where there is no affine to tell by."""
        gamma, beta, either = (self.saved(role) for role in ANY_AFFINE)
        unknown = gamma is not None and gamma.graph_variable is None and self.config is None
        if unknown and beta and beta.initial:
            # Training moves beta, too; a gamma that starts from random numbers looks as if it had
            # moved.
            return False
        told = [m.moved for m in (gamma, beta, either) if m is not None and m.moved is not None]
        return any(told) if told else None

    @property
    def affine_restored(self) -> bool:
        """Whether the graph initializes gamma or beta from a checkpoint."""
        members = [self.members[role] for role in AFFINE if role in self.members]
        return any(m.graph_variable is not None and m.graph_variable.restored for m in members)


class Known(NamedTuple):
    """What is known of variables and layers beside the checkpoint's values.

    `graph_variables` are by the variables' keys, `configs` by the layers' names.
    """

    graph: Graph | None = None
    graph_variables: Mapping[str, GraphVariable] = {}
    configs: Mapping[str, LayerConfig] = {}

    def config_of(self, group: Group) -> LayerConfig | None:
        """Return what the checkpoint's own configuration, else the graph's, says of a layer."""
        if group.name in self.configs:
            return self.configs[group.name]
        if self.graph is None or not self.graph.configs:
            return None
        variables = (self.graph_variables.get(c.key) for c in group.roles.values())
        found = (self.graph.configs.get(each.name) for each in variables if each is not None)
        return next((config for config in found if config is not None), None)


def build_layers(
    groups: list[Group], variables: Mapping[str, Variable], values: Values, known: Known
) -> list[Layer]:
    """Build the layers of the groups.

    `values` are those of the groups' variables that were read.
    """
    ordered = [
        [(role, group.roles[role]) for role in _ROLES if role in group.roles] for group in groups
    ]
    read = _with_summaries(ordered, values)
    layers = []
    usual: dict[Family, dict[Role, _Told]] = {}
    for group, roles in zip(groups, ordered, strict=True):
        config = known.config_of(group) if known.graph or known.configs else None
        told_by_role = usual.setdefault(group.family, {})
        members = {}
        for role, (key, name, _, _, in_checkpoint) in roles:
            array, summary = next(read)
            graph_variable = known.graph_variables.get(key)
            told = None
            plain = graph_variable is None and config is None
            if plain and summary is not None and summary.minimum < summary.maximum:
                # Of numbers that differ the role alone tells the state: no default is such.
                told = told_by_role.get(role)
                if told is None:
                    told = told_by_role[role] = _tell(role, group.family, summary, None, None)
            initial, moved, expected = told or _tell(
                role, group.family, summary, graph_variable, config
            )
            members[role] = Member(
                key,
                variables.get(key) if in_checkpoint else None,
                graph_variable,
                array,
                summary,
                initial,
                moved,
                expected,
                name,
            )
        momentum, epsilon = _constants(members, known.graph, config)
        status, debiased = _status(members), group.zero_debiased
        layers.append(Layer(group.name, members, momentum, epsilon, debiased, status, config))
    return layers


def _with_summaries(
    groups: list[list[tuple[Role, Candidate]]], values: Values
) -> Iterator[tuple[NDArray[Any] | None, Summary | None]]:
    """Return the values of each candidate with their numbers, as far as they were read."""
    arrays = [
        values.arrays.get(candidate.key) if is_floating(candidate.dtype) else None
        for roles in groups
        for _, candidate in roles
    ]
    found = iter(summarise([array for array in arrays if array is not None]))
    summaries = [None if array is None else next(found) for array in arrays]
    return zip(arrays, summaries, strict=True)


def _constants(
    members: dict[Role, Member], graph: Graph | None, config: LayerConfig | None
) -> tuple[float | None, float | None]:
    """Return a layer's momentum and epsilon: the graph's word, else the configuration's."""
    if graph is None and config is None:
        return None, None
    names = [m.graph_variable.name for m in members.values() if m.graph_variable is not None]
    # A gradient step by hand (gamma -= rate * gradient) looks like an average, and is none.
    averaged = [
        known.name
        for role in STATISTICS
        if role in members and (known := members[role].graph_variable) is not None
    ]
    momenta = [graph.momentum[name] for name in averaged if name in graph.momentum] if graph else []
    epsilons = [graph.epsilon[name] for name in names if name in graph.epsilon] if graph else []
    if config is not None:
        momenta += [] if config.momentum is None else [config.momentum]
        epsilons += [] if config.epsilon is None else [config.epsilon]
    return momenta[0] if momenta else None, epsilons[0] if epsilons else None


def _tell(
    role: Role,
    family: Family,
    summary: Summary | None,
    graph_variable: GraphVariable | None,
    config: LayerConfig | None,
) -> _Told:
    expected = _expected(role, family, graph_variable, config)
    initial = _is_initial(role, summary, expected)
    restored = graph_variable is not None and graph_variable.restored
    return initial, _moved(role, summary, expected, initial=initial, restored=restored), expected


def _is_initial(role: Role, summary: Summary | None, expected: float | None) -> bool | None:
    if summary is None:
        return None
    if role is GAMMA_OR_BETA:
        return summary.is_all(1.0) or summary.is_all(0.0)
    return None if expected is None else summary.is_all(expected)


def _expected(
    role: Role,
    family: Family,
    graph_variable: GraphVariable | None,
    config: LayerConfig | None,
) -> float | None:
    """Return the number that the initializer writes, None where it is not one number.

    A graph whose initializer of a statistic is no constant does not excuse exact zeros and ones:
    they are the default's.
    """
    if graph_variable is not None and graph_variable.initial is not None:
        return graph_variable.initial
    if graph_variable is not None and graph_variable.initial_known and role in AFFINE:
        return None
    if config is not None and role.value in config.initial:
        told = config.initial[role.value]
        if told is not None or role in AFFINE:
            return told
    if role is GAMMA_OR_BETA:
        return None
    if role is MOVING_VARIANCE and family in (Family.AVERAGE, Family.MOMENTS):
        return 0.0
    return _DEFAULT_INITIAL.get(role, 0.0)


def _moved(
    role: Role,
    summary: Summary | None,
    expected: float | None,
    *,
    initial: bool | None,
    restored: bool,
) -> bool | None:
    """Tell whether training changed a variable.

    A gamma or beta that is the same number in every channel was not: gradients differ between
    channels, while initializers (gamma 0 at the end of a residual block) and weight decay alone do
    not.
    """
    if summary is None or not summary.size:
        return None
    if expected is not None and initial:
        return False
    if role not in ANY_AFFINE:
        return True
    if expected is None and not restored and role is not GAMMA_OR_BETA:
        return None  # random numbers to begin with
    if role is GAMMA_OR_BETA and summary.is_all(1.0):
        return False
    return not (summary.is_uniform or summary.is_all(0.0))


def _status(members: Mapping[Role, Member]) -> Status:
    statistics = [members[role] for role in STATISTICS if role in members]
    whole = len(statistics) == len(STATISTICS)
    if not whole and len(statistics) < len(_statistics_of(members)):
        return Status.MISSING
    initial = True
    for member in statistics:
        if member.variable is None:
            return Status.MISSING
        initial = initial and bool(member.initial)
    for role in STATISTICS:
        if role in members and members[role].summary is None:
            return Status.UNREADABLE
    for role in STATISTICS:
        if role in members and _is_damaged(role, members[role].summary):
            return Status.DAMAGED
    if initial:
        return Status.UNTRAINED
    return _status_of_both(*statistics) if whole else Status.TRAINED


def _statistics_of(members: Mapping[Role, Member]) -> tuple[Role, ...]:
    """Return the statistics that a layer ought to have: a graph may know of a mean alone.

    Mean-only batch normalization (Salimans and Kingma, 2016, section 3.2) keeps no variance.
    """
    known = any(member.graph_variable is not None for member in members.values())
    return tuple(role for role in STATISTICS if role in members or not known)


def _is_damaged(role: Role, summary: Summary | None) -> bool:
    if summary is None:
        return False
    negative = role is MOVING_VARIANCE and summary.minimum < 0
    return negative or summary.nonfinite > 0


def _status_of_both(mean: Member, variance: Member) -> Status:
    if mean.summary is None or variance.summary is None:
        return Status.UNREADABLE
    if mean.initial and not _is_dead(variance.summary, variance.expected):
        return Status.HALF_TRAINED
    if variance.initial and not _is_standardised(mean.summary):
        return Status.HALF_TRAINED
    return Status.TRAINED


def _is_dead(variance: Summary, initial: float | None) -> bool:
    """Whether a variance is that of a layer whose input always was 0: decayed alike everywhere.

    Its mean then is exactly 0, too, and that is right.
    """
    decayed = initial is not None and 0 <= variance.maximum < initial
    return decayed and (variance.is_uniform or variance.maximum < 1e-6)


def _is_standardised(mean: Summary) -> bool:
    return max(abs(mean.minimum), abs(mean.maximum)) <= _STANDARDISED_MEAN


def is_exact(member: Member) -> bool:
    """Whether the type is precise enough for an average to move at its first update.

    In half precision a step from 1 towards a batch's variance can round to nothing, so that a
    variance stays at exactly 1 although its updates ran.
    """
    return member.variable is not None and member.variable.dtype in _EXACT_TYPES
