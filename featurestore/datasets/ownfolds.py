"""Folds of a custom collection: its own, by number or name, or generated ones."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from featurestore.cliplist import TEXT, ClipList, address, factorize, texts
from featurestore.datasets.alike import alike_names
from featurestore.datasets.base import Dataset
from featurestore.datasets.directories import fold_number
from featurestore.datasets.folds import make_folds, make_multilabel_folds
from featurestore.datasets.labels import count_labels
from featurestore.datasets.splits import number_splits
from featurestore.datasets.table import Problems, Table, quoted
from featurestore.errors import DatasetError
from featurestore.text import quantity

FOLD_COLUMN = "fold (made)"
"""Name of the column of folds that is added to a table without one."""
_WHOLE = re.compile(r"(?<=[0-9])[.]0+$")


def numbered_folds(table: Table, column: str | None) -> tuple[Table, str | None, dict[int, str]]:
    """Return the table with numbered folds, the column of the folds, and the folds' names.

    Numbered folds keep their numbers, `fold3` is 3, and named folds are numbered from 1.
    """
    if column is None:
        return _with_column(table, FOLD_COLUMN, np.full(len(table), "1", TEXT)), None, {}
    codes, names = factorize(table[column])
    # pandas writes 1.0 where a fold is missing in another row.
    numbers = [fold_number(_WHOLE.sub("", name)) for name in names]
    fold_names: dict[int, str] = {}
    if all(number is not None for number in numbers):
        written = texts(str(number) for number in numbers)[codes]
        table = _with_column(table, column, written)
    elif all(number is None for number in numbers):
        problems = Problems.of(table)
        problems.add_where(table, table[column] == "", f"{column} is empty")
        problems.raise_any()
        for one, other in alike_names(names):
            problems.add_cells(table, column, table[column] == other, f"and also {quoted(one)}")
        problems.raise_any()
        of = number_splits(names)
        fold_names = {number: name for name, number in of.items()}
        table = _with_column(table, column, texts(str(of[name]) for name in names)[codes])
    folds = {int(name) for name in set(factorize(table[column])[1]) if name.isdecimal()}
    return table, listed_folds(sorted(folds), fold_names), fold_names


def _with_column(table: Table, name: str, values: NDArray[Any]) -> Table:
    return replace(table, columns={**table.columns, name: values})


def listed_folds(folds: Sequence[int], names: Mapping[int, str]) -> str:
    """Return the folds in words: their names, or their number."""
    if names:
        return f"folds {', '.join(names[fold] for fold in folds)}"
    return quantity(len(folds), "fold")


def with_folds(dataset: Dataset, own: str | None, what: str) -> Dataset:
    """Return the dataset with the requested folds, and with a note on them in `understood`."""
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
    classes = quantity(num_classes, "class")
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
    grouped = quantity(num_groups, "group") if num_groups < len(clips) else "each clip on its own"
    folds_text = f"{how.folds} folds made by {by} (seed {how.fold_seed}, {grouped})"
    warnings = (*dataset.warnings, *made.warnings)
    return replace(dataset, clips=replace(clips, fold=made.folds), warnings=warnings), folds_text


def clip_groups(clips: ClipList) -> NDArray[np.int64]:
    """Return the group of each clip, (n,): its recording, or the clip itself if that is unknown.

    Parts of the same file are in one group, whatever their `source`.
    """
    named = clips.source != ""
    places = clips.path
    if clips.item is not None:
        items = clips.item.tolist()
        places = texts(address(p, item=i) for p, i in zip(places.tolist(), items, strict=True))
    keys = np.where(named, np.strings.add("group ", clips.source), np.strings.add("clip ", places))
    groups, names = factorize(keys)
    if clips.start_s is None:
        return groups
    files, paths = factorize(places)
    size = len(names) + len(paths)
    links = coo_array((np.ones(len(clips)), (groups, len(names) + files)), shape=(size, size))
    return factorize(connected_components(links, directed=False)[1][groups])[0]
