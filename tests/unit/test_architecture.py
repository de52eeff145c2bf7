"""The shape of the code: who may import what."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "featurestore"
TRAINER = PACKAGE.parent / "trainer"


@pytest.mark.parametrize("module", ["featurestore", "featurestore.cli", "schemas"])
def test_importing_featurestore_loads_no_torch_and_no_trainer(module: str) -> None:
    heavy = "{'torch', 'torchvision', 'trainer'}"
    code = f"import sys, {module}; print(*{heavy} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert loaded.strip() == ""


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("zarr", {"metadata.py"}),
        ("obstore", set()),  # imported where a remote store is used, in `storage.remote`
        ("dask", {"dask.py"}),  # to start workers; what both programs use is in `cluster`
        ("distributed", {"connection.py", "dask.py", "idle.py", "tasks.py"}),
        ("soxr", {"audio.py"}),
        ("matplotlib", {"pictures.py", "plot.py"}),
        ("typer", {"cli.py", "terminal.py"}),
    ],
)
def test_each_library_has_one_owner(library: str, owners: set[str]) -> None:
    users = {
        file.name
        for file in PACKAGE.rglob("*.py")
        for line in file.read_text().splitlines()
        if line.startswith((f"import {library}", f"from {library}"))
    }
    assert users == owners


def test_nothing_but_the_terminal_makes_a_console_or_prints() -> None:
    """Whatever else prints could forget that names are data."""
    printing = re.compile(
        r"import (Console|Text)\b|rich\.(console import Console|markup|text|print|table)|"
        r"(?<![\w.])print\(|typer\.(s?echo)|sys\.(stdout|stderr)\.write"
    )
    places = {
        f"{file.name}: {line.strip()}"
        for package in (PACKAGE, TRAINER)
        for file in package.rglob("*.py")
        for line in file.read_text().splitlines()
        if printing.search(line) and file.name != "terminal.py"
    }
    assert places == set()


@pytest.mark.slow
def test_what_compares_runs_loads_no_torch() -> None:
    modules = "trainer.cli, trainer.report, trainer.inference.ensemble"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert loaded.strip() == "False"


def test_the_trainer_without_torch_says_what_to_install() -> None:
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Absent())
from trainer.cli import main
sys.exit(main(["run", "--store", "x", "--method", "mel"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: torch is not installed: pip install")
