"""The received part of a download: a locked file next to the target, with a note of its origin.

All bytes are in the file when `append` returns, so that a killed process loses none.
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
    """Origin of the bytes of a partial download.

    Args:
        url: URL of the file.
        validator: Version of the file according to the server (a strong ETag, or its date); "" if
            the server sends neither.
        total: Size of the whole file in bytes; None if the server did not say.
    """

    url: str
    validator: str
    total: int | None


class PartialFile:
    """Bytes received so far, in order and without gaps; see `open_partial`.

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
        """Origin of the bytes received so far; None if unknown."""
        try:
            note = json.loads(read_regular(self._note, _MOST_NOTE_BYTES))
            total = note["total"]
            known = total if type(total) is int and total >= 0 else None
            return Origin(str(note["url"]), str(note["validator"]), known)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    @property
    def complete(self) -> bool:
        """Whether all announced bytes have been received."""
        return self.origin is not None and self.origin.total == self.size

    @property
    def room(self) -> int:
        """Free space on its disk in bytes."""
        return shutil.disk_usage(self.path.parent).free

    def begin(self, origin: Origin) -> None:
        """Discard all bytes, and receive bytes from `origin` from now on."""
        self.clear()
        replace_file(self._note, json.dumps(asdict(origin)).encode())

    def append(self, data: bytes) -> None:
        """Add bytes at the end.

        Raises:
            OSError: The bytes could not be written.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def clear(self) -> None:
        """Discard all bytes."""
        self._note.unlink(missing_ok=True)
        self._file.truncate(0)

    def finish(self) -> None:
        """Rename the file to the target."""
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
    """Yield the partial file of `target`, locked for this process; removed afterwards if empty.

    Args:
        target: Path of the complete file; its directory is created if missing.
        deadline: `time.monotonic()` time until which to wait for another process.
        waiting: Called if another process holds the file.

    Raises:
        DownloadError: Another process still holds the file at the deadline.
        OSError: The file cannot be opened.
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
    """Yield a file locked for this process, opened for appending and created if missing.

    See `open_partial`. The lock is released when the process ends, however it does.
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
