"""WebDataset: tars in which members with the same key (`a.flac`, `a.json`) are one sample.

The headers are read once, and only small labels of the contents: planning reads no sound.
Source: the WebDataset format's specification, https://github.com/webdataset/webdataset.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featurestore.datasets.formats import cell_text, json_value
from featurestore.datasets.leftout import SUFFIXES, by_number
from featurestore.datasets.paths import path_fault
from featurestore.datasets.shardrows import (
    IDENTITY,
    ITEM,
    MEMBER,
    SHARD,
    RowGatherer,
    Shards,
    named_files,
    shard_table,
    with_splits,
)
from featurestore.datasets.table import quoted
from featurestore.errors import AudioError, DatasetError
from featurestore.extraction.shards.tar import BLOCK, Member, TarError, walk_tar
from featurestore.extraction.sources import clip_file, open_source
from featurestore.text import is_unicode

_JSON = frozenset(("json", "jsn"))
_TEXTS = frozenset(("cls", "class", "label", "labels", "txt", "text"))
_CLASSES = ("cls", "txt", "text")
"""Members that hold the class if the JSON does not."""
_MOST_LABEL_BYTES = 1 << 20
_ANY_SIZE = 2**62


def read_tars(root: Path, files: Iterable[str]) -> Shards:
    """Index tars.

    Args:
        root: Directory of the tars.
        files: Paths of the tars relative to the root.

    Raises:
        DatasetError: A file is damaged or not a tar, a label is invalid, or a sample occurs twice.
    """
    names = list(files)
    rows, left_out = RowGatherer(), Counter[str]()
    for file in names:
        for row in _rows(root, file, left_out):
            rows.add(row)
    columns = with_splits(root, rows.columns()) if len(rows) else {}
    header = [name for name in columns if not name.startswith("(")]
    return Shards(
        what=f"WebDataset, {named_files(names)}",
        header=header,
        read=lambda chosen: shard_table(
            root, {k: v for k, v in columns.items() if k in chosen or k.startswith("(")}
        ),
        class_names={},
        class_columns=_CLASSES,
        left_out=by_number(left_out),
    )


@contextmanager
def opened_tar(root: Path, file: str) -> Iterator[int]:
    """Open a tar and yield its descriptor; errors while it is read become DatasetError.

    Raises:
        DatasetError: The file cannot be opened, is damaged or not a tar.
    """
    try:
        descriptor, _ = open_source(clip_file(root, file), _ANY_SIZE)
    except AudioError as error:
        raise DatasetError(f"{root / file}: cannot read the tar ({error.detail})") from error
    try:
        yield descriptor
    except TarError as error:
        raise DatasetError(
            f"{root / file}: expected a whole tar, {error}; put the original back, or pack it again"
        ) from error
    finally:
        os.close(descriptor)


def key_and_suffix(name: str) -> tuple[str, str]:
    """Split a member's name into its key, up to the first dot of the file name, and the rest."""
    directory, slash, base = name.rpartition("/")
    key, _, suffix = base.partition(".")
    return f"{directory}{slash}{key}", suffix.lower()


def is_sound(suffix: str) -> bool:
    """Return whether a suffix, without the dot, is that of a sound."""
    return f".{suffix.rpartition('.')[2]}" in SUFFIXES


def _rows(root: Path, file: str, left_out: Counter[str]) -> Iterator[dict[str, str]]:
    """Yield a row for each sound of a tar, with the labels of its sample."""
    with opened_tar(root, file) as descriptor:
        yield from _rows_of(f"{root / file}", file, descriptor, left_out)


def _rows_of(
    tar: str, file: str, descriptor: int, left_out: Counter[str]
) -> Iterator[dict[str, str]]:
    seen: set[str] = set()
    for key, members in _samples(tar, descriptor, left_out):
        where = f"{tar}, {quoted(key)}"
        if key in seen:
            raise DatasetError(
                f"{where}: the sample is there twice, with others in between; sort the tar's "
                "members by name"
            )
        seen.add(key)
        labels: dict[str, str] = {}
        sounds = []
        for suffix, member in members:
            if is_sound(suffix):
                sounds.append(member)
            elif suffix in _JSON or suffix in _TEXTS:
                labels |= _labels(where, suffix, _contents(where, descriptor, member))
            else:
                left_out[f"with suffix .{suffix}" if suffix else "without a suffix"] += 1
        if not sounds:
            left_out["labels without a sound"] += 1
        for member in sounds:
            yield {
                SHARD: file,
                ITEM: str(member.at),
                IDENTITY: f"{file}#{member.name}",
                MEMBER: member.name,
                **labels,
            }


def _samples(
    tar: str, descriptor: int, left_out: Counter[str]
) -> Iterator[tuple[str, list[tuple[str, Member]]]]:
    """Yield each run of members of one key, with what is behind its dot."""
    last: str | None = None
    members: list[tuple[str, Member]] = []
    for member in walk_tar(descriptor):
        base = member.name.rpartition("/")[2]
        if member.other == "directories" or (base.startswith("__") and base.endswith("__")):
            continue  # WebDataset's own notes
        if member.other or base.startswith("."):
            left_out[member.other or "hidden"] += 1
            continue
        key, suffix = key_and_suffix(member.name)
        if key != last and last is not None:
            yield last, members
            members = []
        check_name(tar, member.name)
        if any(suffix == known for known, _ in members):
            raise DatasetError(
                f"{tar}: the member {quoted(member.name)} is there twice; pack it again"
            )
        last = key
        members.append((suffix, member))
    if last is not None:
        yield last, members


def check_name(tar: str, name: str) -> None:
    """Refuse unsafe names: nothing is unpacked here, but users of the clip ids may do so.

    Raises:
        DatasetError: The name is not UTF-8, or leads out of its directory.
    """
    fault = path_fault(name)
    if fault is None and not is_unicode(name):
        fault = "which is not UTF-8"
    if fault:
        raise DatasetError(f"{tar}: a member is named {quoted(name)}, {fault}; pack it again")


def _contents(where: str, descriptor: int, member: Member) -> str:
    if member.size > _MOST_LABEL_BYTES:
        raise DatasetError(
            f"{where}: the label {quoted(member.name)} has {member.size} bytes, expected at most "
            f"{_MOST_LABEL_BYTES}"
        )
    data = os.pread(descriptor, member.size, member.at + BLOCK)
    try:
        return data.decode().strip()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where}: the label {quoted(member.name)} is not UTF-8 text") from error


def _labels(where: str, suffix: str, text: str) -> Mapping[str, str]:
    """Return columns from a label's contents: JSON's keys, or the text under its suffix."""
    if suffix not in _JSON:
        return {suffix: text}
    try:
        value = json_value(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: the .{suffix} cannot be read as JSON ({error})") from error
    return json_cells(value if isinstance(value, dict) else {suffix: value})


def json_cells(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the strings, numbers and lists of a JSON object as cells, without nested objects."""
    cells = {}
    for name, value in values.items():
        if name.startswith("("):
            continue
        try:
            cells[name] = cell_text(value)
        except TypeError:
            continue
    return cells
