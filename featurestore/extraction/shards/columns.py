"""The column of sounds in a Parquet or Arrow schema, and translation of pyarrow's errors."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from featurestore.errors import AudioError
from schemas import ClipStatus

BYTES, PATH = "bytes", "path"
"""Fields of a cell with Hugging Face's feature `Audio`."""


def features_of(schema: Any) -> Mapping[str, Any]:  # noqa: ANN401  (pyarrow has no types)
    """Return the Hugging Face features by column from a schema's metadata; {} if it has none."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(text)["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def sound_columns(schema: Any) -> list[str]:  # noqa: ANN401
    """Return the names of the columns that hold sounds.

    These are columns whose cells are bytes or have a field `bytes`; if there are several, those
    declared as `Audio` in the Hugging Face metadata.
    """
    names = [field.name for field in schema if _bytes_in(field.type)]
    features = features_of(schema)
    audio = [name for name in names if _kind(features.get(name)) == "Audio"]
    return audio or [name for name in names if _kind(features.get(name)) != "Image"]


def _kind(feature: object) -> object:
    return feature.get("_type") if isinstance(feature, dict) else None


def _bytes_in(kind: Any) -> bool:  # noqa: ANN401
    if pa.types.is_struct(kind):
        index = kind.get_field_index(BYTES)
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _is_binary(kind: Any) -> bool:  # noqa: ANN401
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def cells(batch: Any, name: str) -> Any:  # noqa: ANN401
    """Return the array of bytes of a column of a batch."""
    column = batch.column(batch.schema.get_field_index(name))
    if not pa.types.is_struct(column.type):
        return column
    # Not .field(): that would forget which structs are null.
    return column.flatten()[column.type.get_field_index(BYTES)]


def cell(array: Any, row: int) -> memoryview:  # noqa: ANN401
    """Return the bytes of a cell.

    Raises:
        AudioError: The cell is null.
    """
    data = array[row].as_buffer()
    if data is None:
        raise AudioError(ClipStatus.MISSING, "the cell has no bytes")
    return memoryview(data)


def only_sound_column(schema: Any) -> str:  # noqa: ANN401
    """Return the name of the only column that holds sounds.

    Raises:
        AudioError: There is none, or there are several.
    """
    names = sound_columns(schema)
    if len(names) != 1:
        raise AudioError(
            ClipStatus.UNREADABLE,
            f"the shard has {len(names)} columns of sounds: {', '.join(names) or 'none'}",
        )
    return names[0]


@contextmanager
def arrow_errors() -> Iterator[None]:
    """Translate pyarrow's errors about the content of a file; other errors pass through."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if isinstance(error, MemoryError):
            raise
        first = (str(error).splitlines() or [""])[0]
        raise AudioError(ClipStatus.UNREADABLE, f"the shard is damaged: {first}") from error
