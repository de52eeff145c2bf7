"""Storage in a directory: files are written under a temporary name, flushed and renamed."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from featurestore.cores import usable_cores
from featurestore.errors import StorageError, cause
from featurestore.files import (
    UnusableFileError,
    create_file,
    open_regular,
    read_regular,
    replace_file,
)
from featurestore.storage.bounds import check_part, most_bytes

_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_PARTIAL = re.compile(r".+\.[0-9a-f]{1,32}\.partial", re.DOTALL)
LOCK = "build.lock"
"""Name of the file that the writer of a store has locked; see `lock`."""


@dataclass(frozen=True)
class LocalStorage:
    """Storage in a directory; see `Storage`.

    It prints as named by the user, but its path is absolute, so that it denotes the same place in a
    worker with another working directory or in a file.

    Args:
        path: Path of the directory, created by the first write.
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
        """False: a directory needs no network."""
        return False

    @property
    def threads(self) -> int:
        """One per core; more would only wait for the GIL."""
        return min(8, usable_cores())

    @property
    def listable(self) -> bool:
        """True."""
        return True

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Read a whole file."""
        with _machine():
            return read_regular(self._inside(key), most_bytes(key, max_bytes))

    def read_range(self, key: str, start: int, size: int) -> bytes:
        """Read a part of a file."""
        check_part(key, start, size)
        with self._opened(key) as (descriptor, length):
            return os.pread(descriptor, max(0, min(size, length - start)), start)

    def read_end(self, key: str, size: int) -> bytes:
        """Read the end of a file."""
        check_part(key, 0, size)
        with self._opened(key) as (descriptor, length):
            return os.pread(descriptor, min(size, length), max(0, length - size))

    @contextmanager
    def _opened(self, key: str) -> Iterator[tuple[int, int]]:
        with _machine():
            descriptor = open_regular(self._inside(key))
            try:
                yield descriptor, os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)

    def write(self, key: str, data: bytes) -> None:
        """Write a file atomically: a power cut leaves the old one or the new one."""
        replace_file(self._made(key), data)

    def create(self, key: str, data: bytes) -> None:
        """Write a temporary file and link it, which fails if the file exists."""
        create_file(self._made(key), data)

    def _made(self, key: str) -> Path:
        """Return the path to write a key's file to: a link with its name is replaced."""
        *folders, name = self._steps(key)
        place = self._inside("/".join(folders))
        place.mkdir(parents=True, exist_ok=True)
        return place / name

    def _inside(self, key: str) -> Path:
        """Return the path of a key's file, provided that it is below the directory, links followed.

        The directory itself may be a link, and so may anything below it that leads to a place
        below it: people put a fold on another disk, but who receives a store does not look.

        Raises:
            UnusableFileError: The key, or a link, leads out.
        """
        place = os.fspath(self.path)
        for step in self._steps(key):
            place = f"{place}/{step}"
            if os.path.islink(place):  # noqa: PTH114  (a third of a Path's time, for every chunk)
                return self._resolved(key)
        return self.path / key

    def _steps(self, key: str) -> list[str]:
        steps = key.split("/")
        if ".." in steps or key.startswith("/") or "\0" in key:
            raise UnusableFileError(errno.EINVAL, "it is no name in a store", repr(key))
        return steps

    def _resolved(self, key: str) -> Path:
        real = Path(os.path.realpath(self.path / key))
        if not real.is_relative_to(os.path.realpath(self.path)):
            message = f"a link leads out of the store, to {real}; copy what is there into the store"
            raise UnusableFileError(errno.ELOOP, message, os.fspath(self.path / key))
        return real

    def update(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Read an object, and write it if it changes."""
        data = self.read(key)
        if (changed := change(data)) != data:
            self.write(key, changed)

    def remove(self, key: str) -> None:
        """Unlink a file."""
        *folders, name = self._steps(key)
        (self._inside("/".join(folders)) / name).unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        """Return whether anything has that name."""
        return os.path.lexists(self.path / key)

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield every file below a directory."""
        for key in self._keys(prefix):
            with suppress(FileNotFoundError):  # a writer has just renamed it
                yield key, os.lstat(self._root + key).st_size

    @property
    def _root(self) -> str:
        # Strings and no paths: a large store has 100,000 files.
        return os.path.join(self.path, "")  # noqa: PTH118

    def _keys(self, prefix: str = "") -> Iterator[str]:
        for folder, _, names in os.walk(self._root + prefix):
            for name in names:
                yield os.path.join(folder, name).removeprefix(self._root)  # noqa: PTH118

    def is_blank(self) -> bool:
        """Return whether the directory is missing, or has only partial files and a lock."""
        if not self.path.exists():
            return True
        with _machine():
            return self.path.is_dir() and all(map(_is_ours, self.path.iterdir()))

    def remove_partial(self) -> int:
        """Unlink partial files."""
        partial = [key for key in self._keys() if _PARTIAL.fullmatch(key.rpartition("/")[2])]
        for key in partial:
            self.remove(key)
        return len(partial)


@contextmanager
def _machine() -> Iterator[None]:
    """Tell a fault of the machine from one of the store, which it would pass for."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        raise StorageError(
            f"cannot read {error.filename}: {cause(error)}. Close other programs, or allow "
            "more files (`ulimit -n 4096`), and rerun the same command"
        ) from error


def _is_ours(file: Path) -> bool:
    return file.name == LOCK or _PARTIAL.fullmatch(file.name) is not None
