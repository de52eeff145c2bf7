"""Readers of published datasets whose clips have several labels: FSD50K and BirdSet.

Each reads the layout as distributed by the publishers. A clip's fold is its official split, and its
source the uploader, recordist or recording if published.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featurestore.cliplist import factorize, texts
from featurestore.datasets.base import Dataset
from featurestore.datasets.clips import Columns, check_clips
from featurestore.datasets.formats import any_table
from featurestore.datasets.labels import ClipLabels, count_labels, split_cells
from featurestore.datasets.table import Table, quoted, read_lines, read_table
from featurestore.errors import DatasetError
from featurestore.files import UnusableFileError, read_regular
from featurestore.text import quantity
from schemas import DatasetCard

_MOST_JSON = 1 << 30
"""Maximum size of a metadata file in bytes; those of FSD50K have 50 MB."""
_TRUTH, _METADATA = "FSD50K.ground_truth", "FSD50K.metadata"
_BIRDSET_TABLES = {"train": "train", "test": "test_5s"}
"""Suffix of the name of each split's table; the test set consists of segments of 5 s."""
_SEGMENT = re.compile(r"_[0-9]+_[0-9]+(?=[.]ogg$)")
"""Start and end in seconds that follow the recording's name in the file name of a segment."""


@dataclass
class _Rows:
    """Clips of all splits, gathered column by column."""

    paths: list[str] = field(default_factory=list)
    labels: list[list[str]] = field(default_factory=list)
    primary: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)


def load_fsd50k(root: Path) -> Dataset:
    """Read FSD50K: Freesound clips with AudioSet labels, including their ancestors.

    Raises:
        DatasetError: A table cannot be read or is invalid.
    """
    vocabulary = root / _TRUTH / "vocabulary.csv"
    names = [cells[1] for cells in _cells(vocabulary, 3)]
    rows = _Rows()
    for part in ("dev", "eval"):
        columns = ("fname", "labels", *(("split",) if part == "dev" else ()))
        path = root / _TRUTH / f"{part}.csv"
        table = read_table(path, columns)
        uploaders = _uploaders(root / _METADATA / f"{part}_clips_info_FSD50K.json")
        files = table["fname"].tolist()
        rows.paths += [f"FSD50K.{part}_audio/{file}.wav" for file in files]
        rows.labels += _lists(table, "labels")
        rows.sources += [uploaders.get(file, "") for file in files]
        official = {"train": "train", "val": "valid"}
        splits = table["split"].tolist() if part == "dev" else ["eval"] * len(files)
        if unknown := set(splits) - {*official, "eval"}:
            raise DatasetError(f"{path}: expected the splits train and val, got {min(unknown)!r}")
        rows.splits += [official.get(split, "test") for split in splits]
    card = DatasetCard(
        name="fsd50k",
        title="FSD50K",
        class_names=tuple(names),
        licence="CC BY 4.0 (each clip: CC0, CC BY, CC BY-NC or CC Sampling+)",
        citation='E. Fonseca, X. Favory, J. Pons, F. Font, X. Serra, "FSD50K: An Open Dataset of '
        'Human-Labeled Sound Events", IEEE/ACM TASLP 30, 2022',
        url="https://zenodo.org/records/4060432",
    )
    unnamed = rows.sources.count("")
    warning = f"{quantity(unnamed, 'clip')} without an uploader in {_METADATA}: taken to be alone"
    return _dataset(root, card, rows, (warning,) if unnamed else ())


def load_birdset(root: Path) -> Dataset:
    """Read a subset of BirdSet, such as HSN: focal recordings to train, soundscapes to test.

    The root contains the subset's tables `NAME_metadata_train.parquet` and `…_test_5s.parquet`, and
    its unpacked archives, in any directories. XCL and XCM have one table, `NAME_metadata.parquet`,
    and no test set. Segments of the test set are files of their own.

    Source: https://huggingface.co/datasets/DBD-research-group/BirdSet (`BirdSet.py`).

    Raises:
        DatasetError: A table is missing, cannot be read or is invalid.
    """
    tables = [
        path
        for path in sorted(root.glob("*_metadata*.parquet"))
        if path.stem.endswith(("_metadata", "_metadata_train"))
    ]
    if len(tables) != 1:
        listed = ", ".join(path.name for path in tables) or "none"
        raise DatasetError(
            f"{root}: expected one subset of BirdSet, a table NAME_metadata_train.parquet with its "
            f"unpacked archives below; found: {listed}"
        )
    subset = tables[0].name.partition("_")[0]
    places = _by_name(root)
    rows = _Rows()
    for split, end in _BIRDSET_TABLES.items():
        path = tables[0] if split == "train" else root / f"{subset}_metadata_{end}.parquet"
        if split == "train" or path.exists():
            _add_birds(rows, path, split, places)
    names = sorted({name for row in rows.labels for name in row})
    card = DatasetCard(
        name="birdset",
        title=f"BirdSet {subset}",
        class_names=tuple(names),
        licence="CC BY-NC-SA 4.0 and others, by recording",
        citation='L. Rauch et al., "BirdSet: A Large-Scale Dataset for Audio Classification in '
        'Avian Bioacoustics", ICLR 2025',
        url="https://huggingface.co/datasets/DBD-research-group/BirdSet",
    )
    return _dataset(root, card, rows)


def _add_birds(rows: _Rows, path: Path, split: str, places: Mapping[str, str]) -> None:
    labels = ("ebird_code_multilabel", "ebird_code")
    optional = (*labels, "recordist", *(("start_time", "end_time") if split == "test" else ()))

    def choose(header: Sequence[str]) -> list[str]:
        needed = () if set(labels) & set(header) else labels[:1]
        return ["filepath", *needed, *(n for n in optional if n in header)]

    table = any_table(path, choose)
    files = [Path(file).name for file in table["filepath"].tolist()]
    empty = [""] * len(files)
    are_parts = len(set(files)) < len(files)  # else a segment is a file of its own

    def column(name: str) -> list[str]:
        return list(map(str, table[name].tolist())) if name in table.columns else empty

    primary = column("ebird_code")
    several = _lists(table, labels[0] if labels[0] in table.columns else labels[1])
    # A soundscape's segment has no leading bird, a focal recording is made for one.
    rows.primary += primary if split == "train" else empty
    leading = primary if split == "train" else empty
    rows.labels += [sorted({*of, first} - {""}) for of, first in zip(several, leading, strict=True)]
    rows.paths += [places.get(file, file) for file in files]
    rows.splits += [split] * len(files)
    recordists = column("recordist") if split == "train" else empty
    rows.sources += [
        f"recordist {who}" if who else f"file {_SEGMENT.sub('', file)}"
        for who, file in zip(recordists, files, strict=True)
    ]
    rows.starts += column("start_time") if are_parts else empty
    rows.ends += column("end_time") if are_parts else empty


def _by_name(root: Path) -> dict[str, str]:
    """Return the path, relative to the root, of each sound below it by its base name."""
    return {
        path.name: path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*.ogg"))
        if not path.name.startswith(".")
    }


def _lists(table: Table, column: str) -> list[list[str]]:
    codes, cells = factorize(table[column])
    lists = split_cells(cells, several=True)
    return [lists[code] for code in codes.tolist()]


def _cells(path: Path, number: int) -> list[list[str]]:
    """Return the cells of a table without a header, in which no cell has a comma."""
    rows = [line.split(",") for line in read_lines(path)]
    for line, row in enumerate(rows, start=1):
        if len(row) != number:
            raise DatasetError(
                f"{path}, line {line}: expected index, label and mid, got {quoted(','.join(row))}"
            )
    return rows


def _uploaders(path: Path) -> dict[str, str]:
    """Return the uploader of each clip by its name; none if the metadata are not there."""
    if not path.exists():
        return {}
    try:
        clips = json.loads(read_regular(path, _MOST_JSON, follow=True))
        return {name: str(of["uploader"]) for name, of in clips.items()}
    except (UnusableFileError, OSError, ValueError, RecursionError, AttributeError) as error:
        raise DatasetError(f"{path}: cannot read the metadata ({error})") from error
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{path}: expected an uploader of each clip") from error


def _dataset(root: Path, card: DatasetCard, rows: _Rows, warnings: tuple[str, ...] = ()) -> Dataset:
    """Return the dataset of rows; the splits are folds from 1: train, valid, test.

    Raises:
        DatasetError: A label, path or time cannot be.
    """
    used = [split for split in ("train", "valid", "test") if split in rows.splits]
    numbers: dict[str, str] = {split: str(number) for number, split in enumerate(used, start=1)}
    columns = {
        "path": texts(rows.paths),
        "fold": texts(numbers[split] for split in rows.splits),
        "source": texts(rows.sources),
    }
    parts = any(rows.starts) or any(rows.ends)
    if parts:
        columns |= {"start": texts(rows.starts), "end": texts(rows.ends)}
    try:
        labels = ClipLabels.of(rows.labels, rows.primary, card.class_names)
    except DatasetError as error:
        raise DatasetError(f"{root}: {card.title}: {error}") from error
    meaning = Columns(
        file="path",
        fold="fold",
        class_name=None,
        source="source",
        start="start" if parts else None,
        end="end" if parts else None,
    )
    table = Table(root, np.arange(1, len(rows.paths) + 1), columns, "row")
    return Dataset(
        card,
        root,
        check_clips(table, meaning, labels).clips,
        fold_names=dict(enumerate(used, start=1)),
        understood=(count_labels(labels.hot),),
        warnings=warnings,
    )
