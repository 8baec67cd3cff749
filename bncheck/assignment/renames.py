"""The changes of names that would turn misses into matches of equal shape.

Pairs of names that nearly agree propose edits; an edit counts what it matches exactly, and the one
that gains most comes first, as often as it takes.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from bncheck.assignment.edits import Suggestion, apply_all
from bncheck.assignment.likeness import likely_pairs
from bncheck.assignment.numbering import suggest_shifts
from bncheck.assignment.proposals import Kind, Proposal, propose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bncheck.assignment.edits import Edit

    Shape = tuple[int, ...]

_MOST_PROPOSALS = 16
_MOST_RENAMES = 8
_MOST_RIVALS = 3
_LEAST_GAIN = 2  # of one variable, chance cannot be told


def suggest(checkpoint: Mapping[str, Shape], graph: Mapping[str, Shape | None]) -> list[Suggestion]:
    """Return the edits of the checkpoint's names that would match more of the graph's variables.

    Each one counts what it gains after those before it; one that is ambiguous is not applied.
    Shifted numbers are looked for among all variables, since they match wrong ones by name.
    """
    wanted = {name: shape for name, shape in graph.items() if shape is not None}
    suggestions = suggest_shifts(checkpoint, wanted)
    names = _renamed(checkpoint, suggestions)
    matched = {name: shape for name, shape in names.items() if wanted.get(name) == shape}
    found = [
        each.suggestion()
        for each in search(
            {name: shape for name, shape in names.items() if name not in matched},
            {name: shape for name, shape in wanted.items() if name not in matched},
            matched,
            frozenset(Kind),
        )
    ]
    suggestions += found
    if any(not each.alternatives for each in found):
        known = {each.edit.option for each in suggestions}
        later = suggest_shifts(_renamed(checkpoint, suggestions), wanted)
        suggestions += [each for each in later if each.edit.option not in known]
    return suggestions


def _renamed(names: Mapping[str, Shape], suggestions: Sequence[Suggestion]) -> Mapping[str, Shape]:
    edits = [each.edit for each in suggestions if not each.alternatives]
    return {apply_all(edits, name): shape for name, shape in names.items()} if edits else names


class Found(NamedTuple):
    """A proposal that gains, and those that would gain the same from other variables."""

    proposal: Proposal
    gains: int
    rivals: tuple[Proposal, ...]

    def suggestion(self) -> Suggestion:
        """Return it as a report shows it."""
        return Suggestion(
            self.proposal.description,
            self.proposal.edit,
            self.gains,
            tuple((each.description, each.edit) for each in self.rivals),
        )


def search(
    sources: Mapping[str, Shape],
    wanted: Mapping[str, Shape],
    matched: Iterable[str],
    kinds: frozenset[Kind],
) -> list[Found]:
    """Return the best proposal, then the best of what is left after it, and so on."""
    sources, wanted = dict(sources), dict(wanted)
    found: list[Found] = []
    while len(found) < _MOST_RENAMES and sources and wanted:
        votes: Counter[Proposal] = Counter()
        for pair in likely_pairs(sources, wanted):
            votes.update(each for each in propose(*pair) if each.kind in kinds)
        gains = {
            proposal: _gains(proposal.edit, sources, wanted)
            for proposal, _ in votes.most_common(_MOST_PROPOSALS)
        }
        net = {
            proposal: len(hits) - _changed(proposal.edit, matched)
            for proposal, hits in gains.items()
            if len(hits) >= _LEAST_GAIN
        }
        best = max(
            net, key=lambda each: (net[each], each.keeps_role, -each.kind.value), default=None
        )
        if best is None or net[best] < _LEAST_GAIN:
            break
        rivals = _rivals(best, gains)
        found.append(Found(best, net[best], rivals))
        if not rivals:
            edit = best.edit
            sources = {edit.apply(name): shape for name, shape in sources.items()}
        for target in gains[best]:
            del wanted[target]
            if not rivals:
                del sources[target]
    return found


def _changed(edit: Edit, names: Iterable[str]) -> int:
    """Return how many names that match already an edit would change."""
    return sum(edit.apply(name) != name for name in names)


def _gains(edit: Edit, sources: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> dict[str, str]:
    """Return the sources by the targets that an edit finds; what two sources become is no match."""
    hits: dict[str, str] = {}
    twice = set()
    for source, shape in sources.items():
        target = edit.apply(source)
        if target != source and wanted.get(target) == shape:
            if target in hits:
                twice.add(target)
            hits[target] = source
    return {target: source for target, source in hits.items() if target not in twice}


def _rivals(best: Proposal, gains: Mapping[Proposal, Mapping[str, str]]) -> tuple[Proposal, ...]:
    """Return the proposals that find the same variables of the graph in others of the checkpoint.

    Where the names say that a role stays what it is, only what says so as well is a rival.
    """
    hits = gains[best]
    rivals = (
        each
        for each, others in gains.items()
        if others.keys() == hits.keys() and others != hits and each.keeps_role >= best.keeps_role
    )
    return tuple(islice(rivals, _MOST_RIVALS))
