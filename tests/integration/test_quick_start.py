"""Commands that need no data answer without the libraries that only data need."""

import subprocess
import sys
from importlib.metadata import version

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
