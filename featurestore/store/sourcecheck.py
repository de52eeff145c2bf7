"""Comparison of audio files with a store: unchanged files, and reproducible features."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.cliplist import NO_ITEM, address
from featurestore.errors import AudioError
from featurestore.extraction import audio
from featurestore.extraction.extractor import Extractor
from featurestore.extraction.recordings import Span
from featurestore.extraction.shards import item_sha256
from featurestore.extraction.sources import clip_file, open_source
from featurestore.storage import LocalStorage
from featurestore.store.arrays import StoredArrays
from featurestore.store.metadata import DOCUMENT
from featurestore.store.plan import Block
from schemas import ClipStatus, FeatureSpec

_ANY_SIZE = 2**62
"""No size limit: files in the store passed the limits when they were extracted."""
_COMPARED = 256
"""Maximum number of newer files that a build rereads; `verify --root` reads all."""
_NAMED = 3
TOLERANCE = 2e-3
"""Tolerance of re-extracted values in [0, 1]: covers a float16 step near 1, and other FFTs."""


def changed_sources(arrays: StoredArrays, root: Path, block: Block) -> Iterator[tuple[str, str]]:
    """Yield each file of a block that has changed since its features were made, with the reason.

    Failed clips have no digest and are skipped.

    Raises:
        CorruptError: The clip table, the outcomes or the digests are damaged.
    """
    rows = block.rows
    ok = np.flatnonzero(arrays.read(block.fold, "status", rows) == ClipStatus.OK)
    paths = arrays.read(block.fold, "path", rows)[ok]
    digests = arrays.read(block.fold, "source_sha256", rows)[ok]
    places = arrays.places(block)
    items = [places[row][-1] for row in ok]
    compared: dict[tuple[str, int, bytes], str | None] = {}  # a recording has many parts
    # In the order in which shards are read.
    for key in sorted(zip(paths.tolist(), items, map(bytes, digests), strict=True)):
        if key not in compared:
            compared[key] = fault = _fault(root, *key)
            if fault:
                yield address(key[0], item=key[1]), fault


def _fault(root: Path, path: str, item: int, digest: bytes) -> str | None:
    try:
        actual = _digest(clip_file(root, path), item)
    except AudioError as error:
        return str(error)
    return None if actual == digest else "the file is not the one the features were made from"


def _digest(path: Path, item: int) -> bytes:
    if item != NO_ITEM:
        return item_sha256(path, item)
    descriptor, _ = open_source(path, _ANY_SIZE)
    with os.fdopen(descriptor, "rb") as source:
        return hashlib.file_digest(source, "sha256").digest()


def edited_sources(arrays: StoredArrays, root: Path) -> Iterator[str]:
    """Yield a warning if files changed after the store was started, by a cheap, incomplete check.

    Up to a limit, files that are newer than the store by the file system are compared; the store
    must be in a directory.
    """
    newer = _newer(arrays, root)
    edited = [
        arrays.read(fold, "path", slice(row, row + 1))[0]
        for fold, row in newer[:_COMPARED]
        if any(changed_sources(arrays, root, Block(fold, row, row + 1)))
    ]
    if edited:
        more = ", …" if len(edited) > _NAMED else ""
        yield (
            f"{len(edited)} of the files at {root} changed after their features were stored "
            f"({', '.join(edited[:_NAMED])}{more}), and the store keeps the old ones. Put the "
            f"files back, or build another --store; `featurestore verify {arrays.storage} --root "
            f"{root}` compares all"
        )
    elif len(newer) > _COMPARED:
        yield (
            f"{len(newer)} of the files at {root} are newer than the store; {_COMPARED} were "
            f"compared and are the same. `featurestore verify {arrays.storage} --root {root}` "
            "compares all"
        )


def _newer(arrays: StoredArrays, root: Path) -> list[tuple[int, int]]:
    """Return fold and row of the clips whose file changed, was moved or vanished since."""
    first = arrays.manifest.folds[0].fold
    if not isinstance(arrays.storage, LocalStorage):
        return []
    key = f"{arrays.manifest.card.name}/fold{first}/status/{DOCUMENT}"
    started_ns = (arrays.storage.path / key).stat().st_mtime_ns
    changed = []
    for fold in (fold.fold for fold in arrays.manifest.folds):
        ok = np.flatnonzero(arrays.read(fold, "status") == ClipStatus.OK)
        paths = arrays.read(fold, "path")
        changed += [(fold, int(row)) for row in ok if _changed_at(root / paths[row]) > started_ns]
    return changed


def _changed_at(file: Path) -> float:
    """Return the time in ns when a file's contents or its entry changed, whichever is later."""
    try:
        status = file.stat()
    except OSError:
        return np.inf
    return max(status.st_mtime_ns, status.st_ctime_ns)


def sample_problems(arrays: StoredArrays, root: Path, sample: int) -> Iterator[str]:
    """Re-extract a sample of unchanged files, and yield differences from the store."""
    manifest = arrays.manifest
    extractor = Extractor(manifest.spec)
    picked = np.random.default_rng(0).permutation(
        [
            (fold.fold, int(row))
            for fold in manifest.folds
            for row in np.flatnonzero(arrays.read(fold.fold, "status") == ClipStatus.OK)
        ]
    )
    for fold, row in picked[:sample]:
        yield from _source(arrays, extractor, root, (int(fold), int(row)))


def _source(
    arrays: StoredArrays, extractor: Extractor, root: Path, where: tuple[int, int]
) -> Iterator[str]:
    fold, row = where

    def stored(name: str) -> NDArray[Any]:
        value: NDArray[Any] = arrays.read(fold, name, slice(row, row + 1))[0]
        return value

    path = str(stored("path"))
    span = Span(*arrays.places(Block(fold, row, row + 1))[0])
    try:
        recording = audio.load(clip_file(root, path), extractor.spec, span)
    except AudioError:
        return
    if recording.source_sha256 != stored("source_sha256").tobytes():
        return
    for array, fresh in extractor.stored(recording.waveform, recording.at_rates).items():
        worst = distance(fresh, stored(array), extractor.spec, array)
        if worst > TOLERANCE:
            yield f"{path}, {array}: stored values differ from the file's by up to {worst:.2g}"


def distance(
    one: NDArray[Any],
    other: NDArray[Any],
    spec: FeatureSpec,
    array: str,
    axes: tuple[int, ...] | None = None,
) -> NDArray[np.float32]:
    """Return the largest difference between stored values of an array, over some axes or all.

    For images it is in units of [0, 1]; for features relative to the largest absolute value if that
    exceeds 1.
    """
    largest = np.abs(one.astype(np.float32) - other.astype(np.float32)).max(axis=axes)
    if spec.feature(array) is None:
        return np.asarray(largest * np.float32(spec.scale))
    extent = np.maximum(np.abs(one).max(axis=axes), np.abs(other).max(axis=axes))
    return np.asarray(largest / np.maximum(extent, np.float32(1)))
