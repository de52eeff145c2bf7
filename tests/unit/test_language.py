"""Docstrings and help texts begin as sentences of the field do, and rates are "per", not "a"."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "featurestore", "trainer", "benchmarks", "tests")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
RATED = [
    path
    for path in (*SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if path != Path(__file__).resolve()  # has examples of what is wrong
] + sorted(path for path in (ROOT / "benchmarks").rglob("*") if path.suffix in (".md", ".json"))
FRAGMENT = re.compile(r"((How|Where)(?! to )|Of|That|The same|Those|Told|What|Which)\b")
PER = re.compile(
    r"\b(bytes|chunks|clips|core|cores|epoch|epochs|files|folds|frames|GB|hours|images|kB|MB|minutes|ms"
    r"|npy|requests|rows|samples|seconds|steps|tasks|threads|time|times|workers|µs)"
    r" an? (batch|block|chunk|class|clip|core|epoch|file|fold|hour|image|method|minute|process"
    r"|request|row|run|sample|score|second|stage|step|task|thread|worker)\b"
    r"(?! is (opened|repeated))"
)
PRIVATE = re.compile(
    r"\b(anew|goes on|begun|be had|beside|says otherwise|one's own|made (if|where) it is)\b"
    r"|\bNone is (all|here|one|the|this)\b|\b(The machine could|is told by)\b|^(Least|Most) "
)
NOUNS = re.compile(
    r" (blocks|chunks|classes|clips|epochs|files|folds|problems|rows|runs|seeds|stages|steps)\b"
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


@cache
def texts_of(path: Path) -> list[tuple[int, str]]:
    """Return line and text of every docstring and every argument `help` of a file."""
    tree = ast.parse(path.read_text())
    return [*((line, text) for line, _, text in docstrings(tree)), *helps(tree)]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_docstring_or_help_text_is_a_fragment(package: str) -> None:
    fragments = []
    for path in SOURCES:
        if path.is_relative_to(ROOT / package):
            texts = texts_of(path)
            fragments += [(f"{path}:{line}", text) for line, text in texts if FRAGMENT.match(text)]
    assert fragments == []


def test_no_docstring_or_help_text_has_words_of_a_private_english() -> None:
    """The field says again, resumes, started, available, next to, custom, maximum number of."""
    wrong = []
    for path in SOURCES:
        plain = [(f"{path}:{line}", " ".join(text.split())) for line, text in texts_of(path)]
        wrong += [(place, text) for place, text in plain if PRIVATE.search(text)]
    assert wrong == []


def test_no_guide_has_words_of_a_private_english() -> None:
    wrong = []
    for path in (path for path in RATED if path.suffix == ".md"):
        text = " ".join(path.read_text().split())
        wrong += [(path, text[word.start() - 40 : word.end()]) for word in PRIVATE.finditer(text)]
    assert wrong == []


def test_rates_are_per_and_not_a() -> None:
    wrong = []
    for path in RATED:
        text = re.sub(r"\s+(?:# )?", " ", path.read_text())  # comments and paragraphs are wrapped
        wrong += [(path, text[found.start() - 40 : found.end()]) for found in PER.finditer(text)]
    assert wrong == []


def test_counts_that_commands_print_are_singular_where_they_are_one() -> None:
    commands = [path for path in SOURCES if path.parent.name == "commands"]
    assert len(commands) > 10
    for path in commands:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.JoinedStr):
                continue
            for number, noun in pairwise(node.values):
                if isinstance(number, ast.FormattedValue) and isinstance(noun, ast.Constant):
                    counted = NOUNS.match(str(noun.value))
                    assert not counted, f"{path}:{node.lineno}: use featurestore.text.quantity"


@pytest.mark.parametrize(
    "text",
    ["Of the file.", "Told how it goes.", "The same of its frames.", "What a user calls it."],
)
def test_fragments_are_recognised(text: str) -> None:
    assert FRAGMENT.match(text)


@pytest.mark.parametrize(
    "text",
    ["Most bytes of a file.", "None is all of them.", "made where it is absent", "runs anew"],
)
def test_private_words_are_recognised(text: str) -> None:
    assert PRIVATE.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "threads a fold",
        "0.3 ms a clip",
        "clips a chunk",
        "2 s of one core a clip",
        "one epoch a stage",
    ],
)
def test_rates_with_a_are_recognised(text: str) -> None:
    assert PER.search(text)
