"""Every block of the README and the documentation runs, in the order of the pages.

A shell block, a Python block and a YAML file are run, or written, as they stand, in one directory
with made-up sounds under the names that the pages use. Images are made small and trainings short
by options that programs of the same name, before ours on the PATH, append. A block that cannot run
here follows a comment `<!-- not run: REASON -->`; its commands are still parsed by
`tests/unit/test_docs.py`.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

from featurestore.building.build import build
from featurestore.datasets import load_dataset
from featurestore.datasets.esc50 import CLASSES, ESC10_TARGETS
from featurestore.extraction.spec import load_spec
from tests.conftest import sound
from tests.shard_files import write_parquet, write_shar, write_webdataset

ROOT = Path(__file__).parents[2]
PAGES = (
    "docs/howto/data.md",
    "docs/howto/features.md",
    "docs/howto/read.md",
    "docs/howto/train.md",
    "docs/howto/python.md",
    "docs/howto/many-runs.md",
    "docs/howto/networks.md",
    "docs/tutorial.md",
    "README.md",
)
"""Pages in an order in which each finds what it needs."""
ALONE = ("docs/tutorial.md", "README.md")
"""Pages that begin from nothing."""
BLOCK = re.compile(
    r"(?P<reason><!-- not run: .+? -->\n)?"
    r"^(?P<indent> *)```(?P<kind>[^\n`]*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
SHIMS = {
    "featurestore": """
case "$*" in
    "build "*--spec*) ;;
    "build "*) set -- "$@" --spec small.yaml ;;
esac
""",
    "trainer": """
case "$*" in
    *--resume*) ;;
    "run "*)
        case "$*" in *--fold*) ;; *) set -- "$@" --fold 1 ;; esac
        set -- "$@" --arch resnet18 --init random --epochs-scale 0.001 --threads 1
        ;;
    "lr-find "*) set -- "$@" --arch resnet18 --init random --batch-size 8 --threads 1 ;;
esac
""",
}
"""Shell code put before our programs: smaller images, smaller networks, fewer epochs."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    kind: str
    text: str
    reason: str

    @property
    def runs(self) -> bool:
        return not self.reason and self.kind in {"", "python", "yaml"}


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text()
    return [
        Block(
            page,
            m["kind"],
            re.sub(rf"^{m['indent']}", "", m["text"], flags=re.M),
            m["reason"] or "",
        )
        for m in BLOCK.finditer(text)
    ]


ALL_PAGES = [
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "_build" not in page.parts
]


@pytest.mark.parametrize("page", ALL_PAGES)
def test_a_page_with_a_block_that_can_run_is_among_those_that_are_run(page: str) -> None:
    assert page in PAGES or not [block for block in blocks(page) if block.runs]


def test_the_pages_that_are_run_have_blocks_of_every_kind() -> None:
    kinds = [block.kind for page in PAGES for block in blocks(page) if block.runs]
    assert {kind: kinds.count(kind) >= 3 for kind in ("", "python", "yaml")} == {
        "": True,
        "python": True,
        "yaml": True,
    }


def write_esc10(root: Path) -> None:
    """A collection in ESC-50's layout that has as many clips as ESC-10, all of them short."""
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    rows = []
    for fold in range(1, 6):
        for place in range(80):
            number, target = 100_032 + 100 * (fold - 1) + place, ESC10_TARGETS[place % 10]
            name = f"{fold}-{number}-A-{target}.wav"
            soundfile.write(root / "audio" / name, sound(number, 0.3), 22_050)
            rows.append((name, fold, target, CLASSES[target], True, number, "A"))
    with (root / "meta" / "esc50.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("filename", "fold", "target", "category", "esc10", "src_file", "take"))
        table.writerows(rows)


def write_birds(root: Path) -> None:
    """Ten clips of each of two classes, without folds."""
    for number, name in enumerate(("owl", "robin")):
        (root / name).mkdir(parents=True)
        for index in range(10):
            soundfile.write(root / name / f"{index}.wav", sound(10 * number + index), 22_050)


def write_field_recordings(root: Path) -> None:
    """Twelve clips of two classes from six sites, in a table with tabs."""
    root.mkdir()
    lines = ["Filename\tSpecies\tSite"]
    for index in range(12):
        soundfile.write(root / f"{index}.wav", sound(50 + index), 22_050)
        lines.append(f"{index}.wav\t{('owl', 'robin')[index % 2]}\tsite {index // 2}")
    (root / "list.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which the how-to pages follow one another."""
    return furnish(tmp_path_factory.mktemp("docs"))


@pytest.fixture
def here(page: str, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The directory of a page: the common one, or one of its own if it begins from nothing."""
    if page in ALONE:
        return furnish(tmp_path)
    shared: Path = request.getfixturevalue("shared")
    return shared


def furnish(here: Path) -> Path:
    """Put into an empty directory what the pages take for granted."""
    write_esc10(here / "data" / "esc10")
    write_birds(here / "birds")
    write_field_recordings(here / "field")
    write_parquet(here / "frogs")
    write_webdataset(here / "tars").joinpath("shard-0.tar").rename(here / "toads.tar")
    write_shar(here / "newts")
    (here / "recordings").mkdir()
    soundfile.write(here / "a.wav", sound(1), 22_050)
    soundfile.write(here / "recordings" / "b.flac", sound(2), 22_050)
    shutil.copytree(ROOT / "examples", here / "examples")
    other = shutil.copytree(here / "data" / "esc10", here / "other")
    for file in (ROOT / "examples" / "demo").iterdir():
        shutil.copy(file, here)
    (here / "bin").mkdir()
    for name, shim in SHIMS.items():
        program = here / "bin" / name
        program.write_text(f'#!/bin/sh{shim}exec "{Path(sys.executable).parent / name}" "$@"\n')
        program.chmod(0o755)
    # Another store of the same classes and features.
    build(load_dataset("esc10", other), here / "mine.zarr", load_spec(here / "small.yaml"))
    return here


def run(block: Block, here: Path) -> None:
    name = re.match(r"# (\S+\.yaml)\n", block.text)
    if block.kind == "yaml":
        assert name, f"{block.page}: the first line of a YAML block names its file"
        (here / name[1]).write_text(block.text)
        return
    shell = ["bash", "-euo", "pipefail", "-c", block.text]
    command = [sys.executable, "-c", block.text] if block.kind == "python" else shell
    path = os.pathsep.join(
        [str(here / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    environment = os.environ | {"PATH": path, "FEATURESTORE_DATA": str(here / "data")}
    done = subprocess.run(
        command, cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block.page}:\n{block.text}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_runs(page: str, here: Path) -> None:
    for block in blocks(page):
        if block.runs:
            run(block, here)
