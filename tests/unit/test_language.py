"""Docstrings and help texts begin as sentences of the field do, and rates are "per", not "a"."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for package in ("schemas", "featurestore", "trainer")
    for path in (ROOT / package).rglob("*.py")
)
FRAGMENT = re.compile(r"(Of|That|Told|The same)\b")
PER = re.compile(
    r"\b(bytes|chunks|clips|epochs|files|frames|images|kB|MB|ms|requests|rows|samples|seconds"
    r"|steps|tasks|threads|workers|one|time|µs)"
    r" a (batch|block|chunk|class|clip|core|fold|method|minute|request|row|score|second|stage|step"
    r"|thread|worker)\b"
)
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def literal(node: ast.stmt | ast.keyword) -> str | None:
    """Return the text that a statement or an argument consists of, if it is a literal."""
    value = node.value if isinstance(node, ast.Expr | ast.keyword) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Yield line, name and text of every docstring, also of those that follow a constant."""
    for node in ast.walk(tree):
        if isinstance(node, _Documented) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), getattr(node, "name", "module"), text
        body = node.body if isinstance(node, ast.Module | ast.ClassDef) else []
        for before, after in pairwise(body):
            if isinstance(before, ast.Assign | ast.AnnAssign) and (text := literal(after)):
                yield after.lineno, ast.unparse(before).split(" ")[0], text


def helps(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every argument `help`, as far as it is a literal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "help" and (text := literal(node)):
            yield node.value.lineno, text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_docstring_or_help_text_is_a_fragment(path: Path) -> None:
    tree = ast.parse(path.read_text())
    texts = [*((line, text) for line, _, text in docstrings(tree)), *helps(tree)]
    assert [(line, text) for line, text in texts if FRAGMENT.match(text)] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rates_are_per_and_not_a(path: Path) -> None:
    tree = ast.parse(path.read_text())
    texts = [*((line, text) for line, _, text in docstrings(tree)), *helps(tree)]
    assert [(line, found[0]) for line, text in texts if (found := PER.search(text))] == []


@pytest.mark.parametrize("text", ["Of the file.", "Told how it goes.", "The same of its frames."])
def test_fragments_are_recognised(text: str) -> None:
    assert FRAGMENT.match(text)


@pytest.mark.parametrize("text", ["threads a fold", "0.3 ms a clip", "clips a chunk"])
def test_rates_with_a_are_recognised(text: str) -> None:
    assert PER.search(text)
