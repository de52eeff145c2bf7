"""Unpacking an untrusted tar.gz.

Only regular files and directories are created, below one directory: no links, no devices, no paths
that lead out, no duplicate names, no more files or bytes than expected. Owners, modes and times are
ignored.
"""

import gzip
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from featurestore.download.fetch import Observe, Progress, ignore
from featurestore.errors import ArchiveError, DownloadError, cause
from featurestore.files import UnusableFileError, open_regular

_PIECE = 1 << 20
_LONGEST = 200
"""Maximum length of a path in characters."""
_DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError)
_IMPOSSIBLE = (FileExistsError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True)
class Limits:
    """Limits of an archive's contents.

    Args:
        members: Maximum number of files and directories.
        num_bytes: Maximum decompressed size in bytes, including headers and padding.
    """

    members: int
    num_bytes: int


def unpack(archive: Path, into: Path, limits: Limits, observe: Observe = ignore) -> None:
    """Unpack a tar.gz.

    Args:
        archive: Path of the archive.
        into: Directory to create; it may contain a part of the archive after an error.
        limits: Limits of the contents.
        observe: Called with the number of compressed bytes read.

    Raises:
        ArchiveError: The archive is damaged, too large, or has a forbidden member.
        DownloadError: There is no space or no permission to write.
    """
    try:
        into.mkdir()
        with (
            os.fdopen(open_regular(archive), "rb") as packed,
            gzip.GzipFile(fileobj=packed) as unpacked,
        ):
            bounded = _Bounded(unpacked, limits.num_bytes)
            total = os.fstat(packed.fileno()).st_size
            with tarfile.open(fileobj=bounded, mode="r:") as members:  # type: ignore[call-overload]
                for number, member in enumerate(members, start=1):
                    _check_number(number, limits)
                    _write(members, member, into)
                    observe(Progress("unpacking", packed.tell(), total))
            while bounded.read(_PIECE):  # to the checksum at its end
                pass
    except ArchiveError as error:
        raise ArchiveError(f"{archive}: refused: {error}") from error
    except _DAMAGE as error:
        raise ArchiveError(f"{archive}: the archive is damaged ({error})") from error
    except UnusableFileError as error:
        raise ArchiveError(f"{archive}: {cause(error)}") from error
    except OSError as error:
        raise DownloadError(
            f"{into}: cannot be written ({cause(error)}); the same command resumes once "
            "that is put right"
        ) from error


def _check_number(number: int, limits: Limits) -> None:
    if number > limits.members:
        raise ArchiveError(f"it has more than {limits.members:,} members")


class _Bounded:
    """A reader that gives neither much at once, as headers may ask for, nor more than it may."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, num_bytes: int) -> None:
        self._file, self._num_bytes = file, num_bytes

    def read(self, size: int) -> bytes:
        if size > _PIECE:
            raise ArchiveError(f"a header of {size:,} bytes")
        data = self._file.read(size)
        self._check(self._file.tell())
        return data

    def seek(self, offset: int) -> int:
        self._check(offset)
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()

    def _check(self, position: int) -> None:
        if position > self._num_bytes:
            raise ArchiveError(f"it unpacks to more than {self._num_bytes:,} bytes")


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    path = into / _checked(member)
    try:
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            _copy(members, member, file)
    except _IMPOSSIBLE as error:
        raise ArchiveError(f"{member.name!r} is there twice") from error


def _checked(member: tarfile.TarInfo) -> PurePosixPath:
    """Return the path of a member relative to the directory.

    Raises:
        ArchiveError: It must not be made.
    """
    name = member.name
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":":
        raise ArchiveError(f"{name!r} leads out of the directory")
    if not name or min(name) < " " or len(name) > _LONGEST:
        raise ArchiveError(f"{name[:_LONGEST]!r} is no name of a file")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ArchiveError(f"{name!r} is neither a plain file nor a directory")
    return path


def _copy(members: tarfile.TarFile, member: tarfile.TarInfo, file: IO[bytes]) -> None:
    source = members.extractfile(member)
    if source is None:
        raise ArchiveError(f"{member.name!r} is neither a plain file nor a directory")
    with source:
        while piece := source.read(_PIECE):
            file.write(piece)
    if file.tell() != member.size:
        raise ArchiveError(f"{member.name!r} ends early")
