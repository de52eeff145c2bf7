"""Any directory as a dataset: `fold/class/file`, or a CSV with path, fold and class.

The CSV is `clips.csv`, or the root's only one; it goes before directories.
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from featurestore.cliplist import TEXT, ClipList, texts
from featurestore.datasets.alike import alike_names, how_they_differ
from featurestore.datasets.base import Dataset
from featurestore.datasets.clips import Columns, check_clips, name_classes
from featurestore.datasets.leftout import (
    HIDDEN,
    LINKED,
    SUFFIXES,
    find_sounds,
    listed,
    told,
    why_not,
)
from featurestore.datasets.table import MAX_SHOWN, read_table
from featurestore.errors import DatasetError
from schemas import DatasetCard

TABLE = "clips.csv"
COLUMNS = Columns(file="path", fold="fold", class_name="class")
_ELSEWHERE = "sounds at another depth than fold/class/file"
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
    rows = read_table(table, COLUMNS.needed, ("clip_id", "source"))
    optional = {name: name for name in ("clip_id", "source") if name in rows.columns}
    checked = check_clips(rows, replace(COLUMNS, **optional))
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


@dataclass
class _Scan:
    """Result of a scan of the directories."""

    files: list[tuple[int, Path]]
    places: set[tuple[int, str]]
    """Fold and class of each directory that may hold sounds."""
    left_out: Counter[tuple[int | None, str | None, str]]
    """Number of files left out, by fold, class and kind."""

    def kinds(self, fold: int | None = None, name: str | None = None) -> tuple[str, ...]:
        """Return what was left out of a fold, or a class, or everywhere."""
        kinds: Counter[str] = Counter()
        for (in_fold, in_class, kind), number in self.left_out.items():
            if fold in (None, in_fold) and name in (None, in_class):
                kinds[kind] += number
        return told(kinds)


def _load_directories(root: Path) -> Dataset:
    scan = _scanned(root)
    if not scan.files:
        raise DatasetError(_nothing_usable(root))
    class_names = tuple(sorted({path.parent.name for _, path in scan.files}))
    _refuse_alike(root, class_names)
    _refuse_empty(root, scan)
    class_ids = {name: number for number, name in enumerate(class_names)}
    paths = texts(_relative(root, path) for _, path in scan.files)
    clips = ClipList(
        clip_id=paths,
        path=paths,
        fold=np.array([fold for fold, _ in scan.files], np.int64),
        class_id=np.array([class_ids[path.parent.name] for _, path in scan.files], np.int64),
        source=np.zeros(len(paths), TEXT),
    )
    return Dataset(_card(class_names), root, clips, scan.kinds())


def _scanned(root: Path) -> _Scan:
    scan = _Scan([], set(), Counter())
    folds = _folds(root)
    for path in _entries(root):
        if path.name.startswith(".") or not path.is_dir():
            scan.left_out[None, None, why_not(path) or _ELSEWHERE] += 1
    for fold, directory in folds.items():
        for path in _entries(directory):
            if path.name.startswith(".") or not path.is_dir():
                scan.left_out[fold, None, why_not(path) or _ELSEWHERE] += 1
            else:
                scan.places.add((fold, path.name))
                _scan_class(scan, fold, path)
    return scan


def _scan_class(scan: _Scan, fold: int, directory: Path) -> None:
    for path in _entries(directory):
        kind = why_not(path)
        if not kind:
            scan.files.append((fold, path))
        elif path.is_dir() and path.is_symlink() and kind != HIDDEN:
            scan.left_out[fold, directory.name, LINKED] += 1
        elif path.is_dir() and kind != HIDDEN:
            deeper = find_sounds(path)
            place = fold, directory.name
            scan.left_out[*place, _ELSEWHERE] += len(deeper.files)
            for left in deeper.left_out:
                number, _, other = left.partition(" ")
                scan.left_out[*place, other] += int(number)
        else:
            scan.left_out[fold, directory.name, kind] += 1


def _refuse_alike(root: Path, class_names: tuple[str, ...]) -> None:
    for one, other in alike_names(class_names):
        raise DatasetError(
            f"{root}: the classes {how_they_differ(one, other)}: if they are one class, give their "
            "directories one name"
        )


def _refuse_empty(root: Path, scan: _Scan) -> None:
    """Refuse a fold or a class that yields nothing: it would vanish."""
    full_folds = {fold for fold, _ in scan.files}
    full_classes = {path.parent.name for _, path in scan.files}
    folds = sorted(set(_folds(root)) - full_folds)
    classes = sorted({name for _, name in scan.places} - full_classes)
    empty = [(f"fold {fold}", scan.kinds(fold=fold)) for fold in folds]
    empty += [(f"class {name!r}", scan.kinds(name=name)) for name in classes]
    if not empty:
        return
    shown = "; ".join(f"{what} ({listed(kinds) or 'empty'})" for what, kinds in empty[:MAX_SHOWN])
    more = f"; and {len(empty) - MAX_SHOWN} more" if len(empty) > MAX_SHOWN else ""
    raise DatasetError(
        f"{root}: no usable sound file in {shown}{more}. Convert the files to WAV or FLAC, put "
        "them at fold/class/file, or remove these directories"
    )


def _folds(root: Path) -> dict[int, Path]:
    """Return the directory of each fold, in the order of the folds."""
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


def _visible(directory: Path) -> list[Path]:
    return [path for path in _entries(directory) if not path.name.startswith(".")]


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
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
