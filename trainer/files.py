"""Files written whole or not at all, and PyTorch files read without running code in them."""

import os
import pickle
from pathlib import Path
from typing import IO

from featurestore import files
from featurestore.text import json_document
from schemas import Schema
from trainer.errors import ConfigError, RunDirectoryError

# What torch.load raises for files that are empty, text, cut, changed, or hold other objects.
_NOT_TENSORS = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError)


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that at any moment `path` holds all of the old bytes or all of the new.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    try:
        files.replace_file(path, data)
    except OSError as error:
        raise unwritable(path, error) from error


def create_file(path: Path, data: bytes) -> bool:
    """Write a file, whole, unless there is one; return whether there was none.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    try:
        return files.create_file(path, data)
    except OSError as error:
        raise unwritable(path, error) from error


def append_file(path: Path, data: bytes) -> None:
    """Add to a file; the system has it when this returns.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    try:
        descriptor = files.open_own(path)
        try:
            files.write_all(descriptor, data)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unwritable(path, error) from error


def write_record(path: Path, record: Schema) -> None:
    """Write a record as JSON, whole or not at all.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    replace_file(path, record_bytes(record))


def record_bytes(record: Schema) -> bytes:
    """Return a record as it is written: JSON, indented."""
    return json_document(record.model_dump(mode="json")).encode()


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a file of ours as a whole.

    Raises:
        RunDirectoryError: It is missing, cannot be read, or is larger than such a file can be.
    """
    try:
        return files.read_regular(path, max_bytes)
    except FileNotFoundError:
        raise RunDirectoryError(
            f"{path}: is missing; put it back from a copy, or train again"
        ) from None
    except OSError as error:
        raise RunDirectoryError(
            f"{path}: cannot be read: {error.strerror}; put it right, or train again"
        ) from error


def check_folder(path: Path) -> None:
    """Refuse a file that cannot be written, before work is done for it.

    Raises:
        ConfigError: The folder is not there, or something else than a plain file is in its place.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent}: no such directory; make it, or give another --out")
    check_outputs(path)


def check_outputs(*paths: Path) -> None:
    """Refuse to write over what is no plain file, before work is done for it.

    Raises:
        ConfigError: It is there.
    """
    for path in paths:
        try:
            files.check_output(path)
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be written: {error.strerror}; give another --out"
            ) from error


def write_output(path: Path, data: bytes | memoryview) -> None:
    """Write a file that the user has named, whole or not at all, and never through a link.

    Raises:
        RunDirectoryError: It cannot be written, or something else than a plain file is there.
    """
    try:
        files.write_output(path, data)
    except OSError as error:
        raise unwritable(path, error) from error


def make_folder(path: Path) -> None:
    """Make a directory, and those above it, where it is missing.

    Raises:
        RunDirectoryError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> RunDirectoryError:
    """Return the error for a path of the run directory that cannot be written."""
    return RunDirectoryError(
        f"{path}: cannot be written: {error.strerror}; make room or give another --out"
    )


def read_tensors(path: Path | IO[bytes]) -> object:
    """Read a file written by `torch.save`: tensors and plain values, on the host.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not such a file, or is damaged.
    """
    # Not above: a report is written without torch, which takes seconds to load.
    import torch

    from trainer.oom import is_out_of_memory

    if isinstance(path, Path):
        with os.fdopen(files.open_regular(path, follow=True), "rb") as file:
            return read_tensors(file)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _NOT_TENSORS as error:
        if is_out_of_memory(error):
            raise
        raise ValueError("not a PyTorch file of tensors, or damaged") from error
