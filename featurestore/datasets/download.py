"""Download of a dataset to where a build looks for it.

Everything happens in a staging directory next to the dataset's, which is renamed when it is
complete and checked. So a download that is stopped or killed at any moment can be resumed, and an
incomplete dataset is never taken for a complete one.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from featurestore.arguments import typed
from featurestore.datasets.archives import Archive
from featurestore.datasets.base import Dataset
from featurestore.datasets.kinds import DATASETS, DatasetKind, find_kind
from featurestore.datasets.roots import DATA_VARIABLE, find_root
from featurestore.download.fetch import Observe, Progress, RemoteFile, fetch_file, ignore
from featurestore.download.partial import locked
from featurestore.download.unpack import Limits, unpack
from featurestore.errors import (
    ArchiveError,
    DatasetError,
    DatasetNotFoundError,
    DownloadError,
    cause,
)
from featurestore.files import open_regular

_SLACK = 1.5
"""Factor by which size and number of files may exceed what is expected if there is no checksum."""
_SHOWN = 3


@dataclass(frozen=True)
class Download:
    """A planned download of a dataset to `root`; see `plan_download`."""

    archive: Archive
    root: Path

    @property
    def kind(self) -> DatasetKind:
        """Kind of the dataset."""
        return find_kind(self.archive.dataset)

    @property
    def staging(self) -> Path:
        """Directory in which the dataset is assembled."""
        return self.root.with_name(f".{self.root.name}.download")

    @property
    def num_bytes_had(self) -> int:
        """Number of bytes of the archive received in earlier attempts."""
        places = (self._packed, self._packed.with_name(f"{self._packed.name}.partial"))
        return sum(place.stat().st_size for place in places if place.is_file())

    @property
    def num_bytes_needed(self) -> int:
        """Free space in bytes needed for the rest of the archive, and for unpacking it."""
        to_come = max(0, self.archive.num_bytes - self.num_bytes_had)
        return to_come + self.archive.num_unpacked_bytes

    @property
    def num_bytes_free(self) -> int:
        """Free space in bytes on the disk of `root`."""
        place = next(place for place in self.root.parents if place.is_dir())
        return shutil.disk_usage(place).free

    @property
    def _packed(self) -> Path:
        return self.staging / PurePosixPath(self.archive.url).name

    def run(self, observe: Observe = ignore) -> None:
        """Fetch, unpack, check, and rename the dataset into place.

        If another process is downloading the dataset already, wait for it.

        Args:
            observe: Called with the progress of each step.

        Raises:
            DownloadError: The archive is unavailable or not what it should be, or the disk is full.
        """
        if self.staging.is_symlink():
            raise DownloadError(
                f"{self.staging}: is a symbolic link, where a download would be put; remove it"
            )
        waiting = Progress("waiting", note="another process is at it")
        try:
            with locked(self.staging / "lock", math.inf, lambda: observe(waiting)):
                if _is_free(self.root):
                    self._bring(observe)
                self.clean_up()
        except OSError as error:
            place = error.filename or self.root
            raise DownloadError(f"{place}: cannot be written ({cause(error)})") from error

    def clean_up(self) -> None:
        """Remove leftovers of downloads next to a complete dataset."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def _bring(self, observe: Observe) -> None:
        unpacked = self.staging / "unpacked"
        if unpacked.is_dir():
            shutil.rmtree(unpacked)
        self._check_room()
        self._fetch(observe)
        try:
            unpack(self._packed, unpacked, _limits(self.archive), observe)
            observe(Progress("checking"))
            root = self._checked_root(unpacked)
        except (ArchiveError, DatasetError) as error:
            self.clean_up()
            raise ArchiveError(
                f"{self.archive.url}: {error}. It was removed; try again later, or "
                f"{self.kind.by_hand}"
            ) from error
        root.rename(self.root)

    def _check_room(self) -> None:
        if self.num_bytes_needed > self.num_bytes_free:
            raise DownloadError(
                f"{self.root}: {self.num_bytes_needed / 1e9:.1f} GB are needed for the download "
                f"and for unpacking it, but only {self.num_bytes_free / 1e9:.1f} GB are free; make "
                f"room, or set {DATA_VARIABLE} to a directory on a larger disk"
            )

    def _fetch(self, observe: Observe) -> None:
        archive = self.archive
        most = archive.num_bytes if archive.checksum else round(archive.num_bytes * _SLACK)
        try:
            fetch_file(
                RemoteFile(archive.url, archive.checksum, most), self._packed, observe=observe
            )
        except DownloadError as error:
            raise DownloadError(
                f"{error}. The same command resumes the download; or {self.kind.by_hand}"
            ) from error

    def _checked_root(self, unpacked: Path) -> Path:
        try:
            root = find_root(self.kind.name, unpacked)
        except DatasetNotFoundError as error:
            raise ArchiveError(f"it holds no {self.kind.name}") from error
        check_contents(self.kind.load(root), self.archive)
        return root


@typed
def plan_download(
    name: str, root: Path | None = None, environ: Mapping[str, str] | None = None
) -> Download:
    """Plan the download of a dataset: its source and its target directory.

    Args:
        name: One of `DATASETS`.
        root: Target directory; `$FEATURESTORE_DATA/NAME` or `./data/NAME` if None.
        environ: Environment variables; those of the process if None.

    Raises:
        DatasetError: There is no such dataset, it cannot be downloaded, or the directory already
            contains something else.
    """
    archive = find_archive(name)
    data = (os.environ if environ is None else environ).get(DATA_VARIABLE) or "data"
    place = (Path(data) / archive.dataset if root is None else root).resolve()
    if not _is_free(place):
        raise DatasetError(
            f"{place}: is there already, and holds no {name}; move it away, or say with --root "
            "where the dataset is to go"
        )
    return Download(archive, place)


def find_archive(name: str) -> Archive:
    """Return the official archive of a dataset.

    Raises:
        DatasetError: There is no such dataset, or it cannot be downloaded.
    """
    kind = find_kind(name)
    if kind.archive is None:
        published = ", ".join(other.name for other in DATASETS.values() if other.archive)
        raise DatasetError(
            f"{name} is not published anywhere: {kind.by_hand}. These can be downloaded: "
            f"{published}"
        )
    return kind.archive


def _is_free(place: Path) -> bool:
    """Return whether a directory can be renamed to it."""
    if place.is_dir():
        return not any(place.iterdir())
    return not os.path.lexists(place)


def _limits(archive: Archive) -> Limits:
    return Limits(
        members=round(archive.num_clips * _SLACK) + 100,
        num_bytes=round(archive.num_unpacked_bytes * _SLACK),
    )


def check_contents(dataset: Dataset, archive: Archive) -> None:
    """Count the clips against the table and the archive, and compare their digest.

    Raises:
        ArchiveError: There are too few or too many clips, or contents differ.
    """
    root, paths = dataset.root, {clip.path for clip in dataset.clips}
    suffixes = {PurePosixPath(path).suffix for path in paths}
    present = {
        file.relative_to(root).as_posix()
        for file in root.rglob("*")
        if file.suffix in suffixes and not file.name.startswith(".")
    }
    if present != paths or len(paths) != archive.num_clips:
        absent, strange = sorted(paths - present), sorted(present - paths)
        raise ArchiveError(
            f"of the table's {len(paths)} clips {len(present & paths)} are there, of "
            f"{archive.num_clips} in all; missing {_some(absent)}; not in the table: "
            f"{_some(strange)}"
        )
    if archive.contents and digest_contents(dataset) != archive.contents:
        raise ArchiveError("the clips or the table are not those that were published")


def _some(paths: list[str]) -> str:
    shown = ", ".join(paths[:_SHOWN]) or "none"
    return shown + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")


def digest_contents(dataset: Dataset) -> str:
    """Return the SHA-256 of the output of `md5sum` for the table and the clips, sorted by path.

    Returns:
        64 hexadecimal digits.
    """
    (table,) = find_kind(dataset.card.name).markers[:1]
    digest = hashlib.sha256()
    for path in sorted({table, *(clip.path for clip in dataset.clips)}):
        with os.fdopen(open_regular(dataset.root / path), "rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        digest.update(f"{md5.hexdigest()}  {path}\n".encode())
    return digest.hexdigest()
