"""From the findings of every checkpoint, and of every step between two, to those of the run."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bncheck.batchnorm.layers import Status
from bncheck.report.history_model import Gone, Span
from bncheck.rules.rule import Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bncheck.history.visits import Visit
    from bncheck.report.history_model import Point
    from bncheck.rules.rule import Finding

_NEVER_TRAINED: Final = "BN204"
_UNTRAINED: Final = ("BN201", "BN202", "BN203")
_FROZEN: Final = "BN601"
_RESET: Final = "BN602"
_EVENTS: Final = (_RESET, "BN603", "BN604", "BN605")  # what stays true however training goes on


def fold(visits: Sequence[Visit]) -> tuple[list[Finding], list[Span], list[Gone]]:
    """Return the findings of a run with the stretches that they hold for, and what is gone since.

    What one checkpoint shows counts if the last one shows it still. That statistics stood still
    counts if they do so up to the last. A reset, statistics that moved alone, and a change of the
    layers count wherever they happened.
    """
    teller = _Teller([visit.point for visit in visits])
    end = len(visits) - 1
    kept: list[tuple[Finding, Span]] = []
    gone: list[Gone] = []
    for finding, first, last in _stretches([visit.findings for visit in visits]):
        span = Span(first, last, first - 1 if first else None)
        if last == end:
            kept.append((teller.since(finding, span), span))
        elif finding.rule.code != _NEVER_TRAINED or first:
            gone.append(_gone(finding, span))
    steps = [() if visit.link is None else visit.link.findings for visit in visits]
    for finding, first, last in _stretches(steps):
        span = Span(first, last, first - 1)
        code = finding.rule.code
        if code == _RESET:
            kept.append((teller.reset(finding, span), span))
        elif code in _EVENTS:
            kept.append((teller.event(finding, span), span))
        elif last == end:
            kept.append((teller.frozen(finding, span), span))
        else:
            gone.append(_gone(finding, span))
    left = list(_unexplained(kept))
    left.sort(key=lambda each: (-each[0].level, each[0].rule.code, each[0].layer, each[1].first))
    return [finding for finding, _ in left], [span for _, span in left], gone


def _stretches(findings: Sequence[tuple[Finding, ...]]) -> Iterator[tuple[Finding, int, int]]:
    """Yield each finding once for every unbroken run of places that it holds in.

    Of steps between two checkpoints, the number is that of the later one. What of a layer is
    untrained was so, too, where nothing at all was trained.
    """
    running: dict[tuple[str, str], int] = {}
    found: dict[tuple[str, str], Finding] = {}
    for number, here in enumerate(findings):
        held: dict[tuple[str, str], int] = {}
        start = running.get((_NEVER_TRAINED, ""), number)
        for finding in here:
            key = (finding.rule.code, finding.layer)
            fresh = start if finding.rule.code in _UNTRAINED else number
            held[key] = running.get(key, fresh)
        for key, first in running.items():
            if key not in held:
                yield found[key], first, number - 1
        found |= {(finding.rule.code, finding.layer): finding for finding in here}
        running = held
    for key, first in running.items():
        yield found[key], first, len(findings) - 1


def _unexplained(kept: list[tuple[Finding, Span]]) -> Iterator[tuple[Finding, Span]]:
    """Leave out what another finding of the same layer explains.

    Statistics that stand still since they were reset are the reset's.
    """
    there = {(finding.layer, finding.rule.code) for finding, _ in kept}
    explained = {(f.layer, code) for f, _ in kept for code in f.explains}
    resets = {(f.layer, span.first) for f, span in kept if f.rule.code == _RESET}
    for finding, span in kept:
        code = finding.rule.code
        since_reset = code == _FROZEN and (finding.layer, span.first - 1) in resets
        if not since_reset and (finding.layer, code) not in explained:
            told = tuple(each for each in finding.explains if (finding.layer, each) in there)
            yield replace(finding, explains=told), span


class _Teller:
    """Says of a finding since when it holds, or when it happened."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = points
        steps = Counter(point.step for point in points)
        self._called = [
            point.called
            if point.step is None or steps[point.step] == 1
            else f"{point.called} ({os.path.basename(point.path)})"
            for point in points
        ]

    def since(self, finding: Finding, span: Span) -> Finding:
        if span.last_good is not None:
            first, good = self._called[span.first], self._called[span.last_good]
            return self._dated(finding, span, f"first in {first}, last good: {good}")
        return self._dated(finding, span, "in every checkpoint" if len(self._points) > 1 else "")

    def frozen(self, finding: Finding, span: Span) -> Finding:
        before, last = self._points[span.first - 1].step, self._points[span.last].step
        length = ""
        if before is not None and last is not None and last > before:
            length = f" ({last - before:,} steps)"
        when = f"from {self._called[span.first - 1]} to {self._called[span.last]}{length}"
        return self._dated(finding, span, when)

    def event(self, finding: Finding, span: Span) -> Finding:
        when = f"between {self._called[span.first - 1]} and {self._called[span.last]}"
        return self._dated(finding, span, when)

    def reset(self, finding: Finding, span: Span) -> Finding:
        """A reset is a warning where the layer was trained again since."""
        dated = self.event(finding, span)
        last = self._points[-1].layers.get(finding.layer)
        again = span.last < len(self._points) - 1
        if last is None or not again:
            return dated
        if last.status is Status.UNTRAINED:
            return replace(dated, message=f"{dated.message}; they were never updated since")
        if last.status is not Status.TRAINED:
            return dated
        level = min(dated.level, Level.WARNING)
        return replace(
            dated, level=level, message=f"{dated.message}; they were updated again since"
        )

    def _dated(self, finding: Finding, span: Span, when: str) -> Finding:
        first = self._points[span.first]
        good = None if span.last_good is None else self._points[span.last_good]
        evidence = dict(finding.evidence) | {
            "first_step": first.step,
            "first_checkpoint": first.path,
            "last_good_step": None if good is None else good.step,
            "last_good_checkpoint": None if good is None else good.path,
        }
        message = f"{finding.message}; {when}" if when else finding.message
        return replace(finding, message=message, evidence=evidence)


def _gone(finding: Finding, span: Span) -> Gone:
    return Gone(finding.rule.code, finding.rule.name, finding.layer, span)
