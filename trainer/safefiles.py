"""Atomic writes, and verification by digests when files are read.

A JSON record contains the SHA-256 of all its other fields. A PyTorch file has the SHA-256 of its
content in the comment of its zip archive, as torch itself does not verify checksums.
"""

import hashlib
import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from featurestore import files
from featurestore.errors import cause
from featurestore.text import json_document
from schemas import Schema, Sealed
from trainer.errors import ConfigError, RunDirectoryError, in_a_line

MOST_BYTES = 64 << 20
"""Maximum size of a JSON record in bytes; the largest have about 100 kB."""
RESTORE = "put it back from a copy, or train again"
# What torch.load raises for files that are empty, text, cut, changed, or hold other objects.
_NOT_TENSORS = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError)

_Kind = TypeVar("_Kind", bound=Sealed)
_END_BYTES, _END = 22, b"PK\x05\x06"
_COMMENT = re.compile(rb"sha256:[0-9a-f]{64}\Z")
_COMMENT_BYTES = len("sha256:") + 64


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate errors of writing a path of a run directory or another output, with advice.

    Raises:
        RunDirectoryError: The path cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(
            f"{path}: cannot be written: {cause(error)}; make room or give another --out"
        ) from error


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Write a file atomically: at any moment, `path` has all old bytes or all new bytes."""
    with writing(path):
        files.replace_file(path, data)


def make_folder(path: Path) -> None:
    """Create a directory and its parents if missing."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def refuse_link(path: Path) -> None:
    """Refuse a symbolic link in the place of a directory that a run or sweep makes for itself.

    Raises:
        RunDirectoryError: It is one: what is written would go elsewhere.
    """
    if path.is_symlink():
        raise RunDirectoryError(f"{path}: is a link; remove it, or give another --out")


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a whole file of a run.

    Raises:
        RunDirectoryError: The file is missing, cannot be read, or is too large.
    """
    try:
        return files.read_regular(path, max_bytes)
    except FileNotFoundError:
        raise RunDirectoryError(f"{path}: is missing; {RESTORE}") from None
    except OSError as error:
        raise RunDirectoryError(
            f"{path}: cannot be read: {cause(error)}; put it right, or train again"
        ) from error


def record_bytes(record: Schema) -> bytes:
    """Return a record as indented JSON."""
    return json_document(record.model_dump(mode="json")).encode()


def check_output(path: Path) -> None:
    """Check that a file named by the user can be written, before work is done for it.

    Raises:
        ConfigError: The folder does not exist, or the path is not a plain file.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent}: no such directory; make it, or give another --out")
    try:
        files.check_output(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written: {cause(error)}; give another --out"
        ) from error


def write_output(path: Path, data: bytes | memoryview) -> None:
    """Write a file named by the user atomically, and never through a link.

    Raises:
        RunDirectoryError: The file cannot be written, or the path is not a plain file.
    """
    with writing(path):
        files.write_output(path, data)


@contextmanager
def output_folder(out: Path, names: Iterable[str]) -> Iterator[None]:
    """Create a folder for outputs with these names, and check it before work is done for them.

    If the work fails, new folders that are still empty are removed.

    Raises:
        RunDirectoryError: The folder cannot be created.
        ConfigError: One of the paths is not a plain file.
    """
    missing = [path for path in (out, *out.parents) if not path.exists()]
    try:
        make_folder(out)
        for name in names:
            check_output(out / name)
        yield
    except BaseException:
        with suppress(OSError):  # one that is not empty, and so those above it
            for path in missing:
                path.rmdir()
        raise


def write_outputs(out: Path, contents: Mapping[str, bytes]) -> str:
    """Write files into a folder, see `write_output`; return a line for the user."""
    for name, data in contents.items():
        write_output(out / name, data)
    return f"Written: {', '.join(str(out / name) for name in contents)}"


def read_tensors(data: bytes) -> object:
    """Read tensors and plain values written by `torch.save`, without executing code.

    Raises:
        ValueError: The data is damaged, or not such a file.
    """
    # Not above: a report is written without torch, which takes seconds to load.
    import torch

    from trainer.oom import is_out_of_memory

    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _NOT_TENSORS as error:
        if is_out_of_memory(error):
            raise
        raise ValueError("not a PyTorch file of tensors, or damaged") from error


def content_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 digest (hex) of a JSON object without its `sha256`, in canonical form."""
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return file_digest(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def file_digest(data: bytes | memoryview) -> str:
    """Return the SHA-256 digest (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def sealed(record: _Kind) -> _Kind:
    """Return the record with its digest."""
    digest = content_digest(json.loads(record.model_dump_json()))
    return record.model_copy(update={"sha256": digest})


def read_sealed(path: Path, kind: type[_Kind]) -> _Kind:
    """Read a JSON record; its `sha256` is None if an older version wrote it without a digest.

    Raises:
        RunDirectoryError: The file cannot be read, is not such a record, or has been changed.
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
    return record


def digest_of(path: Path, record: Sealed) -> str:
    """Return the digest of a record that was read from a file, also if it does not give its own."""
    return record.sha256 or content_digest(json.loads(read_file(path, MOST_BYTES)))


def write_sealed(path: Path, record: _Kind) -> _Kind:
    """Write a JSON record with its digest atomically; returns it as written.

    Raises:
        RunDirectoryError: The path cannot be written.
    """
    record = sealed(record)
    replace_file(path, record_bytes(record))
    return record


def check_digest(path: Path, digest: str, recorded: str | None, witness: str) -> None:
    """Check content against its recorded digest.

    Args:
        path: Path of the file.
        digest: Digest of its content.
        recorded: Digest by the witness; None if an older version recorded none, and "" if the
            witness lists other files but not this one.
        witness: Name of the record.

    Raises:
        RunDirectoryError: The digests differ, or the file is not listed.
    """
    if recorded == "":
        raise RunDirectoryError(
            f"{path}: is not among the files that {witness} lists, so one of the two is of another "
            "training; put both back from a copy, or train again"
        )
    if recorded is not None and digest != recorded:
        raise RunDirectoryError(
            f"{path}: is damaged or was changed: its SHA-256 is {digest[:12]}, {witness} says "
            f"{recorded[:12]}; {RESTORE}"
        )


def with_comment(archive: io.BytesIO) -> memoryview:
    """Add the digest of a zip archive as its comment, in place."""
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
    """Verify a zip archive by the digest in its comment; False if it has none (older versions).

    Raises:
        ValueError: The digest does not match.
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
