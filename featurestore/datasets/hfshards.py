"""Hugging Face datasets: Parquet files, and the Arrow streams written by `save_to_disk`.

Only the columns of labels are read, and whether each sound is present: planning takes the same time
whatever the size of the sounds. Class names come from the `huggingface` metadata of the schema.
"""

import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.cliplist import NO_ITEM, TEXT, texts
from featurestore.datasets.arrowcells import ParquetColumns, arrow_errors, cell_values
from featurestore.datasets.formats import cells_of
from featurestore.datasets.shardrows import (
    IDENTITY,
    ITEM,
    SHARD,
    SPLIT,
    Shards,
    named_files,
    relative_path,
    shard_table,
    with_splits,
)
from featurestore.datasets.table import Table, check_header, quoted
from featurestore.errors import AudioError, DatasetError
from featurestore.extraction.sources import clip_file, open_source

_ANY_SIZE = 2**62


def needs_pyarrow(where: Path) -> None:
    """Raise an error if pyarrow is not installed.

    Raises:
        DatasetError: It is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise DatasetError(
            f"{where}: Parquet and Arrow are read by pyarrow, which is not installed: "
            "pip install 'featurestore[tables]'"
        ) from error


def holds_sounds(path: Path) -> bool:
    """Return whether a Parquet file has a column of sounds, rather than paths alone.

    Raises:
        DatasetError: The file is not Parquet, or pyarrow is not installed.
    """
    needs_pyarrow(path)
    from featurestore.extraction.shards.columns import sound_columns

    with _opened(path.parent, path.name) as file:
        return bool(sound_columns(file.schema))


def read_hf(
    root: Path, files: Iterable[str], *, official: Mapping[str, Any] | None = None
) -> Shards:
    """Read the schemas of Parquet files or Arrow streams.

    Args:
        root: Directory of the files.
        files: Paths of the files relative to the root.
        official: Hugging Face features by column, if they are stored in another file.

    Raises:
        DatasetError: A file is damaged, has no column of sounds, or one that differs from that of
            the first file.
    """
    names = list(files)
    needs_pyarrow(root / names[0])
    from featurestore.extraction.shards.columns import features_of, sound_columns

    with _opened(root, names[0]) as file:
        schema = file.schema
    sounds = sound_columns(schema)
    if len(sounds) != 1:
        raise DatasetError(
            f"{root / names[0]}: expected one column of sounds (Audio, or bytes), found "
            f"{', '.join(map(quoted, sounds)) or 'none'} among "
            f"{', '.join(map(quoted, schema.names))}; write the dataset with one of them"
        )
    header = [name for name in schema.names if name != sounds[0]]
    check_header(str(root / names[0]), header, ())
    classes = _class_names(official or features_of(schema))
    kind = "Parquet" if names[0].endswith((".parquet", ".pq")) else "Arrow"

    def read(chosen: Sequence[str]) -> Table:
        return _table(root, names, sounds[0], [n for n in chosen if n in header], classes)

    splits = with_splits(root, {SHARD: texts(names)})
    return Shards(
        what=f"{kind}, {named_files(names)}",
        header=[*header, *([SPLIT] if SPLIT in splits and SPLIT not in header else [])],
        read=read,
        class_names=classes,
        in_groups=kind == "Parquet",
    )


def _class_names(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the class names of the columns that are ClassLabels, or lists of them."""
    class_names = {}
    for column, feature in features.items():
        while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
            feature = feature["feature"]
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            class_names[column] = tuple(name.strip() for name in names)
    return class_names


def _table(
    root: Path,
    files: Sequence[str],
    sounds: str,
    chosen: Sequence[str],
    classes: Mapping[str, tuple[str, ...]],
) -> Table:
    pieces: dict[str, list[NDArray[Any]]] = {}
    for file in files:
        with _opened(root, file) as opened:
            if missing := [name for name in (sounds, *chosen) if name not in opened.schema.names]:
                raise DatasetError(
                    f"{root / file}: has no column {', '.join(map(quoted, missing))}, which "
                    f"{files[0]} has; give the files of one dataset"
                )
            for columns in opened.rows(root, file, sounds, chosen, classes):
                for name, column in columns.items():
                    pieces.setdefault(name, []).append(column)
    columns = {name: np.concatenate(piece) for name, piece in pieces.items()}
    return shard_table(root, with_splits(root, columns) if columns else columns)


class _HfFile:
    """An open Parquet file or Arrow stream, of which some columns are read."""

    def __init__(self, name: Path, descriptor: int) -> None:
        import pyarrow as pa

        self._name = name
        self._is_parquet = os.pread(descriptor, 4, 0) == b"PAR1"
        if self._is_parquet:
            self._parquet = ParquetColumns(descriptor)
            self.schema = self._parquet.schema
        else:
            from featurestore.extraction.shards.arrow import open_stream

            # Mapped, so that the sounds between the labels are never read.
            self._mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            self._stream = open_stream(pa.py_buffer(self._mapped))
            self.schema = self._stream.schema

    def rows(
        self,
        root: Path,
        file: str,
        sounds: str,
        chosen: Sequence[str],
        classes: Mapping[str, tuple[str, ...]],
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield columns, a bounded number of rows at a time, with where each clip is."""
        first = 0
        for is_path, batch in self._batches(sounds, chosen):
            size = len(is_path)
            numbers = np.arange(first, first + size)
            first += size
            columns = {
                name: cells_of(
                    self._name, name, _named(cell_values(batch.column(name)), classes.get(name))
                )
                for name in chosen
            }
            paths: NDArray[Any] = np.full(size, file, TEXT)
            identities = texts(f"{file}#{number}" for number in numbers.tolist())
            if is_path.any():
                own = _paths(root, cell_values(batch.column(sounds).field("path")))
                if (none := is_path & (own == "")).any():
                    raise DatasetError(
                        f"{self._name}: {int(none.sum())} of {size} cells of {quoted(sounds)} have "
                        "neither bytes nor a path; write the dataset with its sounds"
                    )
                paths = np.where(is_path, own, paths)
                identities = np.where(is_path, own, identities)
            items = np.where(is_path, NO_ITEM, numbers)
            yield {**columns, SHARD: paths, ITEM: items.astype(TEXT), IDENTITY: identities}

    def _batches(
        self, sounds: str, chosen: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.bool_], Any]]:
        """Yield which rows have a path and no bytes, and a batch of the columns."""
        from featurestore.extraction.shards.columns import cells

        if not self._is_parquet:
            for batch in self._stream:
                sound = cells(batch, sounds)
                sound.validate(full=True)
                yield np.asarray(sound.is_null()) & self._has_paths(sounds), batch
            return
        metadata = self._parquet.metadata
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group)
            self._check_group(group, rows, sounds)
            paths = self._are_paths(group, rows, sounds)
            columns = [*chosen, *([f"{sounds}.path"] if paths else [])]
            if not columns:  # nothing but how many rows there are
                yield np.zeros(rows.num_rows, bool), None
                continue
            for batch in self._parquet.batches(group, columns):
                yield np.full(batch.num_rows, paths), batch

    def _has_paths(self, sounds: str) -> bool:
        import pyarrow as pa

        kind = self.schema.field(sounds).type
        return bool(pa.types.is_struct(kind)) and kind.get_field_index("path") >= 0

    def _are_paths(self, group: int, rows: Any, sounds: str) -> bool:  # noqa: ANN401
        """Return whether a row group has paths and no bytes, by its statistics."""
        if not self._has_paths(sounds):
            return False
        for number in range(rows.num_columns):
            column = rows.column(number)
            statistics = column.statistics
            if column.path_in_schema == f"{sounds}.bytes" and statistics is not None:
                nulls = statistics.null_count if statistics.has_null_count else 0
                if 0 < nulls < rows.num_rows:
                    raise DatasetError(
                        f"{self._name}: expected sounds in all rows of row group {group}, or in "
                        f"none: {nulls} of {rows.num_rows} have no bytes, and a path at most; "
                        "embed them all (datasets.table.embed_table_storage)"
                    )
                return bool(nulls)
        return False

    def _check_group(
        self,
        group: int,
        rows: Any,  # noqa: ANN401
        sounds: str,
    ) -> None:
        from featurestore.extraction.shards.parquet import group_fault

        if fault := group_fault(group, rows, sounds):
            raise DatasetError(f"{self._name}: {fault}")

    def close(self) -> None:
        """Close the file."""
        if self._is_parquet:
            self._parquet.close()


def _named(values: Sequence[Any], names: tuple[str, ...] | None) -> Sequence[Any]:
    """Return class numbers, or lists of them, as names; what has none is empty."""
    if names is None:
        return values

    def name(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, list):
            return [name(one) for one in value]
        known = isinstance(value, int) and 0 <= value < len(names)
        return names[value] if known else value if isinstance(value, str) else ""

    return [name(value) for value in values]


def _paths(root: Path, values: Sequence[str | None]) -> NDArray[Any]:
    """Return paths relative to the root, also of those that are absolute and below it."""
    return texts(relative_path(root, value or "") for value in values)


@contextmanager
def _opened(root: Path, file: str) -> Iterator[_HfFile]:
    needs_pyarrow(root / file)
    try:
        descriptor, _ = open_source(clip_file(root, file), _ANY_SIZE)
    except AudioError as error:
        raise DatasetError(f"{root / file}: cannot read it ({error.detail})") from error
    try:
        with arrow_errors(root / file):
            opened = _HfFile(root / file, descriptor)
            try:
                yield opened
            finally:
                opened.close()
    except AudioError as error:
        raise DatasetError(f"{root / file}: {error.detail}") from error
    finally:
        os.close(descriptor)


def saved_files(root: Path) -> list[str] | None:
    """Return the files of a dataset written by `save_to_disk`; None for any other directory.

    Raises:
        DatasetError: The JSON of the dataset is damaged.
    """
    if (root / "dataset_dict.json").is_file():
        splits = _json(root / "dataset_dict.json").get("splits")
        directories = [f"{split}/" for split in splits] if isinstance(splits, list) else []
    elif (root / "state.json").is_file() and (root / "dataset_info.json").is_file():
        directories = [""]
    else:
        return None
    files = []
    for directory in directories:
        state = root / directory / "state.json"
        entries = _json(state).get("_data_files") or []
        for entry in entries if isinstance(entries, list) else [entries]:
            name = entry.get("filename") if isinstance(entry, dict) else None
            if not isinstance(name, str):
                raise DatasetError(f"{state}: expected the names of data files; save it again")
            files.append(f"{directory}{name}")
    if not files:
        raise DatasetError(f"{root}: the saved dataset names no data file; save it again")
    return files


def saved_features(root: Path, file: str) -> Mapping[str, Any] | None:
    """Return the features in the `dataset_info.json` next to a file written by `save_to_disk`."""
    place = (root / file).parent / "dataset_info.json"
    features = _json(place).get("features") if place.is_file() else None
    return features if isinstance(features, dict) else None


def _json(path: Path) -> dict[str, Any]:
    from featurestore.files import UnusableFileError, read_regular

    try:
        value = json.loads(read_regular(path, 1 << 26, follow=True))
    except (UnusableFileError, OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot read it ({error}); save the dataset again") from error
    if not isinstance(value, dict):
        raise DatasetError(f"{path}: expected a JSON object; save the dataset again")
    return value
