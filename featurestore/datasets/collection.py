"""A collection of one's own: a table of any kind, directories, or a data frame.

The table is `clips.csv`, else `metadata.csv|jsonl|parquet` (Hugging Face's AudioFolder), else the
root's only table; it goes before directories. What was understood is said in the dataset's
`understood`, so that a user can see it before anything is extracted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from featurestore.cliplist import TEXT, ClipList, factorize, texts
from featurestore.datasets.base import Dataset
from featurestore.datasets.clips import Columns, check_clips, name_classes
from featurestore.datasets.directories import (
    SPLIT_LAYOUT,
    find_clips,
    fold_number,
)
from featurestore.datasets.folds import make_folds, make_multilabel_folds
from featurestore.datasets.formats import SUFFIXES, any_table, frame_table
from featurestore.datasets.labels import comma_note, count_labels, table_labels
from featurestore.datasets.roles import assign_roles, other_candidates
from featurestore.datasets.splits import is_split, number_splits
from featurestore.datasets.table import Problems, Table, quoted
from featurestore.errors import DatasetError
from schemas import Collection, DatasetCard

TABLE = "clips.csv"
ELSEWHERE = "-"
"""`Collection.table` of a table that is not below the root, and of a data frame."""
_METADATA = tuple(f"metadata{suffix}" for suffix in (".csv", ".jsonl", ".parquet"))
_LEGACY = ("path", "fold", "class")
_LOOKED_AT = 100
"""Rows whose files are looked for before a table is taken to be of this root."""
_MOST_NAME = 60
_UNNAMED = "sounds"
_FOLD_COLUMN, _CLASS_COLUMN = "fold (made)", "class (directory)"


@dataclass(frozen=True)
class Naming:
    """What a user calls a collection; empty is the default.

    Attributes:
        name: Name of the dataset in a store; that of the root's directory by default.
        title: For people.
        licence: Under which the sounds may be used.
        citation: How to cite them.
    """

    name: str = ""
    title: str = ""
    licence: str = ""
    citation: str = ""


def load_collection(
    root: Path,
    naming: Naming | None = None,
    how: Collection | None = None,
    table: Path | None = None,
) -> Dataset:
    """Read a collection of one's own.

    Args:
        root: Its directory; paths in its table are relative to it.
        naming: What it is called.
        how: Columns and folds; `table` in it is a path below the root.
        table: A table anywhere; by default one in the root.

    Raises:
        DatasetError: It cannot be read; says what was expected, what was found, and what to do.
    """
    how, naming = how or Collection(), naming or Naming()
    if not root.is_dir():
        raise DatasetError(f"{root}: expected the directory of a collection; there is none")
    table = table or (root / how.table if how.table else _find_table(root))
    if table is None:
        return _from_directories(root, naming, how)
    how = how.model_copy(update={"table": _below(root, table)})
    chooser = _Chooser(str(table), how)
    rows = any_table(table, chooser)
    return _from_table(rows, chooser, root, naming, how)


def load_folder(root: Path) -> Dataset:
    """Read a collection as the dataset `folder`, as every version has named it.

    Raises:
        DatasetError: See `load_collection`.
    """
    card = {"name": "folder", "title": "A directory of sounds"}
    table = _find_table(root)
    if table is None:
        return load_collection(root, Naming(**card))
    chooser = _Chooser(str(table), Collection(), legacy=True)
    rows = any_table(table, chooser)
    return _from_table(rows, chooser, root, Naming(**card), Collection())


def read_frame(
    frame: Any,  # noqa: ANN401  (pandas, Arrow or a mapping)
    root: Path | str,
    naming: Naming | None = None,
    how: Collection | None = None,
) -> Dataset:
    """Return a dataset of the clips in a pandas data frame, an Arrow table or a dict of columns.

    Args:
        frame: One row per clip; see `roles.OBVIOUS` for the columns.
        root: Directory that the paths are relative to.
        naming: What it is called.
        how: Columns by role, and folds to make.

    Raises:
        DatasetError: A column is missing, or a row is wrong.
    """
    how = (how or Collection()).model_copy(update={"table": ELSEWHERE})
    chooser = _Chooser("the data frame", how)
    rows = frame_table(frame, chooser, "the data frame")
    return _from_table(rows, chooser, Path(root), naming or Naming(), how)


@dataclass
class _Chooser:
    """Takes the columns that are needed from a table's header, and remembers what is what."""

    where: str
    how: Collection
    legacy: bool = False
    header: Sequence[str] = ()
    roles: dict[str, str] = field(default_factory=dict)

    def __call__(self, header: Sequence[str]) -> list[str]:
        self.header = header
        if self.legacy and set(_LEGACY) <= set(header):
            self.roles = {name: name for name in _LEGACY}
            optional = {"id": "clip_id", "group": "source"}
            self.roles |= {role: name for role, name in optional.items() if name in header}
        else:
            self.roles = assign_roles(self.where, header, self.how.columns)
        if column := self.how.group_by:
            if column not in header:
                raise DatasetError(
                    f"{self.where}: there is no column {quoted(column)} to group by; the table "
                    f"has: {', '.join(map(quoted, header))}"
                )
            self.roles["group"] = column
        return list(self.roles.values())

    def described(self) -> str:
        """Return which columns were taken, in words."""
        sentences = []
        for role, column in self.roles.items():
            candidates = other_candidates(role, column, self.header)
            also = f" (and not {', '.join(map(repr, candidates))})" if candidates else ""
            sentences.append(f"{role} from {column!r}{also}")
        return ", ".join(sentences)


def _find_table(root: Path) -> Path | None:
    """Return the root's table, if one stands out."""
    files = [
        path
        for path in sorted(root.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    for name in (TABLE, *_METADATA):
        if named := [path for path in files if path.name == name]:
            return named[0]
    commas = [path for path in files if path.suffix.lower() == ".csv"]
    for tables in (commas, files):
        if len(tables) == 1:
            return tables[0]
    return None


def _below(root: Path, table: Path) -> str:
    """Return a table's path below the root, for the record; empty if it is found by itself."""
    if table == _find_table(root):
        return ""
    inside = table.resolve().is_relative_to(root.resolve())
    return table.resolve().relative_to(root.resolve()).as_posix() if inside else ELSEWHERE


def _card(root: Path, naming: Naming, class_names: tuple[str, ...]) -> DatasetCard:
    name = naming.name or _plain_name(root)
    return DatasetCard(
        name=name,
        title=naming.title or f"Sounds of {name}",
        class_names=class_names,
        licence=naming.licence or "unknown",
        citation=naming.citation,
        url="",
    )


def _plain_name(root: Path) -> str:
    """Return a name made of a directory's that a store can have."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", root.resolve().name).strip("-_")
    return name[:_MOST_NAME] or _UNNAMED


def _from_directories(root: Path, naming: Naming, how: Collection) -> Dataset:
    if how.group_by or how.columns:
        raise DatasetError(
            f"{root}: columns are named, and there is no table: expected a {TABLE}, or one named "
            "with --table"
        )
    listing = find_clips(root)
    folds = sorted(set(listing.clips.fold.tolist()))
    own = None if listing.layout == "class/file" else _listed_folds(folds, listing.fold_names)
    dataset = Dataset(
        _card(root, naming, listing.class_names),
        root,
        listing.clips,
        listing.left_out,
        listing.fold_names,
        how,
    )
    return _with_folds(dataset, own, f"{listing.layout}")


def _listed_folds(folds: Sequence[int], names: Mapping[int, str]) -> str:
    if names:
        return f"folds {', '.join(names[fold] for fold in folds)}"
    return f"{len(folds)} fold{'s' * (len(folds) != 1)}"


def _from_table(
    table: Table, chooser: _Chooser, root: Path, naming: Naming, how: Collection
) -> Dataset:
    roles = chooser.roles
    if not {"class", "labels"} & roles.keys():
        table, roles = _classes_of_directories(table, roles, chooser)
    note = comma_note(table, roles)
    table, labels = table_labels(table, roles)
    table, own, fold_names = _numbered_folds(table, roles.get("fold"))
    checked = check_clips(
        table,
        Columns(
            file=roles["path"],
            fold=roles.get("fold", _FOLD_COLUMN),
            class_name=None if labels else roles.get("class", roles.get("labels")),
            clip_id=roles.get("id"),
            source=roles.get("group"),
            start=roles.get("start"),
            end=roles.get("end"),
        ),
        labels,
    )
    names = name_classes(table.path, checked.names)
    _check_place(root, table, checked.clips, chooser)
    dataset = Dataset(
        _card(root, naming, names),
        root,
        checked.clips,
        fold_names=fold_names,
        collection=how,
        warnings=(note,) if labels and note else (),
    )
    return _with_folds(dataset, own, f"{table.path.name} ({chooser.described()})")


def _classes_of_directories(
    table: Table, roles: dict[str, str], chooser: _Chooser
) -> tuple[Table, dict[str, str]]:
    """Take the classes, and the splits, from the directories in the paths, as AudioFolder does."""
    paths = [PurePosixPath(path) for path in table[roles["path"]].tolist()]
    if not all(len(path.parts) > 1 for path in paths):
        raise DatasetError(
            f"{table.path}: no column says which class a clip is of, and not every path has a "
            f"directory; the table has: {', '.join(map(quoted, chooser.header))}. Name it: "
            "--columns class=COLUMN"
        )
    more = {_CLASS_COLUMN: texts(path.parent.name for path in paths)}
    roles = {**roles, "class": _CLASS_COLUMN}
    splits = [path.parts[0] for path in paths]
    if "fold" not in roles and all(map(is_split, set(splits))):
        if any(len(path.parts) <= SPLIT_LAYOUT.count("/") for path in paths):
            raise DatasetError(
                f"{table.path}: no column says which class a clip is of, and the directories in "
                f"{roles['path']} are named as splits. Name it: --columns class=COLUMN"
            )
        more[_FOLD_COLUMN] = texts(splits)
        roles["fold"] = _FOLD_COLUMN
    chooser.roles = roles
    return replace(table, columns={**table.columns, **more}), roles


def _numbered_folds(table: Table, column: str | None) -> tuple[Table, str | None, dict[int, str]]:
    """Return the table with a number in each fold's cell, what its folds are, and their names.

    Folds that are numbered keep their numbers, `fold3` is 3, and names are numbered from 1.
    """
    if column is None:
        return _with_column(table, _FOLD_COLUMN, np.full(len(table), "1", TEXT)), None, {}
    codes, names = factorize(table[column])
    numbers = [fold_number(name) for name in names]
    fold_names: dict[int, str] = {}
    if all(number is not None for number in numbers):
        written = texts(str(number) for number in numbers)[codes]
        table = _with_column(table, column, written)
    elif all(number is None for number in numbers):
        problems = Problems(table.path, table.unit)
        problems.add_where(table, table[column] == "", f"{column} is empty")
        problems.raise_any()
        of = number_splits(names)
        fold_names = {number: name for name, number in of.items()}
        table = _with_column(table, column, texts(str(of[name]) for name in names)[codes])
    folds = {int(name) for name in set(factorize(table[column])[1]) if name.isdecimal()}
    return table, _listed_folds(sorted(folds), fold_names), fold_names


def _with_column(table: Table, name: str, values: NDArray[Any]) -> Table:
    return replace(table, columns={**table.columns, name: values})


def _check_place(root: Path, table: Table, clips: ClipList, chooser: _Chooser) -> None:
    """Refuse a table of which no file is below the root, unless it is the old kind."""
    if chooser.legacy:
        return
    first = clips.path[:_LOOKED_AT].tolist()
    if not any((root / path).exists() for path in first):
        count = f"none of the first {len(first)} files" if len(first) > 1 else "the file is not"
        verb = "is" if len(first) > 1 else ""
        raise DatasetError(
            f"{table.path}: {count} {verb} below {root}, such as {quoted(first[0])}, from the "
            f"column {chooser.roles['path']!r}. Paths are relative to the root: give the right "
            "--root, or the right column with --columns path=COLUMN"
        )


def _with_folds(dataset: Dataset, own: str | None, what: str) -> Dataset:
    """Return the dataset with the folds that were asked for, and with what was understood."""
    how = dataset.collection
    folds_text = own or "no folds, so all clips are in fold 1 (--folds 5 makes five)"
    if how.folds and own is not None:
        raise DatasetError(
            f"{dataset.root}: the collection has {own} of its own ({what}), and {how.folds} are "
            "asked for; leave out --folds, or say that no column is the folds': --columns fold="
        )
    if how.folds == 1:
        raise DatasetError("--folds: expected at least 2, got 1")
    if how.folds:
        dataset, folds_text = _with_made_folds(dataset)
    elif how.group_by and own is None:
        raise DatasetError("--group-by is for folds to be made: give --folds, too")
    num_classes, labels = len(dataset.card.class_names), dataset.clips.labels
    classes = f"{num_classes} class{'es' * (num_classes != 1)}"
    if labels is not None:
        classes += f"; {count_labels(labels)}"
    return replace(dataset, understood=(what, classes, folds_text))


def _with_made_folds(dataset: Dataset) -> tuple[Dataset, str]:
    """Return the dataset with folds made as its `collection` says, and how, in words."""
    how, clips = dataset.collection, dataset.clips
    groups = clip_groups(clips)
    names = dataset.card.class_names
    if clips.labels is None:
        made = make_folds(clips.class_id, groups, how.folds, how.fold_seed, names)
    else:
        made = make_multilabel_folds(clips.labels, groups, how.folds, how.fold_seed, names)
    by = "class" if clips.labels is None else "labels"
    num_groups = int(groups.max()) + 1
    grouped = f"{num_groups} groups" if num_groups < len(clips) else "each clip on its own"
    folds_text = f"{how.folds} folds made by {by} (seed {how.fold_seed}, {grouped})"
    warnings = (*dataset.warnings, *made.warnings)
    return replace(dataset, clips=replace(clips, fold=made.folds), warnings=warnings), folds_text


def clip_groups(clips: ClipList) -> NDArray[np.int64]:
    """Return the number of each clip's group: its recording, or itself where that is unknown.

    Parts of one file are in one group, whatever their recordings are called.
    """
    named = clips.source != ""
    keys = np.where(
        named, np.strings.add("group ", clips.source), np.strings.add("clip ", clips.path)
    )
    groups, names = factorize(keys)
    if clips.start_s is None:
        return groups
    files, paths = factorize(clips.path)
    size = len(names) + len(paths)
    links = coo_array((np.ones(len(clips)), (groups, len(names) + files)), shape=(size, size))
    return factorize(connected_components(links, directed=False)[1][groups])[0]
