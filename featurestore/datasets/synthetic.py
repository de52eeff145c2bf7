"""A synthetic collection generated from a seed: audio files of six classes of sound events.

`synthetic.partial` is written first and marks the directory as ours; it is renamed to
`synthetic.json` when the collection is complete. So an interrupted generation is noticed and
redone.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from featurestore.arguments import typed
from featurestore.datasets.base import SYNTHETIC_MARKER, Dataset
from featurestore.datasets.clips import Columns, check_clips, name_classes
from featurestore.datasets.scenes import draw_duration, draw_encoding, encode, render
from featurestore.datasets.sounds import SOUNDS
from featurestore.datasets.table import read_table
from featurestore.errors import AudioError, DatasetError, cause
from featurestore.extraction.sources import clip_file
from featurestore.files import read_regular, replace_file
from schemas import DatasetCard

MARKER = SYNTHETIC_MARKER
PARTIAL = "synthetic.partial"
_MOST_MARKER_BYTES = 1 << 16
TABLE = "clips.csv"
COLUMNS = Columns(file="path", fold="fold", class_name="class", source="path")
"""Each clip is its own recording."""
VERSION = 1
"""Version of the sounds, to be increased when the same seed gives other bytes."""


@dataclass(frozen=True)
class Recipe:
    """Parameters that determine every byte of a synthetic collection; see `make_synthetic`."""

    seed: int = 0
    num_folds: int = 3
    clips_per_class: int = 8
    version: int = VERSION

    def __post_init__(self) -> None:
        for name, least in {"seed": 0, "num_folds": 1, "clips_per_class": 1}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise DatasetError(
                    f"synthetic: {name} is {value!r}, expected a whole number from {least}"
                )


@typed
def make_synthetic(
    root: Path, seed: int = 0, num_folds: int = 3, clips_per_class: int = 8
) -> Dataset:
    """Generate a collection, or reuse the existing one if its parameters are the same.

    Args:
        root: Directory; created if missing.
        seed: Random seed, at least 0.
        num_folds: Number of folds, at least 1.
        clips_per_class: Number of clips per class and fold, at least 1.

    Raises:
        DatasetError: A number is out of range, or `root` contains something else or a collection
            with other parameters, or cannot be written.
    """
    recipe = Recipe(seed, num_folds, clips_per_class)
    if (root / MARKER).exists():
        _check_same(root, recipe)
    else:
        _generate(root, recipe)
    return _read(root)


def load(root: Path) -> Dataset:
    """Read the collection at `root`; generate it first if it is missing or incomplete.

    Args:
        root: Directory.

    Raises:
        DatasetError: `root` contains something else, or cannot be read or written.
    """
    if not (root / MARKER).exists():
        _generate(root, _started_recipe(root))
    return _read(root)


def _check_same(root: Path, recipe: Recipe) -> None:
    there = _read_recipe(root / MARKER)
    if there != recipe:
        raise DatasetError(
            f"{root}: holds a synthetic collection made with {_words(there)}; asked for "
            f"{_words(recipe)}. Give another directory, or delete this one"
        )


def _words(recipe: Recipe) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(recipe).items())


def _read_recipe(marker: Path) -> Recipe:
    try:
        return Recipe(**json.loads(read_regular(marker, _MOST_MARKER_BYTES)))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DatasetError(
            f"{marker}: expected the numbers of a synthetic collection ({error}); delete its "
            "directory to have it made again"
        ) from error


def _started_recipe(root: Path) -> Recipe:
    """Return the numbers of the generation that was interrupted, or else the defaults."""
    try:
        return replace(_read_recipe(root / PARTIAL), version=VERSION)
    except DatasetError:
        return Recipe()


def _generate(root: Path, recipe: Recipe) -> None:
    try:
        _claim(root)
        partial = root / PARTIAL
        replace_file(partial, (json.dumps(asdict(recipe), indent=2) + "\n").encode())
        rows = []
        for path, fold, name, data in _files(recipe):
            file = clip_file(root, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, data, durable=False)
            rows.append((path, fold, name))
        replace_file(root / TABLE, _csv(rows).encode())
        partial.replace(root / MARKER)
    except (OSError, AudioError) as error:
        raise DatasetError(
            f"{root}: cannot write the synthetic collection ({cause(error)})"
        ) from error


def _claim(root: Path) -> None:
    """Make the directory, or refuse one that holds something of the user's."""
    if root.exists() and not root.is_dir():
        raise DatasetError(f"{root}: is a file; the synthetic collection needs a directory")
    root.mkdir(parents=True, exist_ok=True)
    if not (root / PARTIAL).exists() and any(root.iterdir()):
        raise DatasetError(
            f"{root}: is not empty and holds no synthetic collection; give a directory that is "
            "empty or does not exist"
        )


def _files(recipe: Recipe) -> Iterator[tuple[str, int, str, bytes]]:
    """Yield path, fold, class and bytes of each clip. A clip depends on seed and place only."""
    for fold in range(1, recipe.num_folds + 1):
        for class_id, name in enumerate(SOUNDS):
            for index in range(recipe.clips_per_class):
                rng = np.random.default_rng([recipe.seed, fold, class_id, index])
                encoding = draw_encoding(rng)
                samples = render(rng, name, draw_duration(rng, index), encoding)
                # The seed in the name keeps apart the clip lists of two seeds.
                file = f"{name}-{index:03d}-seed{recipe.seed}.{encoding.suffix}"
                path = PurePosixPath("audio", f"fold{fold}", file).as_posix()
                yield path, fold, name, encode(samples, encoding)


def _csv(rows: list[tuple[str, int, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow((COLUMNS.file, COLUMNS.fold, COLUMNS.class_name))
    writer.writerows(rows)
    return buffer.getvalue()


def _read(root: Path) -> Dataset:
    recipe = _read_recipe(root / MARKER)
    table = root / TABLE
    checked = check_clips(read_table(table, COLUMNS.needed), COLUMNS)
    card = DatasetCard(
        name="synthetic",
        title=f"Synthetic sound events ({_words(recipe)})",
        class_names=name_classes(table, checked.names),
        licence="CC0 1.0",
        citation="Made by featurestore from a seed",
        url="",
    )
    return Dataset(card, root, checked.clips)
