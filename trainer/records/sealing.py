"""Digests of a run's files: a reader knows that a file is what was written.

A JSON record carries the SHA-256 of all else that it says. A PyTorch file carries, as the comment
of the zip archive that it is, the SHA-256 of all before it: torch itself compares no checksum.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from schemas import Sealed
from trainer.errors import RunDirectoryError
from trainer.files import read_file, record_bytes, replace_file
from trainer.problems import in_a_line

MOST_BYTES = 64 << 20
"""Largest JSON record in bytes. The largest are some 100 kB."""
RESTORE = "put it back from a copy, or train again"

_Kind = TypeVar("_Kind", bound=Sealed)
_END_BYTES, _END = 22, b"PK\x05\x06"
_COMMENT = re.compile(rb"sha256:[0-9a-f]{64}\Z")
_COMMENT_BYTES = len("sha256:") + 64


def content_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object without its `sha256`: keys sorted, no white space."""
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return file_digest(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def file_digest(data: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sealed(record: _Kind) -> _Kind:
    """Return the record with its digest."""
    digest = content_digest(json.loads(record.model_dump_json()))
    return record.model_copy(update={"sha256": digest})


def read_sealed(path: Path, kind: type[_Kind]) -> tuple[_Kind, str]:
    """Read a JSON record.

    Returns:
        The record, and the digest of what the file says; the record's `sha256` is None if a
        version of the program wrote it that gave none.

    Raises:
        RunDirectoryError: It cannot be read, is no such record, or not the one that was written.
    """
    data = read_file(path, MOST_BYTES)
    try:
        record = kind.model_validate_json(data)
        digest = content_digest(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise RunDirectoryError(
            f"{path}: is damaged, or of another version: {in_a_line(error)}; {RESTORE}"
        ) from error
    check_digest(path, digest, record.sha256, "itself")
    return record, digest


def write_sealed(path: Path, record: _Kind) -> _Kind:
    """Write a JSON record with its digest, whole or not at all; returns it as it was written.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    record = sealed(record)
    replace_file(path, record_bytes(record))
    return record


def check_digest(path: Path, found: str, wanted: str | None, witness: str) -> None:
    """Refuse content that is not what was written; with `wanted` None nothing is known of it.

    Raises:
        RunDirectoryError: The digests differ.
    """
    if wanted is not None and found != wanted:
        raise RunDirectoryError(
            f"{path}: is damaged or was changed: its SHA-256 is {found[:12]}, {witness} says "
            f"{wanted[:12]}; {RESTORE}"
        )


def with_comment(archive: io.BytesIO) -> memoryview:
    """Append the digest of all before to a zip archive, as its comment; changed in place."""
    view = archive.getbuffer()
    if bytes(view[-_END_BYTES:][:4]) != _END:
        raise ValueError("not a zip archive without a comment")
    view[-2:] = _COMMENT_BYTES.to_bytes(2, "little")
    digest = file_digest(view)
    view.release()
    archive.seek(0, io.SEEK_END)
    archive.write(f"sha256:{digest}".encode())
    return archive.getbuffer()


def check_comment(data: bytes) -> bool:
    """Compare a zip archive with its comment; False if it has none, as in older versions.

    Raises:
        ValueError: It is not what was written.
    """
    if _COMMENT.search(data[-_COMMENT_BYTES:]):
        if file_digest(memoryview(data)[:-_COMMENT_BYTES]) != data[-64:].decode():
            raise ValueError("its SHA-256 is not the one it ends with")
        return True
    if data[-_END_BYTES:][:4] != _END or data[-2:] != b"\0\0":
        raise ValueError("not a PyTorch file, or cut short")
    _check_entries(data)
    return False


def _check_entries(data: bytes) -> None:
    """Compare what is in a zip archive with the checksums of the archive itself."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError("not a PyTorch file, or cut short") from error
    if broken is not None:
        raise ValueError(f"the checksum of {broken} in it is wrong")
