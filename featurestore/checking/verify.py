"""Does a store hold what its manifest says? Reads everything; changes nothing."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.building.build import status_counts
from featurestore.building.sourcecheck import changed_sources, sample_problems
from featurestore.errors import CorruptError, StoreError, UnknownNameError
from featurestore.storage import Place, Storage, locate, overlap
from featurestore.store.arrays import StoredArrays
from featurestore.store.cliptable import stored_clips
from featurestore.store.documents import (
    dataset_names,
    datasets_found,
    datasets_made,
    read_manifest,
    store_documents,
)
from featurestore.store.files import OUTCOMES
from featurestore.store.fingerprint import clips_sha256, fingerprint
from featurestore.store.metadata import DOCUMENT, same_meaning
from featurestore.store.plan import Block, fold_blocks
from schemas import ClipStatus, Fold, StoreManifest


@dataclass(frozen=True)
class Part:
    """One thing to check.

    Attributes:
        what: A chunk of one array, or something of the whole dataset, in words.
        check: Yields what is wrong with it.
        chunk: Where it lies, of a chunk: its rows and its array.
    """

    what: str
    check: Callable[[], Iterable[str]]
    chunk: tuple[Block, str] | None = None


def verify(
    path: Place, dataset: str | None = None, root: Path | None = None, sample: int = 32
) -> Iterator[list[str]]:
    """Check a store part by part.

    Args:
        path: Of the store, or its URL.
        dataset: One dataset only; None is all of them.
        root: Of the dataset's files: the digest of each is compared, and a sample of clips is
            extracted again.
        sample: How many clips that is.

    Yields:
        For each part checked, the problems found in it.

    Raises:
        StoreError: There is no store at `path`.
    """
    storage = locate(path)
    names, problems = _names(storage, dataset)
    yield problems
    for name in names:
        try:
            arrays = StoredArrays(storage, read_manifest(storage, name))
        except CorruptError as error:
            yield [str(error)]
            continue
        yield from (
            problems for _, problems in checked(_parts(arrays, root, sample), storage.threads)
        )
    yield _root_problems(storage)


def _names(storage: Storage, dataset: str | None) -> tuple[tuple[str, ...], list[str]]:
    """The datasets to check, also those that the root does not name, and what is wrong with it."""
    found, problems = set(datasets_found(storage)), []
    try:
        found.update(dataset_names(storage))
    except StoreError as error:
        if not found:
            raise
        problems.append(str(error))
    if not found:
        raise StoreError(f"{storage} holds no dataset")
    if dataset is None:
        return tuple(sorted(found)), problems
    if dataset not in found:
        raise UnknownNameError("dataset", dataset, sorted(found))
    return (dataset,), problems


def _root_problems(storage: Storage) -> list[str]:
    """Whether the root holds the mark, and the copy of all metadata, that the manifests demand."""
    try:
        manifests = [read_manifest(storage, name) for name in datasets_made(storage)]
    except CorruptError:
        return []  # told already, and the root cannot be judged
    wrong = wrong_metadata(storage, {DOCUMENT: store_documents(manifests)[DOCUMENT]}, manifests)
    return [f"{storage}: {key} {fault}" for key, fault in wrong]


def count_parts(path: Place, dataset: str | None = None, root: Path | None = None) -> int:
    """About how many parts `verify` will yield."""
    storage, total = locate(path), 0
    for name in _names(storage, dataset)[0]:
        with suppress(CorruptError):
            manifest = read_manifest(storage, name)
            num_blocks = sum(len(_blocks(manifest, fold)) for fold in manifest.folds)
            parts = len(manifest.spec.arrays) + len(OUTCOMES) + (root is not None)
            total += num_blocks * parts
    return total


def checked(parts: Iterable[Part], workers: int) -> Iterator[tuple[Part, list[str]]]:
    """Each part with its problems; checked by threads, a bounded number ahead."""
    queue = iter(parts)
    with ThreadPoolExecutor(workers) as pool:
        while batch := list(itertools.islice(queue, 8 * workers)):
            yield from zip(batch, pool.map(_check, batch), strict=True)


def _check(part: Part) -> list[str]:
    try:
        return [f"{part.what}: {problem}" for problem in part.check()]
    except StoreError as error:
        return [str(error)]


def _parts(arrays: StoredArrays, root: Path | None, sample: int) -> Iterator[Part]:
    manifest = arrays.manifest
    name = f"{arrays.storage}: {manifest.card.name}"
    yield Part(name, lambda: _metadata(arrays))
    yield Part(name, lambda: _state(arrays))
    yield Part(name, lambda: _clip_list(arrays))
    yield from chunk_parts(arrays)
    if root is not None:
        where = f"{name} against {root}"
        for block in itertools.chain(*(_blocks(manifest, fold) for fold in manifest.folds)):
            yield Part(where, partial(changed_sources, arrays, root, block))
        yield Part(where, lambda: sample_problems(arrays, root, sample))


def chunk_parts(arrays: StoredArrays) -> Iterator[Part]:
    """Every chunk that blocks write, but for those of blocks that are not committed."""
    for fold in arrays.manifest.folds:
        where = f"{arrays.storage}: {arrays.manifest.card.name}/fold{fold.fold}"
        for block in _blocks(arrays.manifest, fold):
            for array in (*OUTCOMES, *arrays.manifest.spec.arrays):
                yield Part(
                    f"{where}/{array}, rows {block.start} to {block.stop}",
                    partial(_values, arrays, block, array),
                    (block, array),
                )


def _blocks(manifest: StoreManifest, fold: Fold) -> tuple[Block, ...]:
    return fold_blocks(fold.fold, fold.num_clips, manifest.chunk_clips)


def _metadata(arrays: StoredArrays) -> Iterator[str]:
    expected = store_documents([arrays.manifest])
    del expected[DOCUMENT]
    wrong = wrong_metadata(arrays.storage, expected, [arrays.manifest])
    return (f"{key} {fault}" for key, fault in wrong)


def wrong_metadata(
    storage: Storage, expected: Mapping[str, bytes], manifests: Iterable[StoreManifest]
) -> Iterator[tuple[str, str]]:
    """Key and fault of each zarr.json not as expected: to the byte, if our zarr wrote it."""
    ours = all(m.libraries.get("zarr") == version("zarr") for m in manifests)
    keys = sorted(expected)
    for key, found in zip(keys, overlap(storage, partial(_found, storage), keys), strict=True):
        if isinstance(found, str):
            yield key, found
        elif found != expected[key] and (ours or not same_meaning(found, expected[key])):
            yield key, "is not what the manifest demands"


def _found(storage: Storage, key: str) -> bytes | str:
    """An object, or what is wrong with it."""
    try:
        return storage.read(key)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _state(arrays: StoredArrays) -> Iterator[str]:
    manifest = arrays.manifest
    counts = status_counts(arrays)
    pending = counts.get(ClipStatus.PENDING.name.lower(), 0)
    if manifest.state != "complete":
        yield "the build is not finished; run `featurestore build` again"
    elif pending:
        yield f"{pending} clips are not committed, but the manifest says complete"
    elif counts != manifest.counts:
        yield f"the manifest counts {manifest.counts}, the rows are {counts}"


def _clip_list(arrays: StoredArrays) -> Iterator[str]:
    """The clip table must give the digest that the manifest has."""
    manifest = arrays.manifest
    found = clips_sha256(stored_clips(arrays), manifest.card.class_names)
    if found != manifest.clips_sha256:
        yield "the clip table is not the one the manifest was made for"
    if manifest.fingerprint != fingerprint(manifest.spec, found, manifest.extractor_version):
        yield "the fingerprint is not that of the spec and the clip table"


def _values(arrays: StoredArrays, block: Block, array: str) -> Iterator[str]:
    """Every stored value must be readable and possible."""
    if array == "status":
        arrays.read(block.fold, array, block.rows)
        return
    status = _status(arrays, block)
    if status is not None and not status.any():
        return  # not committed; told of the whole dataset
    values = arrays.read(block.fold, array, block.rows)
    if array in OUTCOMES or status is None:
        return
    ok = status == ClipStatus.OK
    if values[~ok].any():
        yield "rows of failed clips are not zero"
    good = values[ok].astype(np.float32) * np.float32(arrays.manifest.spec.scale)
    if good.size and not (
        np.nanmin(good) >= 0 and np.nanmax(good) <= 1 and np.isfinite(good).all()
    ):
        yield "values are outside [0, 1]"


def _status(arrays: StoredArrays, block: Block) -> NDArray[np.uint8] | None:
    """None where it is damaged, which is told once, of itself."""
    try:
        status: NDArray[np.uint8] = arrays.read(block.fold, "status", block.rows)
    except CorruptError:
        return None
    return status
