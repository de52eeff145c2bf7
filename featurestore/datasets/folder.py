"""Any directory as a dataset: `fold/class/file`, or a CSV with path, fold and class.

The CSV is `clips.csv`, or the root's only one; it goes before directories.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from featurestore.datasets.base import Dataset
from featurestore.datasets.clips import Columns, check_clips, name_classes
from featurestore.datasets.table import MAX_SHOWN, read_table
from featurestore.errors import DatasetError
from schemas import Clip, DatasetCard

TABLE = "clips.csv"
COLUMNS = Columns(file="path", fold="fold", class_name="class")
# fmt: off
SUFFIXES = frozenset((
    ".8svx", ".aif", ".aifc", ".aiff", ".au", ".avr", ".bwf", ".caf", ".flac", ".iff", ".mp2",
    ".mp3", ".mpga", ".nist", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph", ".svx", ".voc",
    ".w64", ".wav", ".wave",
))
# fmt: on
"""Of the files that libsndfile reads by their content, and that say how long they are.

IRCAM (.sf), PVF, PAF and others do not: one cut short could not be told from a whole one.
"""

_FOLD = re.compile(r"(?:fold)?[ _-]?([0-9]{1,9})", re.IGNORECASE)


def load(root: Path) -> Dataset:
    """Read the root's table, or, without one, its directories.

    Args:
        root: The directory.

    Raises:
        DatasetError: The table is wrong, a fold's directory has no number, or nothing is usable.
    """
    table = _find_table(root)
    return _load_directories(root) if table is None else load_table(root, table)


def load_table(root: Path, table: Path) -> Dataset:
    """Read a table with path, fold, class and, where it has them, clip_id and source.

    Args:
        root: What the paths are relative to.
        table: The file.

    Raises:
        DatasetError: The table cannot be read or is wrong.
    """
    rows = read_table(table, COLUMNS.needed)
    optional = {name: name for name in ("clip_id", "source") if name in rows[0].cells}
    checked = check_clips(table, rows, replace(COLUMNS, **optional))
    return Dataset(_card(name_classes(table, checked.names)), root, checked.clips)


def _card(class_names: tuple[str, ...]) -> DatasetCard:
    return DatasetCard(
        name="folder",
        title="A directory of sounds",
        class_names=class_names,
        licence="unknown",
        citation="",
        url="",
    )


def _find_table(root: Path) -> Path | None:
    tables = [path for path in _visible(root) if path.suffix.lower() == ".csv" and path.is_file()]
    named = [path for path in tables if path.name == TABLE]
    if named:
        return named[0]
    return tables[0] if len(tables) == 1 else None


def _load_directories(root: Path) -> Dataset:
    files = [
        (fold, path) for fold, directory in _folds(root).items() for path in _audio_files(directory)
    ]
    if not files:
        raise DatasetError(_nothing_usable(root))
    class_names = tuple(sorted({path.parent.name for _, path in files}))
    class_ids = {name: number for number, name in enumerate(class_names)}
    clips = []
    for fold, path in files:
        name = _relative(root, path)
        class_id = class_ids[path.parent.name]
        clips.append(Clip(clip_id=name, path=name, fold=fold, class_id=class_id))
    return Dataset(_card(class_names), root, tuple(clips))


def _folds(root: Path) -> dict[int, Path]:
    """The directory of each fold, in the order of the folds."""
    folds: dict[int, Path] = {}
    for directory in filter(Path.is_dir, _visible(root)):
        match = _FOLD.fullmatch(directory.name)
        if match is None:
            raise DatasetError(
                f"{directory}: expected a fold's directory named by its number, such as 1, fold1 "
                f"or fold_1; rename it, move it away, or list the clips in {root / TABLE}"
            )
        fold = int(match[1])
        if fold in folds:
            raise DatasetError(
                f"{root}: both {folds[fold].name!r} and {directory.name!r} are fold {fold}; "
                "rename or merge one"
            )
        folds[fold] = directory
    return dict(sorted(folds.items()))


def _audio_files(fold: Path) -> Iterator[Path]:
    """The fold's `class/file`s, sorted; what is not audio, or not at that depth, is left out."""
    for directory in filter(Path.is_dir, _visible(fold)):
        for path in _visible(directory):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def _visible(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{directory}: cannot list the directory ({error.strerror})") from error


def _relative(root: Path, path: Path) -> str:
    name = path.relative_to(root).as_posix()
    # A name that is not UTF-8 reaches Python as lone surrogates, which no store can hold.
    if min(name) < " " or name.encode(errors="replace").decode() != name:
        raise DatasetError(
            f"{root}: the file name {name!r} is not UTF-8 or has control characters; rename it"
        )
    return name


def _nothing_usable(root: Path) -> str:
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    visible = (file for file in files if not any(part.startswith(".") for part in file.parts))
    found = ", ".join(sorted(repr(file.as_posix()) for file in islice(visible, MAX_SHOWN)))
    return (
        f"{root}: expected audio files at fold/class/file (such as fold1/dog/a.wav; "
        f"{' '.join(sorted(SUFFIXES))}) or one table {TABLE} with path, fold and class; "
        f"found no file of that kind, but: {found or 'nothing'}"
    )
