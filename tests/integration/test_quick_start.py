"""Commands that need no data answer without the libraries that only data need."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import featurestore
import schemas
import trainer

HEAVY = ("numpy", "zarr", "scipy", "dask", "distributed", "matplotlib", "torch", "soundfile")
COMMANDS = {
    "featurestore": (
        ["build", "info", "verify", "download", "repair", "datasets", "plot"],
        ["--help", "-h", "--version", "datasets", "bild", "build --datset x", "plot s.zarr"],
    ),
    "trainer": (
        ["run", "sweep", "reproduce", "lr-find", "predict", "evaluate", "ensemble", "export"],
        ["--help", "-h", "--version", "rum", "run --folds 1", "run --seed x", "predict"],
    ),
}
ARGUMENTS = [
    (program, arguments)
    for program, (commands, others) in COMMANDS.items()
    for arguments in (*(f"{command} --help" for command in commands), "report --help", *others)
    if program == "trainer" or "report" not in arguments
]
_CODE = """
import sys
from {program}.cli import main
code = main(sys.argv[1:])
heavy = sorted(set({heavy!r}) & set(sys.modules))
sys.exit(f"exit code {{code}}, imported {{heavy}}" if heavy else code)
"""


@pytest.mark.parametrize(("program", "arguments"), ARGUMENTS)
def test_help_versions_and_usage_errors_import_nothing_heavy(program: str, arguments: str) -> None:
    code = _CODE.format(program=program, heavy=HEAVY)
    command = [sys.executable, "-c", code, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wrong = not any(word in arguments for word in ("-h", "--version", "datasets"))
    assert done.returncode == (2 if wrong else 0), done.stderr
    assert done.stderr if wrong else done.stdout


@pytest.mark.parametrize("program", COMMANDS)
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
