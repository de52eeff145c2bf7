"""Commands that need no data answer without the libraries that only data need."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.main import get_command

import featurestore.cli
import schemas
import trainer.cli

HEAVY = ("numpy", "zarr", "scipy", "dask", "distributed", "matplotlib", "torch", "soundfile")
PROGRAMS = {"featurestore": featurestore.cli.app, "trainer": trainer.cli.app}
OTHERS = ["--help", "-h", "--version"]
MISTAKES = {
    "featurestore": [
        "bild",
        "export s.zarr",
        "browse",
        "build --datset x",
        "plot s.zarr",
        "info",
        "ls --bogus",
        "diff a",
        "build --dataset x --workers -1",
    ],
    "trainer": [
        *("rum", "run --folds 1", "run --seed x", "predict", "run --selection best"),
        *("run", "run --method mel", "run --resume here --dry-run"),
    ],
}
SHORT = {"datasets", "info", "ls"}  # which print their result within a second
LONG = {
    "featurestore": {
        "browse": "s.zarr",
        "build": "synthetic",
        "diff": "s.zarr t.zarr",
        "download": "esc50 --yes --root root",
        "export": "s.zarr --out a.npz --format npz",
        "plot": "s.zarr --clip x",
        "repair": "s.zarr",
        "verify": "s.zarr",
    },
    "trainer": {
        "ensemble": "a b",
        "evaluate": "--run a",
        "export": "--run a --fold 1 --format onnx",
        "interpret": "a",
        "lr-find": "--store s.zarr --method mel",
        "predict": "--run a a.wav",
        "report": "a",
        "reproduce": "--store s.zarr",
        "run": "--store s.zarr --method mel",
        "sweep": "--store s.zarr --method mel --out sweep",
    },
}
_FIRST_LINE = """
import os, sys
from {program}.cli import main

class Heavy:
    def find_spec(self, name, *_):
        if name in {heavy!r}:
            os.write(1, b"imports\\n")
            os._exit(0)  # whatever was not printed before is lost

sys.meta_path.insert(0, Heavy())
for name, arguments in {lines!r}.items():
    print("==", name, flush=True)
    child = os.fork()
    if not child:
        main([name, *arguments.split()])
        os._exit(0)
    os.waitpid(child, 0)
"""
_CODE = """
import sys
from {program}.cli import main
for arguments, expected in {cases!r}:
    code = main(arguments.split())
    heavy = sorted(set({heavy!r}) & set(sys.modules))
    if code != expected or heavy:
        sys.exit(f"{program} {{arguments}}: exit code {{code}}, imported {{heavy}}")
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_versions_and_usage_errors_import_nothing_heavy(program: str) -> None:
    commands: list[str] = list(get_command(PROGRAMS[program]).commands)  # type: ignore[attr-defined]
    assert len(commands) >= 10
    good = [*(f"{command} --help" for command in commands), *OTHERS]
    good += ["datasets"] if program == "featurestore" else []
    cases = [*((arguments, 0) for arguments in good), *((a, 2) for a in MISTAKES[program])]
    code = _CODE.format(program=program, cases=cases, heavy=HEAVY)
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_says_its_version_also_as_a_module(program: str) -> None:
    command = [sys.executable, "-m", program, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == version("featurestore")


@pytest.mark.parametrize("package", [featurestore, schemas, trainer], ids=lambda p: p.__name__)
def test_every_public_name_is_there_when_it_is_first_used(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert all(hasattr(package, name) for name in names)
    assert set(names) <= set(dir(package))
    assert not hasattr(package, "no_such_name")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_long_command_prints_a_line_before_it_imports_what_takes_long(
    program: str, tmp_path: Path
) -> None:
    commands: list[str] = list(get_command(PROGRAMS[program]).commands)  # type: ignore[attr-defined]
    assert set(commands) - SHORT == set(LONG[program])
    large = ("numpy", "zarr", "scipy", "dask", "soundfile", "torch")
    code = _FIRST_LINE.format(program=program, lines=LONG[program], heavy=large)
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    first = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    assert set(first) == set(LONG[program])
    for text in first.values():
        assert re.fullmatch(r"\S+( and \S+)?: (reading|looking|loading)[^\n]*\nimports\n", text)
