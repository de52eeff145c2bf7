"""Files written whole or not at all, and PyTorch files read without running code in them."""

import os
import pickle
from pathlib import Path

from schemas import Schema
from trainer.errors import ConfigError, RunDirectoryError

# What torch.load raises for files that are empty, text, cut, changed, or hold other objects.
_NOT_TENSORS = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError)


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that at any moment `path` holds all of the old bytes or all of the new.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def write_record(path: Path, record: Schema) -> None:
    """Write a record as JSON, whole or not at all.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    replace_file(path, (record.model_dump_json(indent=2) + "\n").encode())


def check_folder(path: Path) -> None:
    """Refuse a file that cannot be written for want of its folder, before work is done for it.

    Raises:
        ConfigError: The folder is not there.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent}: no such directory; make it, or give another --out")


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
    """The error for a path of the run directory that cannot be written."""
    return RunDirectoryError(
        f"{path}: cannot be written: {error.strerror}; make room or give another --out"
    )


def read_tensors(path: Path) -> object:
    """What a file written by `torch.save` holds: tensors and plain values, on the host.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not such a file, or is damaged.
    """
    # Not above: a report is written without torch, which takes seconds to load.
    import torch

    from trainer.oom import is_out_of_memory

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _NOT_TENSORS as error:
        if is_out_of_memory(error):
            raise
        raise ValueError("not a PyTorch file of tensors, or damaged") from error
