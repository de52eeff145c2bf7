"""Collections defined by directories alone: class/file, fold/class/file or split/class/file.

File names are never interpreted. Directories are splits only if all at that level have the name of
a split: ESC-50 has a class called `train`.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from featurestore.cliplist import TEXT, ClipList, texts
from featurestore.datasets.alike import alike_names, how_they_differ
from featurestore.datasets.leftout import (
    HIDDEN,
    LINKED,
    SUFFIXES,
    by_number,
    find_sounds,
    listed,
    why_not,
)
from featurestore.datasets.splits import is_split, number_splits
from featurestore.datasets.table import MAX_SHOWN
from featurestore.errors import DatasetError, cause
from featurestore.text import is_unicode

_FOLD = re.compile(r"(?:fold[ _-]?)?([0-9]{1,9})", re.IGNORECASE)
STORES = "Zarr stores"
FOLD_LAYOUT, CLASS_LAYOUT, SPLIT_LAYOUT = "fold/class/file", "class/file", "split/class/file"
_EXAMPLES = {
    FOLD_LAYOUT: "fold1/dog/a.wav",
    CLASS_LAYOUT: "dog/a.wav",
    SPLIT_LAYOUT: "train/dog/a.wav",
}


@dataclass(frozen=True)
class FoundClips:
    """The clips of a collection of directories.

    Attributes:
        clips: Sorted by fold and path.
        class_names: By class_id.
        layout: `FOLD_LAYOUT`, `CLASS_LAYOUT` or `SPLIT_LAYOUT`.
        fold_names: Names of the splits by fold number.
        left_out: Other files, counted by kind.
    """

    clips: ClipList
    class_names: tuple[str, ...]
    layout: str
    fold_names: dict[int, str]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Layout:
    """The directories that hold those of the classes, by fold."""

    name: str
    folds: dict[int, Path]
    fold_names: dict[int, str]

    @property
    def elsewhere(self) -> str:
        return f"sounds at another depth than {self.name}"


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
        return by_number(kinds)


def find_clips(root: Path) -> FoundClips:
    """Read the directories below a root.

    Args:
        root: The directory.

    Raises:
        DatasetError: The directories match none of the layouts, or a fold or class has no sound.
    """
    layout = _layout(root)
    scan = _scanned(root, layout)
    if not scan.files:
        raise DatasetError(_nothing_usable(root))
    class_names = tuple(sorted({path.parent.name for _, path in scan.files}))
    _refuse_alike(root, class_names)
    _refuse_empty(root, layout, scan)
    class_ids = {name: number for number, name in enumerate(class_names)}
    paths = texts(_relative(root, path) for _, path in scan.files)
    clips = ClipList(
        clip_id=paths,
        path=paths,
        fold=np.array([fold for fold, _ in scan.files], np.int64),
        class_id=np.array([class_ids[path.parent.name] for _, path in scan.files], np.int64),
        source=np.zeros(len(paths), TEXT),
    )
    return FoundClips(clips, class_names, layout.name, layout.fold_names, scan.kinds())


def _layout(root: Path) -> _Layout:
    """Return what the directories are, by their names and by where the sounds are in them."""
    tops = list(_directories(root))
    names = [top.name for top in tops]
    shallow = any(_has_sounds(top) for top in tops)
    deep = any(_has_sounds(inner) for top in tops for inner in _directories(top))
    if tops and all(map(is_split, names)):
        if not deep and shallow:
            raise DatasetError(
                f"{root}: the directories {', '.join(names[:MAX_SHOWN])} are named as splits, but "
                "hold sounds and no directories of classes. Expected split/class/file (such as "
                f"{_EXAMPLES[SPLIT_LAYOUT]}); if they are classes, or the classes stand in a "
                "table, list the clips in a clips.csv with path and class"
            )
        numbers = number_splits(names)
        folds = {numbers[top.name]: top for top in tops}
        return _Layout(
            SPLIT_LAYOUT, dict(sorted(folds.items())), {n: k for k, n in numbers.items()}
        )
    digits = all(name.isdecimal() for name in names)
    if all(map(_FOLD.fullmatch, names)) and (deep or not shallow or not digits):
        return _Layout(FOLD_LAYOUT, _folds(root, tops), {})
    if shallow:
        return _Layout(CLASS_LAYOUT, {1: root}, {})
    if not deep:
        raise DatasetError(_nothing_usable(root))
    raise _no_folds(root, tops)


def _no_folds(root: Path, tops: list[Path]) -> DatasetError:
    """Return the error for directories of directories that are neither folds nor splits."""
    other = next(top for top in tops if not _FOLD.fullmatch(top.name))
    inside = f"; or give --root {other}, if that is the collection" if len(tops) == 1 else ""
    return DatasetError(
        f"{other}: expected a fold's directory named by its number, such as 1, fold1 or fold_1, or "
        "directories that are all named as splits, such as train, valid and test, as the sounds "
        f"lie two levels down; rename it, move it away, or list the clips in "
        f"{root / 'clips.csv'}{inside}"
    )


def _directories(directory: Path) -> Iterator[Path]:
    """Yield the visible directories in one, but no stores."""
    for path in _entries(directory):
        if not path.name.startswith(".") and path.is_dir() and not is_store(path):
            yield path


def is_store(directory: Path) -> bool:
    """Return whether a directory is a Zarr store, such as one made here by an earlier build."""
    try:
        return (directory / "zarr.json").is_file() or (directory / ".zgroup").is_file()
    except PermissionError:  # whoever lists it is refused with a better message
        return False


def _has_sounds(directory: Path) -> bool:
    return any(not why_not(path) for path in _entries(directory))


def _scanned(root: Path, layout: _Layout) -> _Scan:
    scan = _Scan([], set(), Counter())
    if root not in layout.folds.values():
        for path in _entries(root):
            if is_store(path):
                scan.left_out[None, None, STORES] += 1
            elif path.name.startswith(".") or not path.is_dir():
                scan.left_out[None, None, why_not(path) or layout.elsewhere] += 1
    for fold, directory in layout.folds.items():
        in_fold = fold if layout.name != CLASS_LAYOUT else None
        for path in _entries(directory):
            if is_store(path):
                scan.left_out[in_fold, None, STORES] += 1
            elif path.name.startswith(".") or not path.is_dir():
                scan.left_out[in_fold, None, why_not(path) or layout.elsewhere] += 1
            else:
                scan.places.add((fold, path.name))
                _scan_class(scan, fold, path, layout.elsewhere)
    return scan


def _scan_class(scan: _Scan, fold: int, directory: Path, elsewhere: str) -> None:
    for path in _entries(directory):
        kind = why_not(path)
        if not kind:
            scan.files.append((fold, path))
        elif is_store(path):
            scan.left_out[fold, directory.name, STORES] += 1
        elif path.is_dir() and path.is_symlink() and kind != HIDDEN:
            scan.left_out[fold, directory.name, LINKED] += 1
        elif path.is_dir() and kind != HIDDEN:
            deeper = find_sounds(path)
            place = fold, directory.name
            scan.left_out[*place, elsewhere] += len(deeper.files)
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


def _refuse_empty(root: Path, layout: _Layout, scan: _Scan) -> None:
    """Refuse a fold or a class that yields nothing: it would vanish."""
    full_folds = {fold for fold, _ in scan.files}
    full_classes = {path.parent.name for _, path in scan.files}
    folds = sorted(set(layout.folds) - full_folds)
    classes = sorted({name for _, name in scan.places} - full_classes)
    named = {fold: repr(name) for fold, name in layout.fold_names.items()}
    empty = [(f"fold {named.get(fold, fold)}", scan.kinds(fold=fold)) for fold in folds]
    empty += [(f"class {name!r}", scan.kinds(name=name)) for name in classes]
    if not empty:
        return
    shown = "; ".join(f"{what} ({listed(kinds) or 'empty'})" for what, kinds in empty[:MAX_SHOWN])
    more = f"; and {len(empty) - MAX_SHOWN} more" if len(empty) > MAX_SHOWN else ""
    raise DatasetError(
        f"{root}: no usable sound file in {shown}{more}. Convert the files to WAV or FLAC, put "
        f"them at {layout.name}, or remove these directories"
    )


def _folds(root: Path, tops: list[Path]) -> dict[int, Path]:
    """Return the directory of each fold, in the order of the folds."""
    folds: dict[int, Path] = {}
    for directory in tops:
        fold = fold_number(directory.name)
        assert fold is not None, "the layout was seen to be that of folds"  # noqa: S101
        if fold in folds:
            raise DatasetError(
                f"{root}: both {folds[fold].name!r} and {directory.name!r} are fold {fold}; "
                "rename or merge one"
            )
        folds[fold] = directory
    return dict(sorted(folds.items()))


def fold_number(name: str) -> int | None:
    """Return the number in the name of a fold, such as 1, fold1, Fold_01; None for other names."""
    match = _FOLD.fullmatch(name)
    return None if match is None else int(match[1])


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        raise DatasetError(f"{directory}: cannot list the directory ({cause(error)})") from error


def _relative(root: Path, path: Path) -> str:
    name = path.relative_to(root).as_posix()
    # A name that is not UTF-8 reaches Python as lone surrogates, which no store can hold.
    if min(name) < " " or not is_unicode(name):
        raise DatasetError(
            f"{root}: the file name {name!r} is not UTF-8 or has control characters; rename it"
        )
    return name


def _nothing_usable(root: Path) -> str:
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    visible = (file for file in files if not any(part.startswith(".") for part in file.parts))
    listed = ", ".join(sorted(repr(file.as_posix()) for file in islice(visible, MAX_SHOWN)))
    return (
        f"{root}: expected audio files at fold/class/file, split/class/file or class/file (such "
        f"as {', '.join(_EXAMPLES.values())}; {' '.join(sorted(SUFFIXES))}) or one table "
        f"clips.csv with path and class; found no file of that kind, but: {listed or 'nothing'}"
    )
