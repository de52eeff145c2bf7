"""lhotse: manifests of cuts in JSON Lines, and shar, where the recordings lie in tars next to them.

A cut must be a part of one recording that is a file or a member of its shar. Any other cut (mixed,
padded, from another kind of source, or transformed on the fly) is refused by name. Labels come from
the supervisions and `custom`. The ids of cuts change from export to export and are not used.
"""

import gzip
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from featurestore.cliplist import NO_ITEM, address
from featurestore.datasets.formats import json_value
from featurestore.datasets.shardrows import (
    END,
    IDENTITY,
    ITEM,
    PLACE,
    SHARD,
    START,
    RowGatherer,
    Shards,
    named_files,
    relative_path,
    shard_table,
    with_splits,
)
from featurestore.datasets.table import opened_bytes, quoted
from featurestore.datasets.webdataset import (
    check_name,
    is_sound,
    json_cells,
    key_and_suffix,
    opened_tar,
)
from featurestore.errors import DatasetError
from featurestore.extraction.shards.tar import Member, walk_tar

SUFFIXES = (".jsonl", ".jsonl.gz")
_SIMPLE = ("MonoCut", "MultiCut")
_KINDS = (*_SIMPLE, "MixedCut", "PaddingCut", "DataCut")
_TEXTS = ("text", "speaker", "language", "gender")
"""Fields of a supervision that are labels."""
_MOST_LINE = 1 << 24
_MOST_BYTES = 8 << 30
"""Maximum size in bytes of a decompressed manifest."""
_MOST_UNPACKED = 200
"""Maximum ratio of that size to the compressed one."""
_MOST_BLANK = 1000
"""Maximum number of consecutive blank lines."""
_MOST_NUMBER = 1e12
"""Exclusive upper limit of seconds and sample rates."""
_DIGITS = 8
"""Decimal digits of a time in seconds; lhotse rounds to the same number."""


def is_cuts(path: Path) -> bool:
    """Return whether a file is a manifest of cuts, judging by its first line."""
    try:
        for _, value in _lines(path):
            return value.get("type") in _KINDS or ("recording" in value and "start" in value)
    except DatasetError:
        return False
    return False


def read_cuts(root: Path, files: Iterable[str]) -> Shards:
    """Read manifests of cuts.

    Args:
        root: Directory of the manifests, which paths of recordings are relative to.
        files: Paths of the manifests, relative to the root.

    Raises:
        DatasetError: A manifest is damaged, or a cut is not simply a part of a recording.
    """
    names = list(files)
    rows = RowGatherer()
    for file in names:
        for row in _rows(root, file):
            rows.add(row)
    columns = _with_splits(root, rows) if len(rows) else {}
    whole = all((columns[name] == "").all() for name in (START, END)) if columns else True
    return Shards(
        what=f"lhotse cuts, {named_files(names)}",
        header=[name for name in columns if not name.startswith("(")],
        read=lambda chosen: shard_table(
            root, {k: v for k, v in columns.items() if k in chosen or k.startswith("(")}
        ),
        class_names={},
        class_columns=("text",),
        has_parts=not whole,
    )


def _with_splits(root: Path, rows: RowGatherer) -> dict[str, Any]:
    """Return the columns, with the splits that the manifests are named by."""
    columns = rows.columns()
    manifests = columns.pop(_MANIFEST)
    shards = columns[SHARD]
    columns = with_splits(root, {**columns, SHARD: manifests})
    return {**columns, SHARD: shards}


_MANIFEST = "(manifest)"


def _rows(root: Path, file: str) -> Iterator[dict[str, str]]:
    members = _shar_members(root, file)
    for line, cut in _lines(root / file):
        where = f"{root / file}, line {line}"
        recording = _recording(where, cut)
        span = _span(where, cut, recording)
        member = next(members, None) if members is not None else None
        place = _place(root, where, cut, member, span)
        yield {
            _MANIFEST: file,
            PLACE: f"{file}, line {line}",
            **_labels(cut, recording),
            **span,
            **place,
        }
    if members is not None and (left := next(members, None)):
        raise DatasetError(
            f"{root / left[0]}: has more recordings than {file} has cuts, such as "
            f"{quoted(left[2].name)}; export the shar again"
        )


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line."""
    with opened_bytes(path) as packed:
        file = gzip.GzipFile(fileobj=packed) if path.suffix == ".gz" else packed
        line = total = blank = 0
        # Packed JSON is ten to fifty times as long; what is packed to harm, a thousand times.
        most = min(_MOST_BYTES, _MOST_LINE + _MOST_UNPACKED * os.fstat(packed.fileno()).st_size)
        try:
            while text := file.readline(_MOST_LINE):
                line += 1
                total += len(text)
                blank = 0 if text.strip() else blank + 1
                if len(text) == _MOST_LINE or total > most or blank > _MOST_BLANK:
                    raise DatasetError(f"{path}, line {line}: the manifest is too long to be one")
                if not text.strip():
                    continue
                value = json_value(text)
                if not isinstance(value, dict):
                    raise DatasetError(f"{path}, line {line}: expected a JSON object")
                yield line, value
        except (ValueError, RecursionError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DatasetError(
                f"{path}, line {line}: expected one JSON object per line ({error})"
            ) from error


def _recording(where: str, cut: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the recording of a cut that is a part of it, unchanged.

    Raises:
        DatasetError: The cut is anything else.
    """
    kind = cut.get("type")
    recording = cut.get("recording")
    if kind not in _SIMPLE:
        raise DatasetError(
            f"{where}: is a {kind if isinstance(kind, str) else 'line without a type'}, expected "
            f"{' or '.join(_SIMPLE)}, a part of one recording; store the cuts before they are "
            "mixed or padded, or save their sounds (CutSet.save_audios)"
        )
    if not isinstance(recording, dict):
        raise DatasetError(f"{where}: the cut has no recording; features alone are not read")
    if changes := recording.get("transforms"):
        names = [str(c.get("name")) if isinstance(c, dict) else str(c) for c in changes]
        raise DatasetError(
            f"{where}: the recording is changed on the fly ({', '.join(names)[:80]}); save the "
            "sounds (CutSet.save_audios), or store the cuts as they were before"
        )
    channels, all_channels = (
        _channels(c) for c in (cut.get("channel"), recording.get("channel_ids"))
    )
    if channels is not None and all_channels is not None and set(channels) != set(all_channels):
        raise DatasetError(
            f"{where}: the cut takes channel {', '.join(channels)} of "
            f"{', '.join(all_channels)}, and a clip has the mean of all; save the sounds "
            "(CutSet.save_audios)"
        )
    return recording


def _channels(value: object) -> list[str] | None:
    """Return channels as texts: what is no number equals none that is."""
    if value is None:
        return None
    return [str(channel) for channel in (value if isinstance(value, list) else [value])]


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < _MOST_NUMBER


def _span(where: str, cut: Mapping[str, Any], recording: Mapping[str, Any]) -> dict[str, str]:
    """Return where a cut starts and ends in its recording; empty of all of it."""
    start: Any = cut.get("start")
    duration: Any = cut.get("duration")
    length: Any = recording.get("duration")
    rate: Any = recording.get("sampling_rate")
    numbers = (start, duration, length, rate)
    if not all(map(_is_number, numbers)) or not (duration and rate):
        raise DatasetError(
            f"{where}: expected start, duration, and the recording's duration and sampling_rate "
            f"(each below 10^12) as numbers, got {', '.join(repr(n)[:40] for n in numbers)}"
        )
    end = round(start + duration, _DIGITS)
    if start == 0 and abs(length - end) * rate < 1:
        return {START: "", END: ""}
    return {START: repr(float(start)), END: repr(float(end))}


def _place(
    root: Path,
    where: str,
    cut: Mapping[str, Any],
    member: tuple[str, int, Member] | None,
    span: Mapping[str, str],
) -> dict[str, str]:
    """Return the file that a cut's recording is, or in which it lies."""
    sources = cut["recording"].get("sources")
    source = sources[0] if isinstance(sources, list) and len(sources) == 1 else {}
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "shar" and member is not None:
        tar, number, entry = member
        if not entry.name.startswith(f"{cut.get('id')}."):
            raise DatasetError(
                f"{where}: the cut is {quoted(str(cut.get('id')))}, and the next recording in "
                f"{tar} is {quoted(entry.name)}; export the shar again"
            )
        return {SHARD: tar, ITEM: str(entry.at), IDENTITY: f"{tar}#{number}"}
    path = source.get("source") if isinstance(source, dict) else None
    if kind == "file" and not isinstance(path, str):
        raise DatasetError(
            f"{where}: the recording's source is {quoted(repr(path))}, expected a path"
        )
    if kind != "file" or not isinstance(path, str):
        found = f"a source of type {str(kind)[:80]!r}" if kind else "not one source"
        raise DatasetError(
            f"{where}: the recording has {found}, expected one of type 'file'; save the sounds "
            "(CutSet.save_audios), or export them as shar with its recordings"
        )
    path = relative_path(root, path)
    if path.startswith("/"):
        raise DatasetError(
            f"{where}: the recording is {quoted(path)}, expected one below {root}: give a --root "
            "that the sounds and the manifest are below, or paths relative to the root"
        )
    start, end = (float(span[name]) if span[name] else math.nan for name in (START, END))
    return {SHARD: path, ITEM: str(NO_ITEM), IDENTITY: address(path, start, end)}


def _labels(cut: Mapping[str, Any], recording: Mapping[str, Any]) -> dict[str, str]:
    """Return what a cut says of its clip: of several supervisions, lists."""
    custom = cut.get("custom")
    values: dict[str, Any] = dict(custom) if isinstance(custom, dict) else {}
    said: dict[str, list[Any]] = {}
    supervisions = cut.get("supervisions")
    for supervision in supervisions if isinstance(supervisions, list) else ():
        if not isinstance(supervision, dict):
            continue
        more = supervision.get("custom")
        known = {name: supervision.get(name) for name in _TEXTS}
        for name, value in {**known, **(more if isinstance(more, dict) else {})}.items():
            if value is not None and value not in said.setdefault(name, []):
                said[name].append(value)
    values |= {name: all_of if len(all_of) > 1 else all_of[0] for name, all_of in said.items()}
    return json_cells({**values, "recording": recording.get("id")})


def _shar_members(root: Path, file: str) -> Iterator[tuple[str, int, Member]] | None:
    """Return tar, number and member of a shar's recordings in order; None of other manifests."""
    path = Path(file)
    if not path.name.startswith("cuts."):
        return None
    number = path.name.removeprefix("cuts.").partition(".")[0]
    tar = path.with_name(f"recording.{number}.tar").as_posix()
    if not number.isdecimal() or not (root / tar).is_file():
        return None
    return _sounds_in(root, tar)


def _sounds_in(root: Path, tar: str) -> Iterator[tuple[str, int, Member]]:
    number = 0
    with opened_tar(root, tar) as descriptor:
        for member in walk_tar(descriptor):
            check_name(str(root / tar), member.name)
            if not member.other and is_sound(key_and_suffix(member.name)[1]):
                yield tar, number, member
                number += 1
