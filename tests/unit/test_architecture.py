"""The shape of the code: who may import what."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "featurestore"
TRAINER = PACKAGE.parent / "trainer"


def test_importing_featurestore_loads_no_torch_and_no_trainer() -> None:
    heavy = "{'torch', 'torchvision', 'trainer'}"
    code = f"import sys, featurestore.cli, schemas; print(*{heavy} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert loaded.strip() == ""


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("zarr", {"metadata.py"}),
        ("obstore", {"remote.py"}),
        # To start workers, and for xarray; what both programs use is in `cluster`.
        ("dask", {"dask.py", "frames.py"}),
        ("distributed", {"connection.py", "dask.py", "idle.py", "tasks.py"}),
        ("soxr", {"audio.py"}),
        ("librosa", {"librosa_features.py", "compiled.py"}),
        ("matplotlib", {"clipfigure.py", "pictures.py", "plot.py"}),
        ("starlette", {"server.py"}),
        ("uvicorn", {"server.py"}),
        (
            "typer",
            {
                "browsing.py",
                "building.py",
                "datasets.py",
                "options.py",
                "program.py",
                "sharing.py",
                "stores.py",
                "terminal.py",
            },
        ),
    ],
)
def test_each_library_has_one_owner(library: str, owners: set[str]) -> None:
    users = {path.name for path in PACKAGE.rglob("*.py") if library in imported(path.read_text())}
    assert users == owners


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("mlflow", {"tracking.py"}),
        ("timm", {"model.py"}),
        ("safetensors", {"model.py"}),
        ("onnx", {"export.py"}),
        ("onnxruntime", {"export.py"}),
        ("jinja2", {"render.py"}),
        ("pandas", {"finished.py"}),
        ("threadpoolctl", {"threads.py"}),
        ("matplotlib", {"classes.py", "curves.py", "drawing.py"}),
        ("zarr", set()),
        ("dask", set()),
        ("distributed", set()),
    ],
)
def test_each_library_of_the_trainer_has_one_owner(library: str, owners: set[str]) -> None:
    users = {path.name for path in TRAINER.rglob("*.py") if library in imported(path.read_text())}
    assert users == owners


@cache
def imported(text: str) -> frozenset[str]:
    """The packages that a module imports, at its top or when it is needed, but not for types."""
    packages: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(text)]
    for node in nodes:
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            packages.add((node.module or "").split(".")[0])
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        nodes += (
            node.orelse if isinstance(node, ast.If) and for_types else ast.iter_child_nodes(node)
        )
    return frozenset(packages)


def test_lazy_imports_are_seen_and_those_for_types_are_not() -> None:
    lazy = "def f():\n    from zarr.storage import Store\n    import dask.array, soxr\n"
    typed = "if TYPE_CHECKING:\n    import torch\nelse:\n    import numpy\n"
    assert imported(lazy + typed) == {"zarr", "dask", "soxr", "numpy"}


def test_nothing_but_the_terminal_makes_a_console_or_prints() -> None:
    """Whatever else prints could forget that names are data; a literal holds none."""
    printing = re.compile(
        r"import (Console|Text)\b|rich\.(console import Console|markup|text|print|table)|"
        r"(?<![\w.])print\(|typer\.(s?echo)|sys\.(stdout|stderr)\.write\b(?!\(\")"
    )
    places = {
        f"{file.name}: {line.strip()}"
        for package in (PACKAGE, TRAINER)
        for file in package.rglob("*.py")
        for line in file.read_text().splitlines()
        if printing.search(line) and file.name != "terminal.py"
    }
    assert places == set()


def test_the_trainer_is_few_modules() -> None:
    """Merge rather than split: who reads the flow should not have to look for it."""
    assert len(list(TRAINER.rglob("*.py"))) <= 75


def test_no_module_has_more_lines_than_one_reads_at_a_time() -> None:
    packages = (PACKAGE, TRAINER, PACKAGE.parent / "schemas", PACKAGE.parent / "benchmarks")
    files = [path for package in packages for path in package.rglob("*.py")]
    lines = {path: len(path.read_text().splitlines()) for path in files}
    assert len(lines) > 250
    assert {path.name: number for path, number in lines.items() if number > 400} == {}


def test_data_go_to_a_device_in_one_place_from_pinned_memory_without_waiting() -> None:
    copying = re.compile(r"\.to\((?!torch\.float32)|\.cuda\(|pin_memory|\.synchronize\(|\.item\(")
    users = {
        path.name
        for path in (TRAINER / "data").glob("*.py")
        if any(copying.search(line) for line in path.read_text().splitlines())
    }
    assert users == {"buffers.py"}


def test_whatever_trains_has_a_stream_of_its_own() -> None:
    """A step can be recorded on such a stream only."""
    files = {path.name: path.read_text() for path in (TRAINER / "training").glob("*.py")}
    assert {name for name, text in files.items() if " StageTrainer(" in text} == {
        "fold.py",  # run by `take_turns`, which gives each fold its stream
        "lr_find.py",
    }
    entries = [line for line in files["lr_find.py"].splitlines() if "with computing_on(" in line]
    assert entries
    assert all("own_stream(device)" in line for line in entries)


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
    assert done.stderr.splitlines()[-1].startswith("error: torch is not installed: pip install")
