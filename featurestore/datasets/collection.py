"""Custom collections: a table of any kind, directories, or a data frame.

The table is `clips.csv`, else `metadata.csv|jsonl|parquet` (Hugging Face's AudioFolder), else the
only table in the root; it takes precedence over directories. The dataset's `understood` says how
everything was interpreted, so that a user can see it before anything is extracted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from featurestore.arguments import typed, typed_methods
from featurestore.cliplist import NO_ITEM, ClipList, texts
from featurestore.datasets.base import Dataset
from featurestore.datasets.clips import Columns, check_clips, name_classes
from featurestore.datasets.directories import (
    SPLIT_LAYOUT,
    find_clips,
    is_store,
)
from featurestore.datasets.finding import (
    ELSEWHERE,
    METADATA,
    TABLE,
    find_shards,
    find_split_tables,
    find_table,
    shards_in,
    table_below,
)
from featurestore.datasets.formats import any_table, frame_table
from featurestore.datasets.labels import comma_note, missing_note, table_labels
from featurestore.datasets.leftout import count_unlisted
from featurestore.datasets.ownfolds import FOLD_COLUMN, listed_folds, numbered_folds, with_folds
from featurestore.datasets.roles import assign_roles, other_candidates
from featurestore.datasets.shardrows import (
    END,
    IDENTITY,
    ITEM,
    MEMBER,
    SHARD,
    SPLIT,
    START,
    Shards,
)
from featurestore.datasets.splits import is_split
from featurestore.datasets.table import Table, quoted
from featurestore.errors import DatasetError
from featurestore.text import quantity
from schemas import Collection, DatasetCard

_LEGACY = ("path", "fold", "class")
_LOOKED_AT = 100
"""Number of rows whose files are looked for before a table is assumed to belong to the root."""
_MOST_COMPARED = 200_000
"""Maximum number of rows of a table for which the root is searched for unlisted sounds."""
_MOST_NAME = 60
_UNNAMED = "sounds"
_CLASS_COLUMN, _SPLIT_COLUMN = "class (directory)", "split (directory)"


@typed_methods
@dataclass(frozen=True)
class Naming:
    """Name and description of a custom collection; empty for the default.

    Attributes:
        name: Name of the dataset in a store; by default the name of the root directory.
        title: Human-readable title.
        licence: Licence of the sounds.
        citation: How to cite the dataset.
    """

    name: str = ""
    title: str = ""
    licence: str = ""
    citation: str = ""


@typed
def load_collection(
    root: Path,
    naming: Naming | None = None,
    how: Collection | None = None,
    table: Path | None = None,
) -> Dataset:
    """Read a custom collection.

    Args:
        root: Directory of the audio, which paths in the table are relative to; or a table or
            shard in that directory.
        naming: Name and description.
        how: Columns and folds; its `table` is a path below the root.
        table: Path of a table anywhere; by default one in the root.

    Raises:
        DatasetError: The collection cannot be read; the message says what was expected, what was
            found, and what to do.
    """
    how, naming = how or Collection(), naming or Naming()
    if root.is_file():
        stem = root.name.partition(".")[0]
        naming = naming if naming.name else replace(naming, name=_plain_name(stem))
        root, table = root.parent, root
    elif how.table:
        table = root / how.table
    if not root.is_dir():
        raise DatasetError(f"{root}: expected the directory of a collection; there is none")
    if table is not None and (shards := shards_in(root, table)):
        below = table.resolve().relative_to(root.resolve())
        how = how.model_copy(update={"table": below.as_posix()})
        return _from_shards(shards, root, naming, how)
    table_path = table or find_table(root)
    named = table_path is not None and table_path.name in (TABLE, *METADATA[:-1])
    if table is None and not named and (shards := find_shards(root)):
        return _from_shards(shards, root, naming, how)
    if table_path is None and (tables := find_split_tables(root)):
        return _from_split_tables(tables, root, naming, how)
    if table_path is None:
        return _from_directories(root, naming, how)
    how = how.model_copy(update={"table": table_below(root, table_path)})
    chooser = _Chooser(str(table_path), how)
    rows = any_table(table_path, chooser)
    return _from_table(rows, chooser, root, naming, how)


def load_folder(root: Path) -> Dataset:
    """Read a custom collection under the name `folder`, as all versions have called it.

    Raises:
        DatasetError: See `load_collection`.
    """
    card = {"name": "folder", "title": "A directory of sounds"}
    table = find_table(root)
    if table is None:
        return load_collection(root, Naming(**card))
    chooser = _Chooser(str(table), Collection(), legacy=True)
    rows = any_table(table, chooser)
    return _from_table(rows, chooser, root, Naming(**card), Collection())


@typed
def read_frame(
    frame: Any,  # noqa: ANN401  (pandas, Arrow or a mapping)
    root: Path | str,
    naming: Naming | None = None,
    how: Collection | None = None,
) -> Dataset:
    """Return the dataset listed in a pandas data frame, an Arrow table or a dict of columns.

    Args:
        frame: One row per clip; see `roles.OBVIOUS` for the names of columns.
        root: Directory that the paths are relative to.
        naming: Name and description.
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
            if column.startswith("("):  # where a clip is in its shard
                continue
            candidates = other_candidates(role, column, self.header)
            also = f" (and not {', '.join(map(repr, candidates))})" if candidates else ""
            if role == "start" and "end" not in self.roles:
                also += " (clips end where their files do)"
            sentences.append(f"{role} from {column!r}{also}")
        return ", ".join(sentences)


def _card(root: Path, naming: Naming, class_names: tuple[str, ...]) -> DatasetCard:
    name = naming.name or _plain_name(root.resolve().name)
    return DatasetCard(
        name=name,
        title=naming.title or f"Sounds of {name}",
        class_names=class_names,
        licence=naming.licence or "unknown",
        citation=naming.citation,
        url="",
    )


def _plain_name(place: str) -> str:
    """Return a name made of a directory's or file's that a store can have."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", place).strip("-_")
    return name[:_MOST_NAME] or _UNNAMED


def _from_directories(root: Path, naming: Naming, how: Collection) -> Dataset:
    if how.group_by or how.columns:
        raise DatasetError(
            f"{root}: columns are named, and there is no table: expected a {TABLE}, or one named "
            "with --table"
        )
    listing = find_clips(root)
    folds = sorted(set(listing.clips.fold.tolist()))
    own = None if listing.layout == "class/file" else listed_folds(folds, listing.fold_names)
    dataset = Dataset(
        _card(root, naming, listing.class_names),
        root,
        listing.clips,
        listing.left_out,
        listing.fold_names,
        how,
    )
    return with_folds(dataset, own, f"{listing.layout}")


def _from_split_tables(
    tables: Mapping[str, Path], root: Path, naming: Naming, how: Collection
) -> Dataset:
    """Return the dataset of a table in each split's directory, with paths relative to it."""
    chooser = _Chooser(f"{root}/*/{next(iter(tables.values())).name}", how)
    parts, columns, splits, places = [], [], [], []
    for split, path in tables.items():
        part = any_table(path, chooser)
        file = chooser.roles["path"]
        paths = np.strings.add(f"{split}/", part[file])
        parts.append({**part.columns, file: paths})
        columns.append(dict(chooser.roles))
        splits += [split] * len(part)
        places += [f"{split}/{path.name}, {part.unit} {line}" for line in part.lines.tolist()]
    if any(roles != columns[0] for roles in columns):
        raise DatasetError(
            f"{root}: the tables of {', '.join(tables)} have different columns; name the same ones "
            "in each"
        )
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rows = np.arange(len(places), dtype=np.int64)
    table = Table(root, rows, joined, place=lambda row: places[row])
    if not {"class", "labels"} & chooser.roles.keys():
        table, _ = _classes_of_directories(table, chooser.roles, chooser)
    if "fold" not in how.columns:
        chooser.roles = {**chooser.roles, "fold": _SPLIT_COLUMN}
        table = replace(table, columns={**table.columns, _SPLIT_COLUMN: texts(splits)})
    what = f"{len(tables)} tables, {next(iter(tables))}/{next(iter(tables.values())).name} …"
    return _from_table(table, chooser, root, naming, how, what=what)


def _from_shards(shards: Shards, root: Path, naming: Naming, how: Collection) -> Dataset:
    """Return the dataset of clips that lie in shards, or that cuts list."""
    columns = {"path": SHARD, "id": IDENTITY, **how.columns}
    if columns["path"] != SHARD:
        raise DatasetError(
            f"{root}: --columns path={columns['path']}: the sounds are in the shards "
            f"({shards.what}); leave out path"
        )
    if shards.has_parts:
        columns |= {"start": START, "end": END}
    if SPLIT in shards.header:
        columns.setdefault("fold", SPLIT)
    header = [*shards.header, SHARD, IDENTITY, *((START, END) if shards.has_parts else ())]
    obvious = assign_roles(str(root), header, columns)
    if classes := [name for name in shards.class_columns if name in header]:
        columns.setdefault("class", obvious.get("class", classes[0]))
    chooser = _Chooser(f"{root} ({shards.what})", how.model_copy(update={"columns": columns}))
    table = shards.read(chooser(header))
    dataset = _from_table(table, chooser, root, naming, how, shards)
    in_groups = shards.in_groups and dataset.has_shards
    return replace(dataset, in_groups=in_groups, left_out=shards.left_out)


def _from_table(
    table: Table,
    chooser: _Chooser,
    root: Path,
    naming: Naming,
    how: Collection,
    shards: Shards | None = None,
    what: str = "",
) -> Dataset:
    roles = chooser.roles
    if not {"class", "labels"} & roles.keys():
        table, roles = _classes_of_directories(table, roles, chooser)
    column = roles.get("class", roles.get("labels", ""))
    official = shards.class_names.get(column, ()) if shards else ()
    notes = [missing_note(table, roles)]
    commas = comma_note(table, roles)
    table, labels = table_labels(table, roles, official)
    table, own, fold_names = numbered_folds(table, roles.get("fold"))
    checked = check_clips(
        table,
        Columns(
            file=roles["path"],
            fold=roles.get("fold", FOLD_COLUMN),
            class_name=None if labels else roles.get("class", roles.get("labels")),
            clip_id=roles.get("id"),
            source=roles.get("group"),
            start=roles.get("start"),
            end=roles.get("end"),
            item=ITEM if shards and (table[ITEM] != str(NO_ITEM)).any() else None,
            class_names=official,
        ),
        labels,
    )
    names = name_classes(table.path, checked.names, official)
    _check_place(root, table, checked.clips, chooser)
    dataset = Dataset(
        _card(root, naming, names),
        root,
        checked.clips,
        fold_names=fold_names,
        collection=how,
        warnings=tuple(filter(None, [*notes, commas if labels else ""])),
    )
    if not shards and not chooser.legacy and len(table) <= _MOST_COMPARED:
        unlisted = count_unlisted(root, set(checked.clips.path.tolist()), is_store)
        if unlisted:
            text = f"{quantity(unlisted, 'sound')} that the table does not list"
            dataset = replace(dataset, left_out=(text,))
    what = what or (shards.what if shards else table.path.name)
    return with_folds(dataset, own, f"{what} ({chooser.described()})")


def _classes_of_directories(
    table: Table, roles: dict[str, str], chooser: _Chooser
) -> tuple[Table, dict[str, str]]:
    """Take the classes, and the splits, from the directories in the paths, as AudioFolder does."""
    column = MEMBER if MEMBER in table.columns else roles["path"]
    paths = [PurePosixPath(path) for path in table[column].tolist()]
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
        more[FOLD_COLUMN] = texts(splits)
        roles["fold"] = FOLD_COLUMN
    chooser.roles = roles
    return replace(table, columns={**table.columns, **more}), roles


def _check_place(root: Path, table: Table, clips: ClipList, chooser: _Chooser) -> None:
    """Refuse a table of which no file is below the root, unless it is the old kind."""
    if chooser.legacy:
        return
    first = clips.path[:_LOOKED_AT].tolist()
    if not any((root / path).exists() for path in first):
        count = f"none of the first {len(first)} files is" if len(first) > 1 else "the file is not"
        column = chooser.roles["path"]
        where = f"from the column {column!r}"
        cure = "or the right column with --columns path=COLUMN"
        if column == SHARD:
            where, cure = "as it is listed", "and name what lists them with --table"
        raise DatasetError(
            f"{table.path}: {count} below {root}, such as {quoted(first[0])}, "
            f"{where}. Paths are relative to the root: give the right --root, {cure}"
        )
