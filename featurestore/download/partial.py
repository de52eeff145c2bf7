"""The part of a file received so far: next to it, under a lock, with a note of its origin.

Every byte is in the file when `append` returns, so that a process killed at any moment loses none.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

from featurestore.errors import DownloadError
from featurestore.files import is_at, lock_descriptor, open_own, read_regular, replace_file

_PARTIAL = ".partial"
_POLL_S = 0.1
_MOST_NOTE_BYTES = 1 << 16


@dataclass(frozen=True)
class Origin:
    """Origin of the bytes.

    Args:
        url: The address.
        validator: What the server calls this state of the file (a strong ETag, or its date);
            "" where it says nothing.
        total: Bytes of the whole file; None if the server did not say.
    """

    url: str
    validator: str
    total: int | None


class PartialFile:
    """Bytes received so far, in order and without a gap. Made by `open_partial`.

    Attributes:
        path: `TARGET.partial`.
    """

    def __init__(self, target: Path, file: FileIO) -> None:
        self._target, self._file = target, file
        self.path = _beside(target, _PARTIAL)
        self._note = _beside(target, ".origin")

    @property
    def size(self) -> int:
        """Number of bytes so far."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def origin(self) -> Origin | None:
        """Origin of these bytes; None if it is not known."""
        try:
            note = json.loads(read_regular(self._note, _MOST_NOTE_BYTES))
            total = note["total"]
            known = total if type(total) is int and total >= 0 else None
            return Origin(str(note["url"]), str(note["validator"]), known)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    @property
    def complete(self) -> bool:
        """Whether all the bytes that were announced are there."""
        return self.origin is not None and self.origin.total == self.size

    @property
    def room(self) -> int:
        """Free bytes on its disk."""
        return shutil.disk_usage(self.path.parent).free

    def begin(self, origin: Origin) -> None:
        """Drop what there is, and take bytes of `origin` from now on."""
        self.clear()
        replace_file(self._note, json.dumps(asdict(origin)).encode())

    def append(self, data: bytes) -> None:
        """Add bytes at the end.

        Raises:
            OSError: They could not be written.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def clear(self) -> None:
        """Drop what there is."""
        self._note.unlink(missing_ok=True)
        self._file.truncate(0)

    def finish(self) -> None:
        """Give the file its name."""
        self.path.replace(self._target)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the partial file and its note."""
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


@contextmanager
def open_partial(
    target: Path, deadline: float, waiting: Callable[[], None]
) -> Iterator[PartialFile]:
    """Yield the partial file of `target`, which this process alone has; gone afterwards if empty.

    Args:
        target: Its folder is made where it is missing.
        deadline: When waiting for another process ends, by `time.monotonic`.
        waiting: Called when another process has it.

    Raises:
        DownloadError: Another process still has it at the deadline.
        OSError: It cannot be opened.
    """
    with locked(_beside(target, _PARTIAL), deadline, waiting) as file:
        partial = PartialFile(target, file)
        try:
            yield partial
        finally:
            if partial.size == 0:
                partial.discard()


@contextmanager
def locked(path: Path, deadline: float, waiting: Callable[[], None]) -> Iterator[FileIO]:
    """Yield a file, opened for appending and made where it is missing, that only one process has.

    See `open_partial`. The lock goes with the process, however it ends.
    """
    while (file := _try_lock(path)) is None:
        waiting()
        if time.monotonic() > deadline:
            raise DownloadError(f"{path}: another process still has it; wait until it has ended")
        time.sleep(_POLL_S)
    with file:
        yield file


def _try_lock(path: Path) -> FileIO | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        file = FileIO(open_own(path), "ab")
        try:
            # Who had it before may have renamed or removed it meanwhile.
            if lock_descriptor(file.fileno()) and is_at(file.fileno(), path):
                return file
        except OSError:
            file.close()
            raise
        file.close()
    return None


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)
