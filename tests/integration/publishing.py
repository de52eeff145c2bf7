"""A small ESC-50, published on loopback as the real one is."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import soundfile

from featurestore.datasets import kinds, load_dataset
from featurestore.datasets.archives import Archive
from featurestore.datasets.download import digest_contents
from tests.conftest import sound
from tests.integration.believing import believing
from tests.loopback import Loopback, Served

CHECKOUT = Path(__file__).parents[2]
TOP = "ESC-50-0123abc"
HEADER = "filename,fold,target,category,esc10,src_file,take"


def write_esc50(root: Path, num_clips: int = 10) -> Path:
    """The layout of ESC-50 in `root`: two folds, dogs and roosters, dogs in ESC-10."""
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    rows = [HEADER]
    data = io.BytesIO()
    soundfile.write(data, sound(1, 0.3), 22_050, format="wav")
    for number in range(num_clips):
        fold, target = 1 + number % 2, number // 2 % 2
        name = f"{fold}-{number}-A-{target}.wav"
        (root / "audio" / name).write_bytes(data.getvalue())
        category = ("dog", "rooster")[target]
        rows.append(f"{name},{fold},{target},{category},{target == 0},{number},A")
    (root / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    (root / "README.md").write_text("Read me.")
    return root


def pack(root: Path) -> bytes:
    """A tar.gz of a directory, named as GitHub names it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=1) as tar:
        tar.add(root, TOP)
    return data.getvalue()


def publish(server: Loopback, root: Path) -> tuple[Archive, Served]:
    """Serve a directory made by `write_esc50`."""
    served = Served(pack(root))
    dataset = load_dataset("esc50", root)
    archive = Archive(
        dataset="esc50",
        title="ESC-50, 10 clips",
        licence="CC BY-NC 3.0",
        url=server.add("/abc.tar.gz", served),
        num_bytes=len(served.content) + 10_000,
        num_unpacked_bytes=50_000 * len(dataset.clips),
        num_clips=len(dataset.clips),
        contents=digest_contents(dataset),
    )
    return archive, served


def believe(patch: pytest.MonkeyPatch, archive: Archive, **changes: Any) -> None:
    """Make this process take `archive` for the official one."""
    patch.setattr(kinds, "DATASETS", believing(dataclasses.replace(archive, **changes)))


def start(archive: Archive, line: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """The program in a process of its own, which takes `archive` for the official one."""
    described = json.dumps(dataclasses.asdict(archive))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.believing", described, *line.split()],
        stdin=stdin,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )
