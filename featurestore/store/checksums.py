"""Checksums of all chunks of a fold, which tie each chunk to its place.

From format version 2 on, a complete dataset has one array per fold in its group `checksums`:
uint32, one value per chunk, the CRC-32C at the end of the chunk. They are ordered by array
(`clip_id`, `path`, `source`, `class_id`, `index`, `duration_s`, `peak`, `source_sha256`, `status`,
then the images in the order of the spec's resolutions and variants), then by chunk. Chunks within
shards count individually. The manifest has the SHA-256 of each fold's list, little-endian, and a
digest of itself. So a chunk in the wrong place is detected by four bytes that are read anyway.
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
    """Checksums of the chunks of a complete dataset, read lazily per fold."""

    storage: Storage
    manifest: StoreManifest
    _read: dict[int, tuple[dict[str, int], bytes]] = field(default_factory=dict, compare=False)

    @cached_property
    def _sizes(self) -> dict[int, int]:
        return {fold.fold: fold.num_clips for fold in self.manifest.folds}

    def identify(self, fold: int, name: str, chunk: int) -> bytes | None:
        """Return the checksum that a chunk must have; None if the manifest has none.

        Raises:
            CorruptError: The fold's checksums are missing, damaged or do not match the manifest.
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
        """Return what is wrong with a fold's checksums; None if nothing is."""
        if not has_checksums(self.manifest) or self.manifest.state != "complete":
            return None
        try:
            self.of_fold(fold)
        except CorruptError as error:
            return str(error)
        return None

    def of_fold(self, fold: int) -> NDArray[np.uint32]:
        """Return the checksums of a fold, after comparing them with the manifest.

        Raises:
            CorruptError: They are missing, damaged or do not match the manifest.
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
    """Return the key of the array with a fold's checksums."""
    return f"{manifest.card.name}/{CHECKSUMS}/fold{fold}"


def stored_checksums(storage: Storage, manifest: StoreManifest) -> dict[int, NDArray[np.uint32]]:
    """Return the checksums at the end of all chunks, by fold.

    Raises:
        CorruptError: A chunk is missing.
    """
    return {fold.fold: fold_checksums(storage, manifest, fold.fold) for fold in manifest.folds}


def fold_checksums(storage: Storage, manifest: StoreManifest, fold: int) -> NDArray[np.uint32]:
    """Return the checksums at the end of all chunks of a fold."""
    files = ChunkFiles(storage, manifest)
    return np.concatenate([files.checksums(name, fold) for name in array_names(manifest)])


def list_sha256(values: NDArray[np.uint32]) -> str:
    """Return the SHA-256 digest (hex) of a fold's checksums (n,) for the manifest."""
    return hashlib.sha256(values.astype("<u4").tobytes()).hexdigest()


def checksums_object(
    manifest: StoreManifest, fold: int, values: NDArray[np.uint32]
) -> tuple[str, bytes]:
    """Return key and content of the chunk with a fold's checksums (n,)."""
    return f"{checksums_key(manifest, fold)}/c/0", chunks.encode_chunk(values, len(values), 0)


def with_checksums(manifest: StoreManifest, values: dict[int, NDArray[np.uint32]]) -> StoreManifest:
    """Return the manifest with the digests of checksums, given by fold."""
    folds = tuple(
        fold.model_copy(update={"checksums": list_sha256(values[fold.fold])})
        for fold in manifest.folds
    )
    return manifest.model_copy(update={"folds": folds})
