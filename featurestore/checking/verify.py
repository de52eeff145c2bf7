"""Verification that a store holds what its manifest says. Reads everything, changes nothing."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptError, SourcesError, StoreError, UnknownNameError, cause
from featurestore.storage import Place, Storage, locate, overlap
from featurestore.store.agreement import agrees
from featurestore.store.arrays import StoredArrays
from featurestore.store.cliptable import stored_clips
from featurestore.store.counts import status_counts
from featurestore.store.documents import dataset_documents, read_manifest, store_documents
from featurestore.store.fingerprint import clips_sha256
from featurestore.store.layout import outcomes, table_columns, written_arrays
from featurestore.store.parsing import DOCUMENT, parsed
from featurestore.store.plan import Block, fold_blocks
from featurestore.store.root import datasets_found, datasets_made, read_root
from featurestore.store.sourcecheck import changed_sources, sample_problems
from featurestore.text import quantity
from schemas import ClipStatus, Fold, StoreManifest


class FileProblem(str):
    """A problem with one audio file, in words, with its reason for grouping.

    Attributes:
        file: Path of the file, as in the store.
        reason: Reason without the file, equal for all files with the same fault.
    """

    file: str
    reason: str

    @classmethod
    def of(cls, where: str, file: str, reason: str) -> Self:
        """Return the problem of a file, prefixed by the place where it was found."""
        problem = cls(f"{where}: {file}: {reason}")
        problem.file, problem.reason = file, f"{where}: {reason}"
        return problem


@dataclass(frozen=True)
class Part:
    """One thing to check.

    Attributes:
        what: What is checked, in words: a chunk of an array, or something of the whole dataset.
        check: Yields the problems found.
        chunk: Rows and array of the chunk, if it is one.
    """

    what: str
    check: Callable[[], Iterable[str]]
    chunk: tuple[Block, str] | None = None


def verify(
    path: Place, dataset: str | None = None, root: Path | None = None, sample: int = 32
) -> Iterator[list[str]]:
    """Check a store part by part.

    Args:
        path: Path or URL of the store.
        dataset: Name of the only dataset to check; None for all.
        root: Root of the dataset's files: the digest of each is compared, and a sample of clips is
            extracted again.
        sample: Number of clips in the sample.

    Yields:
        For each part checked, the problems found in it; those of audio files as `FileProblem`.

    Raises:
        StoreError: There is no store at `path`.
        SourcesError: `root` is not a directory.
    """
    storage = locate(path)
    names, problems = _names(storage, dataset)
    if root is not None and not root.is_dir():
        raise SourcesError(f"{root}: there is no such directory")
    yield problems
    for name in names:
        try:
            manifest = read_manifest(storage, name)
        except CorruptError as error:
            yield [str(error)]
            continue
        arrays, problems = _readable(StoredArrays(storage, manifest))
        yield problems
        parts = itertools.chain(_whole_parts(arrays, manifest), _parts(arrays, root, sample))
        yield from (problems for _, problems in checked(parts, storage.threads))
    yield _root_problems(storage)


def _names(storage: Storage, dataset: str | None) -> tuple[tuple[str, ...], list[str]]:
    """Return the datasets to check, also those the root does not name, and the root's problems."""
    names, problems = set(datasets_found(storage)), []
    try:
        read_root(storage)
    except CorruptError as error:
        problems.append(str(error))
    if not names:
        raise StoreError(f"{storage} holds no dataset")
    if dataset is None:
        return tuple(sorted(names)), problems
    if dataset not in names:
        raise UnknownNameError("dataset", dataset, sorted(names))
    return (dataset,), problems


def _readable(arrays: StoredArrays) -> tuple[StoredArrays, list[str]]:
    """Return the arrays, without the checksums where these are damaged, so that it is said once."""
    problems = [
        f"{arrays.storage}: {fault}"
        for fold in arrays.manifest.folds
        if (fault := arrays.checksums.fault(fold.fold))
    ]
    return arrays.unsealed() if problems else arrays, problems


def _root_problems(storage: Storage) -> list[str]:
    """Return what is wrong with the root's mark, and its copies of the metadata."""
    try:
        manifests = [read_manifest(storage, name) for name in datasets_made(storage)]
    except CorruptError:
        return []  # reported already, and the root cannot be judged
    wrong = wrong_metadata(storage, {DOCUMENT: store_documents(manifests)[DOCUMENT]})
    return [f"{storage}: {key} {fault}" for key, fault in wrong]


def count_parts(path: Place, dataset: str | None = None, root: Path | None = None) -> int:
    """Return about how many parts `verify` will yield."""
    storage, total = locate(path), 0
    for name in _names(storage, dataset)[0]:
        with suppress(CorruptError):
            manifest = read_manifest(storage, name)
            num_blocks = sum(len(_blocks(manifest, fold)) for fold in manifest.folds)
            parts = len(written_arrays(manifest)) + (root is not None)
            total += num_blocks * parts
    return total


def checked(parts: Iterable[Part], workers: int) -> Iterator[tuple[Part, list[str]]]:
    """Yield each part with its problems, checked by threads a bounded number of parts ahead."""
    queue = iter(parts)
    with ThreadPoolExecutor(workers) as pool:
        while batch := list(itertools.islice(queue, 8 * workers)):
            yield from zip(batch, pool.map(_check, batch), strict=True)


def _check(part: Part) -> list[str]:
    try:
        return [
            problem if isinstance(problem, FileProblem) else f"{part.what}: {problem}"
            for problem in part.check()
        ]
    except StoreError as error:
        return [str(error)]


def _whole_parts(arrays: StoredArrays, manifest: StoreManifest) -> Iterator[Part]:
    """Yield the checks of a dataset as a whole.

    Args:
        arrays: Perhaps unsealed.
        manifest: As it is in the store.
    """
    name = f"{arrays.storage}: {manifest.card.name}"
    yield Part(name, lambda: _metadata(arrays.storage, manifest))
    yield Part(name, lambda: _state(arrays, manifest))
    for fold, column in itertools.product(manifest.folds, table_columns(manifest)):
        yield Part(name, partial(_column, arrays, fold.fold, column))
    yield Part(name, lambda: _clip_list(arrays))


def _changed(where: str, arrays: StoredArrays, root: Path, block: Block) -> Iterator[FileProblem]:
    for file, reason in changed_sources(arrays, root, block):
        yield FileProblem.of(where, file, reason)


def _parts(arrays: StoredArrays, root: Path | None, sample: int) -> Iterator[Part]:
    manifest = arrays.manifest
    yield from chunk_parts(arrays)
    if root is not None:
        where = f"{arrays.storage}: {manifest.card.name} against {root}"
        for block in itertools.chain(*(_blocks(manifest, fold) for fold in manifest.folds)):
            yield Part(where, partial(_changed, where, arrays, root, block))
        yield Part(where, lambda: sample_problems(arrays, root, sample))


def chunk_parts(arrays: StoredArrays) -> Iterator[Part]:
    """Yield every chunk written by blocks, except those of uncommitted blocks."""
    for fold in arrays.manifest.folds:
        where = f"{arrays.storage}: {arrays.manifest.card.name}/fold{fold.fold}"
        for block in _blocks(arrays.manifest, fold):
            for array in written_arrays(arrays.manifest):
                yield Part(
                    f"{where}/{array}, rows {block.start} to {block.stop}",
                    partial(_values, arrays, block, array),
                    (block, array),
                )


def _blocks(manifest: StoreManifest, fold: Fold) -> tuple[Block, ...]:
    return fold_blocks(fold.fold, fold.num_clips, manifest.chunk_clips)


def _metadata(storage: Storage, manifest: StoreManifest) -> Iterator[str]:
    wrong = wrong_metadata(storage, dataset_documents(manifest))
    return (f"{key} {fault}" for key, fault in wrong)


def wrong_metadata(storage: Storage, expected: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Yield the key and the fault of each zarr.json that differs from what is expected."""
    keys = sorted(expected)
    for key, stored in zip(keys, overlap(storage, partial(_found, storage), keys), strict=True):
        if isinstance(stored, str):
            yield key, stored
        elif stored != expected[key] and not _says(stored, expected[key]):
            yield key, "is not what the manifest demands"


def _says(stored: bytes, expected: bytes) -> bool:
    try:
        return agrees(parsed(stored), parsed(expected))
    except ValueError:
        return False


def _found(storage: Storage, key: str) -> bytes | str:
    """Return an object, or what is wrong with it."""
    try:
        return storage.read(key)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {cause(error)}"


def _state(arrays: StoredArrays, manifest: StoreManifest) -> Iterator[str]:
    counts = status_counts(arrays)
    pending = counts.get(ClipStatus.PENDING.name.lower(), 0)
    if manifest.state != "complete":
        yield "the build is not finished; run `featurestore build` again"
    elif pending:
        yield f"not committed: {quantity(pending, 'clip')}, but the manifest says complete"
    elif counts != manifest.counts:
        yield f"the manifest counts {manifest.counts}, the rows are {counts}"


def _column(arrays: StoredArrays, fold: int, name: str) -> Iterator[str]:
    """Yield a problem if a column of the clip table cannot be read."""
    arrays.read(fold, name)
    yield from ()


def _clip_list(arrays: StoredArrays) -> Iterator[str]:
    """Yield a problem if the clip table does not give the digest that the manifest has."""
    manifest = arrays.manifest
    try:
        for fold, column in itertools.product(manifest.folds, table_columns(manifest)):
            arrays.read(fold.fold, column)
    except CorruptError:
        return  # reported with the column
    stored_sha256 = clips_sha256(stored_clips(arrays), manifest.card.class_names)
    if stored_sha256 != manifest.clips_sha256:
        yield "the clip table is not the one the manifest was made for"


def _values(arrays: StoredArrays, block: Block, array: str) -> Iterator[str]:
    """Yield a problem for each array whose stored values cannot be read or are impossible."""
    if array == "status":
        arrays.read(block.fold, array, block.rows)
        return
    status = _status(arrays, block)
    if status is not None and not status.any():
        return  # not committed; reported for the whole dataset
    values = arrays.read(block.fold, array, block.rows)
    if status is None or array == "source_sha256":
        return
    ok = status == ClipStatus.OK
    if array in outcomes(arrays.manifest):
        if not (np.isfinite(values[ok]).all() and (values[ok] >= 0).all()):
            yield "values are negative or not finite"
    elif values[~ok].any():
        yield "rows of failed clips are not zero"


def _status(arrays: StoredArrays, block: Block) -> NDArray[np.uint8] | None:
    """Return the status of a block; None if it is damaged, which is reported once, on its own."""
    try:
        status: NDArray[np.uint8] = arrays.read(block.fold, "status", block.rows)
    except CorruptError:
        return None
    return status
