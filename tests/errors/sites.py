"""Where the readers make their errors, by their source; and which of those places a run went by.

A site is a call that makes an error, or an error's reason: a class of bncheck/errors.py, a
ValueError, what makes errors of HDF5 files. It goes by its module, its function and the expression
of its sentence, so that it is the same wherever its line moves.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import FrameType
from typing import Any, NamedTuple
from unittest import mock

import bncheck.errors
from bncheck.errors import BncheckError
from tests.commands import ROOT

ROOMS = ("checkpoint", "graph")
CLASSES = frozenset(
    name
    for name, value in vars(bncheck.errors).items()
    if isinstance(value, type) and issubclass(value, BncheckError)
)
# What makes an error of a sentence that it is given. Their callers are the sites, not they.
MAKERS = frozenset(("damaged", "unsupported", "_damaged", "_bad_snappy", "_no_message", "_errors"))


class Site(NamedTuple):
    """One way to fail."""

    module: str
    function: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.module} {self.function}: {self.sentence}"


class Place(NamedTuple):
    """The lines of a site in the source as it is."""

    site: Site
    first: int
    last: int


@cache
def places() -> dict[str, list[Place]]:
    """Return the sites of all readers, by the path of their file."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / "bncheck" / room).glob("*.py")):
            visitor = _Visitor(f"{room}/{path.stem}")
            visitor.visit(ast.parse(path.read_text("utf-8")))
            found[str(path)] = visitor.places
    return found


def all_sites() -> set[Site]:
    return {place.site for each in places().values() for place in each}


class _Visitor(ast.NodeVisitor):
    def __init__(self, module: str) -> None:
        self._module = module
        self._within: list[str] = []
        self.places: list[Place] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._enter(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name not in MAKERS:
            self._enter(node)

    def _enter(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        self._within.append(node.name)
        self.generic_visit(node)
        self._within.pop()

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        name = function.id if isinstance(function, ast.Name) else ""
        if name in CLASSES:
            self._add(node, node.args[1])
        elif name == "ValueError":
            self._add(node, node.args[0])
        elif isinstance(function, ast.Attribute) and function.attr in MAKERS:
            texts = [each for each in node.args if _is_text(each)]
            self._add(node, texts[0] if texts else node.args[-1])
        self.generic_visit(node)

    def _add(self, node: ast.Call, sentence: ast.expr) -> None:
        site = Site(self._module, ".".join(self._within), ast.unparse(sentence))
        self.places.append(Place(site, node.lineno, node.end_lineno or node.lineno))


def _is_text(expression: ast.expr) -> bool:
    constant = isinstance(expression, ast.Constant) and isinstance(expression.value, str)
    return constant or isinstance(expression, ast.JoinedStr)


@dataclass
class Recorder:
    """The errors that were made meanwhile: the sentence of each, and the sites that it is from."""

    made: list[tuple[str, set[Site]]] = field(default_factory=list)

    def behind(self, text: str) -> set[Site]:
        """Return the sites of those errors whose sentences are in a text."""
        return set().union(*(sites for what, sites in self.made if what in text))


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Record every error of bncheck's, and every ValueError that a reader itself raises."""
    recorder = Recorder()
    make = BncheckError.__init__

    def init(self: BncheckError, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        sites: set[Site] = set()
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            sites |= _at(frame)
            frame = frame.f_back
        recorder.made.append((self.what, sites))

    def enter(frame: FrameType, _event: str, _argument: object) -> Any:
        if frame.f_code.co_filename not in places():
            return None
        frame.f_trace_lines = False
        return inside

    def inside(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "exception" and argument[0] is ValueError and argument[2].tb_next is None:
            recorder.made.append((str(argument[1]), _at(frame)))
        return inside

    before = sys.gettrace()
    with mock.patch.object(BncheckError, "__init__", init):
        sys.settrace(enter)
        try:
            yield recorder
        finally:
            sys.settrace(before)


def _at(frame: FrameType) -> set[Site]:
    line = frame.f_lineno
    here = places().get(frame.f_code.co_filename, [])
    return {place.site for place in here if place.first <= line <= place.last}
