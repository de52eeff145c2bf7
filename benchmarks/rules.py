"""Whether the tests notice when a number or a rule of the paper's protocol is changed.

Each rule in `rules.yaml`, and each number in the table of the methods' cycles, is changed in turn
in a copy of the project. The fast tests that are named like the changed file are run there, and all
those of features or of training if none of these fails. A rule that no test protects is named, and
makes the command return 1.

python -m benchmarks.rules [--only TEXT]
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.record import save, table
from featurestore.yamlfile import read_yaml

ROOT = Path(__file__).parents[1]
TABLE = "trainer/methods.py"
TESTS = {
    "features": ("protocol", "spec", "features", "extractor", "resize", "audio", "golden"),
    "training": (
        *("protocol", "methods", "schedule", "model", "step", "stage", "recipes", "order", "task"),
        *("trainer_selection", "lr_find", "integration/test_carry", "integration/test_sweep"),
    ),
}
"""Modules of tests for each half of the project; those without a directory are of `unit/`."""
DEFAULTS = "protocol"
"""Module of the tests of defaults."""
FAILURES = 3
"""Number of failed tests after which no more are run."""


@dataclass(frozen=True)
class Change:
    """A change that breaks a rule.

    Args:
        rule: The rule, in words.
        file: File that implements it, relative to the project's root.
        old: Text that occurs once in the file.
        new: Text that replaces it.
        tests: Modules of tests, as in `TESTS`.
    """

    rule: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def changes() -> list[Change]:
    """Return the changes of all rules, in the order of the protocol."""
    halves: Any = read_yaml(Path(__file__).with_suffix(".yaml"))
    found = [
        Change(rule, file, old, new, TESTS[half])
        for half, files in halves.items()
        for file, entries in files.items()
        for rule, old, new in entries
    ]
    return [*found, *_of_cycles()]


def _of_cycles() -> Iterator[Change]:
    """Yield changes of every array, number and ratio in the table of the methods' cycles."""
    other = {"WHOLE": "DISCRIMINATIVE", "DISCRIMINATIVE": "WHOLE", "last": "last + 1"}
    other |= {"r1": "r2", "r2": "r3", "r3": "r2", '"R3/full"': '"R2/mel"'}
    rows = re.findall(r"^ +_cycle\((r\d.*|\"R3.*)\),$", (ROOT / TABLE).read_text(), re.MULTILINE)
    for row in rows:
        cells = row.split(", ")
        for at, column in enumerate(("array", "epochs", "layers", "λ, first", "λ, second")):
            cell = cells[at]
            new = other.get(cell) or (str(int(cell) + 1) if cell.isdecimal() else f"2 * {cell}")
            changed = ", ".join([*cells[:at], new, *cells[at + 1 :]])
            yield Change(
                f"cycle {row}: {column}",
                TABLE,
                f"_cycle({row})",
                f"_cycle({changed})",
                TESTS["training"],
            )


def copy_project(target: Path) -> None:
    """Copy code, tests and documents, and link the audio that some tests read if it is there."""
    unneeded = shutil.ignore_patterns("__pycache__", "results", "_build")
    for name in ("schemas", "featurestore", "trainer", "benchmarks", "tests", "docs"):
        shutil.copytree(ROOT / name, target / name, ignore=unneeded)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy2(ROOT / name, target)
    audio = ROOT.parent / "shared"
    if audio.is_dir():
        (target.parent / "shared").symlink_to(audio.resolve())


def failed_tests(project: Path, modules: tuple[str, ...]) -> list[str]:
    """Return the names of the tests that fail, at most `FAILURES`, or the text of another failure.

    Args:
        project: Copy of the project.
        modules: Modules of tests, as in `TESTS`.
    """
    paths = [f"tests/{name if '/' in name else f'unit/test_{name}'}.py" for name in modules]
    options = [f"--maxfail={FAILURES}", "-q", "-n0", "-m", "not slow", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, "-rfE", "--tb=no", *paths],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project), "COLUMNS": "400"},
        capture_output=True,
        text=True,
    )
    names = re.findall(r"^(?:FAILED|ERROR) \S*test_(\w+)\.py(?:::(\w+))?", ran.stdout, re.MULTILINE)
    found = list(dict.fromkeys(f"{module}: {test}" if test else module for module, test in names))
    return found or ([] if ran.returncode == 0 else [ran.stdout[-300:] + ran.stderr[-300:]])


def noticed(change: Change, project: Path) -> list[str]:
    """Return the tests that fail with a change, which is undone afterwards."""
    file = project / change.file
    text = file.read_text()
    if text.count(change.old) != 1:
        raise ValueError(f"{change.rule}: {change.old!r} occurs not once in {change.file}")
    file.write_text(text.replace(change.old, change.new))
    try:
        likely = tuple(n for n in change.tests if n == DEFAULTS or n.endswith(file.stem))
        return failed_tests(project, likely) or failed_tests(project, change.tests)
    finally:
        file.write_text(text)


def main(
    only: Annotated[str, typer.Option(help="Text in the names of the rules to change.")] = "",
) -> None:
    """Change each rule in turn, and report the tests that notice."""
    rows = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "main"
        copy_project(project)
        for half, modules in TESTS.items():
            if broken := failed_tests(project, modules):
                raise RuntimeError(f"{half}: tests fail without a change: {broken}")
        for change in changes():
            if only in change.rule:
                tests = noticed(change, project)
                rows.append({"rule": change.rule, "file": change.file, "noticed by": tests})
                print(
                    f"{change.rule}: {', '.join(tests) or 'NO TEST'}", file=sys.stderr, flush=True
                )
    missed = [row for row in rows if not row["noticed by"]]
    table(missed or rows, f"{len(rows)} rules changed, {len(missed)} that no test notices")
    if not only:
        save("rules", {"changed": len(rows), "not noticed": len(missed), "rules": rows})
    raise typer.Exit(bool(missed))


if __name__ == "__main__":
    typer.run(main)
