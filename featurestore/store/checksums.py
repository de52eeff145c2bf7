"""Checksums of all chunks of a fold, by which the manifest vouches for the place of each.

From format version 2 on, a complete dataset has in its group `checksums` one array per fold:
uint32, one value per chunk, the CRC-32C that ends the chunk. They come array by array (`clip_id`,
`path`, `source`, `class_id`, `index`, `duration_s`, `peak`, `source_sha256`, `status`, then the
images in the order of the spec's resolutions and variants), and per array chunk by chunk. Chunks
within shards count one by one. The manifest has the SHA-256 of each fold's list, little-endian, and
a digest of itself. So a chunk in the place of another is told from the right one by four bytes that
were read anyway.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptError, cause
from featurestore.storage import Storage
from featurestore.store import chunks
from featurestore.store.files import ChunkFiles
from featurestore.store.layout import CHECKSUMS, array_names, first_checksums, has_checksums
from schemas import StoreManifest

_VALUE_BYTES = 4


@dataclass(frozen=True)
class Checksums:
    """The checksums of one complete dataset's chunks, read fold by fold when first needed."""

    storage: Storage
    manifest: StoreManifest
    _read: dict[int, tuple[dict[str, int], bytes]] = field(default_factory=dict, compare=False)

    @cached_property
    def _sizes(self) -> dict[int, int]:
        return {fold.fold: fold.num_clips for fold in self.manifest.folds}

    def identify(self, fold: int, name: str, chunk: int) -> bytes | None:
        """Return the checksum of a chunk; None if the manifest vouches for none.

        Raises:
            CorruptError: The fold's checksums are missing, damaged or not the manifest's.
        """
        if not has_checksums(self.manifest) or self.manifest.state != "complete":
            return None
        if fold not in self._read:
            first = first_checksums(self.manifest, self._sizes[fold])
            self._read[fold] = first, self.of_fold(fold).astype("<u4").tobytes()
        first, values = self._read[fold]
        start = _VALUE_BYTES * (first[name] + chunk)
        return values[start : start + _VALUE_BYTES]

    def fault(self, fold: int) -> str | None:
        """Return what is wrong with a fold's checksums, if there should be any."""
        if not has_checksums(self.manifest) or self.manifest.state != "complete":
            return None
        try:
            self.of_fold(fold)
        except CorruptError as error:
            return str(error)
        return None

    def of_fold(self, fold: int) -> NDArray[np.uint32]:
        """Return the checksums of a fold, as stored and as the manifest demands.

        Raises:
            CorruptError: They are missing, damaged or not the manifest's.
        """
        key = checksums_key(self.manifest, fold)
        (expected,) = [f.checksums for f in self.manifest.folds if f.fold == fold]
        values = np.empty(first_checksums(self.manifest, self._sizes[fold])[""], np.uint32)
        try:
            most = values.nbytes + chunks.OVERHEAD_BYTES
            chunks.decode_chunk(self.storage.read(f"{key}/c/0", most), values)
        except FileNotFoundError as error:
            raise CorruptError(f"{key}: the chunk is missing") from error
        except (OSError, CorruptError) as error:
            raise CorruptError(
                f"{key}: the checksums of the fold's chunks: {cause(error)}"
            ) from error
        if list_sha256(values) != expected:
            raise CorruptError(f"{key}: they are not the checksums that the manifest vouches for")
        return values


def checksums_key(manifest: StoreManifest, fold: int) -> str:
    """Return the key of the array of a fold's checksums."""
    return f"{manifest.card.name}/{CHECKSUMS}/fold{fold}"


def stored_checksums(storage: Storage, manifest: StoreManifest) -> dict[int, NDArray[np.uint32]]:
    """Return, for each fold, the checksums that its chunks carry.

    Raises:
        CorruptError: A chunk is missing.
    """
    return {fold.fold: fold_checksums(storage, manifest, fold.fold) for fold in manifest.folds}


def fold_checksums(storage: Storage, manifest: StoreManifest, fold: int) -> NDArray[np.uint32]:
    """Return the checksums that one fold's chunks carry."""
    files = ChunkFiles(storage, manifest)
    return np.concatenate([files.checksums(name, fold) for name in array_names(manifest)])


def list_sha256(values: NDArray[np.uint32]) -> str:
    """Return the digest of a fold's checksums (n,), as the manifest has it."""
    return hashlib.sha256(values.astype("<u4").tobytes()).hexdigest()


def checksums_object(
    manifest: StoreManifest, fold: int, values: NDArray[np.uint32]
) -> tuple[str, bytes]:
    """Return the key and bytes of a fold's checksums (n,), which are one chunk."""
    return f"{checksums_key(manifest, fold)}/c/0", chunks.encode_chunk(values, len(values), 0)


def with_checksums(manifest: StoreManifest, values: dict[int, NDArray[np.uint32]]) -> StoreManifest:
    """Return the manifest that vouches for these checksums, by fold."""
    folds = tuple(
        fold.model_copy(update={"checksums": list_sha256(values[fold.fold])})
        for fold in manifest.folds
    )
    return manifest.model_copy(update={"folds": folds})
