"""Bytes in a directory: written aside, flushed to the disk and renamed."""

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from featurestore.cores import usable_cores
from featurestore.errors import StorageError

PARTIAL = ".partial"
"""Suffix of a file that is being written."""
_WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
LOCK = "build.lock"
"""Name of the file that the one who writes the store has locked; see `lock`."""


@dataclass(frozen=True)
class LocalStorage:
    """See `Storage`.

    It prints as the user named it, but its path is absolute: wherever it travels, to a worker in
    another directory or into a file, it stays the same place.

    Args:
        path: Of the directory; made by the first write.
    """

    path: Path
    _shown: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shown", str(self.path))
        object.__setattr__(self, "path", self.path.absolute())

    def __str__(self) -> str:
        return self._shown

    def __reduce__(self) -> tuple[type["LocalStorage"], tuple[Path]]:
        return LocalStorage, (self.path,)  # elsewhere, the relative name would mislead

    @property
    def remote(self) -> bool:
        """No."""
        return False

    @property
    def threads(self) -> int:
        """One a core; more only wait for the interpreter."""
        return min(8, usable_cores())

    @property
    def listable(self) -> bool:
        """Yes."""
        return True

    def read(self, key: str) -> bytes:
        """A whole file."""
        with _machine():
            return (self.path / key).read_bytes()

    def read_range(self, key: str, start: int, size: int) -> bytes:
        """A part of a file."""
        with _machine(), (self.path / key).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, start)

    def read_end(self, key: str, size: int) -> bytes:
        """The end of a file."""
        with _machine(), (self.path / key).open("rb", buffering=0) as file:
            length = os.fstat(file.fileno()).st_size
            return os.pread(file.fileno(), size, max(0, length - size))

    def write(self, key: str, data: bytes) -> None:
        """A file that appears whole: a power cut leaves the old one or the new one."""
        file = self.path / key
        with _aside(file, data) as aside:
            aside.replace(file)
        _flush(file.parent)

    def create(self, key: str, data: bytes) -> None:
        """A link to a file written aside, which fails where there is one."""
        file = self.path / key
        with _aside(file, data) as aside, suppress(FileExistsError):
            try:
                file.hardlink_to(aside)
            except OSError as error:
                if error.errno not in _WITHOUT_LINKS:
                    raise
                if not file.exists():  # the lock of the store keeps others away
                    aside.replace(file)
        _flush(file.parent)

    def update(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Read, and write what differs."""
        data = self.read(key)
        if (changed := change(data)) != data:
            self.write(key, changed)

    def remove(self, key: str) -> None:
        """Unlink a file."""
        (self.path / key).unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        """Whether there is a file."""
        return (self.path / key).is_file()

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Every file below a directory."""
        root = os.path.join(self.path, "")  # noqa: PTH118  (strings: a large store has 100,000 files)
        for folder, _, names in os.walk(root + prefix):
            for name in names:
                file = os.path.join(folder, name)  # noqa: PTH118
                with suppress(FileNotFoundError):  # a writer has just renamed it
                    yield file.removeprefix(root), os.stat(file).st_size  # noqa: PTH116

    def is_blank(self) -> bool:
        """No such directory, or nothing but a file that was not renamed."""
        if not self.path.exists():
            return True
        with _machine():
            return self.path.is_dir() and all(map(_is_ours, self.path.iterdir()))

    def remove_debris(self) -> int:
        """Unlink files that were not renamed."""
        debris = [key for key, _ in self.sizes() if key.endswith(PARTIAL)]
        for key in debris:
            self.remove(key)
        return len(debris)


@contextmanager
def _machine() -> Iterator[None]:
    """Tell a fault of the machine from one of the store, which it would pass for."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        raise StorageError(
            f"cannot read {error.filename}: {error.strerror}. Close other programs, or allow more "
            "files (`ulimit -n 4096`), and run the same command again"
        ) from error


def _is_ours(file: Path) -> bool:
    return file.suffix == PARTIAL or file.name == LOCK


@contextmanager
def _aside(file: Path, data: bytes) -> Iterator[Path]:
    """A file beside `file` with the data, on the disk; gone afterwards if it is still there."""
    aside = file.with_name(f"{file.name}.{uuid.uuid4().hex}{PARTIAL}")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with aside.open("wb", buffering=0) as opened:
            _write_all(opened.fileno(), data)
            os.fsync(opened.fileno())
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _flush(directory: Path) -> None:
    """Put a directory's entries on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
