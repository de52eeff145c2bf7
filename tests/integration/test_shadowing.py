"""Other packages that are called `trainer` or `schemas`, as some on the index are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("featurestore", "schemas", "trainer")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Our packages as an installer leaves them: files, and a list of them with their sizes.

    Bytecode is copied too, so that processes need not compile it again.
    """
    place = tmp_path / "site"
    lines = []
    for package in PACKAGES:
        shutil.copytree(ROOT / package, place / package)
        lines += [
            f"{file.relative_to(place)},sha256=x,{file.stat().st_size}"
            for file in sorted((place / package).rglob("*"))
            if file.is_file() and file.suffix != ".pyc"
        ]
    record = place / "featurestore-0.1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text("\n".join([*lines, "featurestore-0.1.0.dist-info/RECORD,,"]) + "\n")
    return place


def run(code: str, *path: Path, program: str = "script.py") -> subprocess.CompletedProcess[str]:
    """Run code with some directories before the libraries of this environment."""
    entries = os.pathsep.join(map(str, path))
    begin = f"import sys; sys.argv[0] = '/bin/{program}'\n"
    return subprocess.run(
        [sys.executable, "-c", begin + code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": entries},
        cwd=path[0],
    )


def plant(place: Path, package: str) -> Path:
    (place / package).mkdir(parents=True)
    (place / package / "__init__.py").write_text("class Trainer: ...\n")
    (place / package / "trainer_utils.py").write_text("")
    return place


USE = "import featurestore; print(featurestore.FeatureSpec().n_fft)"


def test_a_clean_installation_says_nothing(installed: Path) -> None:
    done = run(f"{USE}; import trainer; trainer.open_finished", installed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1024\n", "")


def test_a_foreign_schemas_is_named_in_the_last_line(installed: Path, tmp_path: Path) -> None:
    other = plant(tmp_path / "other", "schemas")
    done = run(USE, other, installed)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: `import schemas` finds another package of that name")
    assert str(other / "schemas") in last


def test_a_program_ends_with_the_line_alone(installed: Path, tmp_path: Path) -> None:
    other = plant(tmp_path / "other", "schemas")
    code = "from featurestore.cli import main; sys.exit(main(['info', 'x']))"
    done = run(code, other, installed, program="featurestore")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: `import schemas` finds another package")


def test_a_file_of_that_name_in_the_working_directory_is_named(
    installed: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "schemas.py").write_text("")
    done = run(USE, here, installed)
    assert str(here / "schemas.py") in done.stderr.splitlines()[-1]


def test_a_foreign_trainer_is_warned_of_in_one_line_and_the_store_works(
    installed: Path, tmp_path: Path
) -> None:
    other = plant(tmp_path / "other", "trainer")
    done = run(USE, other, installed)
    assert (done.returncode, done.stdout) == (0, "1024\n")
    (line,) = done.stderr.splitlines()
    assert "`import trainer` finds another package of that name" in line
    assert str(other / "trainer") in line


def test_foreign_modules_among_ours_are_warned_of_in_one_line(installed: Path) -> None:
    (installed / "trainer" / "trainer_utils.py").write_text("")
    (installed / "trainer" / "logging").mkdir()
    done = run("import trainer; print(trainer.TrainerError.__name__)", installed)
    assert (done.returncode, done.stdout) == (0, "TrainerError\n")
    (line,) = done.stderr.splitlines()
    assert "another package has put files into the directory of `trainer`" in line
    assert "logging, trainer_utils.py" in line


@pytest.mark.parametrize("package", ["schemas", "trainer"])
def test_a_module_of_ours_that_was_replaced_is_warned_of(package: str, installed: Path) -> None:
    (installed / package / "__init__.py").write_text("class Trainer: ...\n")
    done = run("import featurestore", installed)
    (line,) = done.stderr.splitlines()
    assert f"the directory of `{package}`" in line
    assert "__init__.py" in line


def test_what_ours_compiled_or_a_user_keeps_there_is_not_foreign(installed: Path) -> None:
    run("import schemas.store, trainer.errors", installed)  # makes __pycache__
    (installed / "trainer" / "notes.txt").write_text("")
    (installed / "trainer" / ".idea").mkdir()
    assert run("import featurestore", installed).stderr == ""


def test_looking_takes_next_to_nothing(installed: Path) -> None:
    code = (
        "import featurestore, time\n"
        "from featurestore.shadowing import check_imports\n"
        "begin = time.process_time()\n"
        "for _ in range(20): check_imports()\n"
        "print((time.process_time() - begin) / 20)"
    )
    assert float(run(code, installed).stdout) < 0.01
