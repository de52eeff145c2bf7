"""Errors of the system end as one line in words, in every command, whatever path they come from.

A missing file, one in a directory that may not be entered, a directory in place of a file, a file
in place of a directory, and a full disk.
"""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

import featurestore.cli
import trainer.cli
from tests.conftest import write_folder
from tests.integration.reported_runs import make_run
from tests.integration.trainer_store import tiny_store
from tests.permissions import permissions_hold

MAIN = {"featurestore": featurestore.cli.main, "trainer": trainer.cli.main}
KINDS = {
    "missing": "nowhere/x",
    "directory": "dir",
    "file": "plain.txt",
    "below a file": "plain.txt/x",
    "denied": "denied/x",
    "full": "full/new",
}
MADE = ("missing", "directory")
"""Kinds of places at which a directory may be created."""
COMMANDS = (
    "featurestore build folder --root @ --store new.zarr",
    "featurestore build folder --root sounds --store @ --workers 0",
    "featurestore build folder --root sounds --store new.zarr --spec @",
    "featurestore build --root sounds --table @.csv --store new.zarr",
    "featurestore info @",
    "featurestore verify @",
    "featurestore repair @",
    "featurestore plot @ --clip x",
    "featurestore plot s.zarr --classes 1 --out @",
    "trainer run --store @ --method mel",
    "trainer run --resume @",
    "trainer run --store s.zarr --methods-file @ --method mel --init random --dry-run",
    "trainer run --store s.zarr --method mel --init @ --out new",
    "trainer sweep --store s.zarr --file @ --out new",
    "trainer lr-find --store @ --method mel --out new",
    "trainer predict --run @ sounds",
    "trainer evaluate --run @ --store s.zarr --out new",
    "trainer evaluate --run runs/mel --store @ --out new",
    "trainer ensemble @ runs/resize --out new",
    "trainer ensemble runs/mel runs/resize --out @",
    "trainer export --run @ --fold 1 --format torch-export",
    "trainer report @ --out new",
    "trainer report runs/mel --out @",
)
SYSTEM = {os.strerror(number) for number in errno.errorcode}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a store, sounds, two runs, and something of every kind."""
    place = tmp_path_factory.mktemp("place")
    write_folder(place / "sounds")
    shutil.copytree(tiny_store(), place / "s.zarr")
    for method in ("mel", "resize"):
        make_run(place / "runs" / method, method, {1: 70.0, 2: 80.0})
    (place / "plain.txt").write_text("x: [\n")
    for name in ("dir", "denied", "full"):
        (place / name).mkdir()
    (place / "denied/x").write_text("x")
    (place / "denied").chmod(0)
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(place / "full")], check=False
        ).returncode
    )
    if mounted:
        (place / "full/old").write_bytes(bytes(4096))
    else:
        (place / "full").rmdir()
    try:
        yield place
    finally:
        if mounted:
            subprocess.run(["umount", str(place / "full")], check=True)
        (place / "denied").chmod(0o700)


# By default every command with half of the kinds; among the slow tests with the others.
@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        *((kind, COMMANDS[number % 2 :: 2]) for number, kind in enumerate(KINDS)),
        *(
            pytest.param(kind, COMMANDS[1 - number % 2 :: 2], marks=pytest.mark.slow)
            for number, kind in enumerate(KINDS)
        ),
    ],
    ids=[*KINDS, *(f"{kind}, the others" for kind in KINDS)],
)
def test_an_error_of_the_system_is_one_line_in_words_that_names_the_path_once(
    kind: str,
    commands: tuple[str, ...],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")
    if kind == "full" and not (place / "full").exists():
        pytest.skip("no small disk can be mounted here")
    wrong = []
    for command in commands:
        if command.endswith("--store @ --workers 0") and kind in MADE:
            continue  # a store may be made there
        program, *arguments = command.replace("@", KINDS[kind]).split()
        with permissions_hold() if kind == "denied" else nullcontext():
            code = MAIN[program](arguments)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        said = "\n".join(lines)
        raw = "[Errno" in said or any(text in said for text in SYSTEM)
        names = re.findall(rf"(?:^|[ /'\"(]){KINDS[kind]}\b", said)
        if (code, lines) == (0, []) and "--out" in command:
            continue  # it may be written there
        if (code, len(lines)) != (1, 1) or raw or len(names) > 1:
            wrong.append((command, code, said))
        others = (path for path in place.iterdir() if path.name not in ("dir", "denied"))
        left = {path.name for path in others if path.is_dir() and not any(path.iterdir())}
        if left:
            wrong.append((command, "left an empty folder", left))
    assert wrong == []
