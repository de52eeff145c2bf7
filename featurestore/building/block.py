"""The unit of work: the files of one block, extracted and committed. Runs in a worker process."""

import itertools
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.building.commit import check_current, commit
from featurestore.building.executors import TwoSteps
from featurestore.building.fitness import check_fit, check_root
from featurestore.errors import AudioError, CorruptError
from featurestore.extraction.audio import WHOLE
from featurestore.extraction.clip import extract_file, one_thread
from featurestore.extraction.extractor import Extractor
from featurestore.extraction.recordings import Span
from featurestore.extraction.sources import clip_file
from featurestore.malloc import ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD, set_malloc
from featurestore.storage import LocalStorage, Storage, locate
from featurestore.store.arrays import StoredArrays, open_arrays
from featurestore.store.layout import outcomes
from featurestore.store.plan import Block
from featurestore.store.records import end_of_paths
from schemas import ClipStatus


@dataclass(frozen=True)
class BlockTask:
    """Block and settings for a worker process, whose working directory may differ.

    Attributes:
        store: Storage to write to; its path is absolute.
        dataset: Name of the dataset in the store.
        fingerprint: Fingerprint of the features that the block is built for; never empty.
        root: Root of the audio files; absolute.
        block: Rows to build.
        crashed: Rows that must not be opened because their file kills the process, and how the
            process died.
        paths_end: Checksum of the paths of the block's clips, if the worker has to compare it with
            the clip table.
        witness: A file below the root that the process that started the build can see: if a
            worker cannot, the worker is at fault and not the clips.
    """

    store: Storage
    dataset: str
    fingerprint: str
    root: Path
    block: Block
    crashed: Mapping[int, str] = field(default_factory=dict)
    witness: str | None = None
    paths_end: bytes | None = None

    def __post_init__(self) -> None:
        if not self.fingerprint:
            raise ValueError("a task says which features it is for: its fingerprint is empty")
        store = locate(self.store)
        if isinstance(store, LocalStorage):
            store = LocalStorage(store.path.absolute())
        # Frozen once it is made, but a worker may have another working directory.
        object.__setattr__(self, "store", store)
        object.__setattr__(self, "root", self.root.absolute())


@dataclass(frozen=True)
class ClipFailure:
    """A clip without features, and why; `path` includes the part of the file that the clip is."""

    clip_id: str
    path: str
    status: ClipStatus
    detail: str


@dataclass(frozen=True)
class BlockOutcome:
    """Outcome of a committed block."""

    block: Block
    failures: tuple[ClipFailure, ...]
    host: str = ""
    libraries: str = ""
    """Differences between this host's libraries and those with which the store was started."""


def block_tasks(arrays: StoredArrays, root: Path, blocks: Iterable[Block]) -> list[BlockTask]:
    """Return the tasks for workers to build blocks of a store from the files below a root."""
    name, key = arrays.manifest.card.name, arrays.manifest.fingerprint
    todo = list(blocks)
    table = arrays.unsealed()  # of a store under repair, the checksums may be what is lost
    addresses = [table.addresses(block) for block in todo]
    paths = (table.read(block.fold, "path", block.rows) for block in todo)
    witness = _witness(root, itertools.chain.from_iterable(paths))
    return [
        BlockTask(
            arrays.storage,
            name,
            key,
            root,
            block,
            witness=witness,
            paths_end=end_of_paths(of_block),
        )
        for block, of_block in zip(todo, addresses, strict=True)
    ]


def _witness(root: Path, paths: Iterable[str]) -> str | None:
    """Return the first path of a file that exists; None if there is none."""
    return next((path for path in paths if os.path.lexists(root / path)), None)


# A worker builds many blocks of the same few datasets, whose documents are thus read once.
@lru_cache(maxsize=4)
def _opened(store: Storage, dataset: str, fingerprint: str) -> tuple[StoredArrays, Extractor]:
    # Unsealed: chunks to be written here have no checksums in the manifest yet.
    arrays = open_arrays(store, dataset).unsealed()
    check_current(arrays, fingerprint)
    return arrays, Extractor(arrays.manifest.spec)


@lru_cache(maxsize=1)
def _keep_freed_memory() -> None:
    """Let malloc keep the memory that a clip freed for the next one.

    Each thread that commits would otherwise have new pages of its own: one heap serves all of
    them, and one the rest.
    """
    set_malloc({MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**28, ARENA_MAX: 2})


@dataclass(frozen=True)
class _Extraction:
    """A block before its commit: what was extracted, or the outcome of an earlier commit."""

    task: BlockTask
    libraries: str
    result: "Extracted | BlockOutcome"


def _extract_once(task: BlockTask, starting: Callable[[int], object] = int) -> _Extraction:
    libraries = check_fit(task.store, task.dataset, task.root, task.witness)
    earlier = _committed(task)
    return _Extraction(task, libraries, earlier or extract_block(task, starting))


def _commit_once(extraction: _Extraction) -> BlockOutcome:
    task, result = extraction.task, extraction.result
    if isinstance(result, Extracted):
        # Another build of the same store may have committed it since.
        result = _committed(task) or _commit(task, result)
    return replace(result, host=socket.gethostname(), libraries=extraction.libraries)


build_once = TwoSteps(_extract_once, _commit_once)
"""Build a block as `build_block` does, unless it is already committed.

Dask reruns a task whose result was lost with its worker, although the block is in the store. The
second step is the commit, which mostly waits for the disk: a third of a build if nothing overlaps.

Raises:
    UnfitWorkerError: This process cannot do the task, but another worker may.
    FingerprintError: The store now holds other features.
    BuildError: The store was deleted.
    StorageError: The store cannot be written.
    OSError: Reading failed for a reason other than the file itself, such as a disk error.
"""


def _committed(task: BlockTask) -> BlockOutcome | None:
    """Return the outcome of a block committed earlier; None if it is pending."""
    arrays, _ = _opened(task.store, task.dataset, task.fingerprint)
    check_current(arrays, task.fingerprint)  # the store may have been replaced since it was opened
    fold, rows = task.block.fold, task.block.rows
    status = arrays.read(fold, "status", rows)
    if not status.all():  # PENDING is 0
        return None
    failures = (
        ClipFailure(
            arrays.read(fold, "clip_id", rows)[row],
            arrays.addresses(task.block)[row],
            ClipStatus(int(status[row])),
            "found committed",
        )
        for row in np.flatnonzero(status > ClipStatus.OK)
    )
    return BlockOutcome(task.block, tuple(failures))


def build_block(task: BlockTask, starting: Callable[[int], object] = int) -> BlockOutcome:
    """Extract the clips of a block and commit it. Idempotent: the same files, the same bytes.

    Args:
        task: The block.
        starting: Called with each row before its file is opened, and with the number of rows at the
            end.

    Raises:
        StorageError: The store cannot be written.
        OSError: Reading failed for a reason other than the file itself, such as a disk error.
    """
    return _commit(task, extract_block(task, starting))


def _commit(task: BlockTask, extracted: "Extracted") -> BlockOutcome:
    arrays, _ = _opened(task.store, task.dataset, task.fingerprint)
    commit(arrays, task.fingerprint, task.block, extracted.values, extracted.paths)
    return BlockOutcome(task.block, extracted.failures)


@dataclass(frozen=True)
class Extracted:
    """Rows of a block.

    Attributes:
        values: Array name to rows (len(block), ...).
        paths: Paths of the clips, with the part of the file that each is, as in the clip table.
        failures: Clips without features.
    """

    values: dict[str, NDArray[Any]]
    paths: tuple[str, ...]
    failures: tuple[ClipFailure, ...]


def extract_block(task: BlockTask, starting: Callable[[int], object] = int) -> Extracted:
    """Return the rows of every array of a block, and the clips without features.

    Raises:
        UnfitWorkerError: The whole root is missing on this machine.
        CorruptError: The clip table is not the one for which the task was made.
        OSError: Reading failed for a reason other than the file itself, such as a disk error.
    """
    _keep_freed_memory()
    arrays, extractor = _opened(task.store, task.dataset, task.fingerprint)
    addresses = arrays.addresses(task.block)
    if task.paths_end not in (None, end_of_paths(addresses)):
        _opened.cache_clear()  # the table was repaired since this process read it, or is not yet
        arrays, extractor = _opened(task.store, task.dataset, task.fingerprint)
        addresses = arrays.addresses(task.block)
        if task.paths_end != end_of_paths(addresses):
            raise CorruptError(
                f"{task.store}: the clip table of {task.dataset} changed while the store was "
                "built: does something else write to it? Run the same command again"
            )
    ids, paths = (arrays.read(task.block.fold, n, task.block.rows) for n in ("clip_id", "path"))
    spans = _spans(arrays, task.block)
    values = _empty(arrays, len(task.block))
    failures = []
    with one_thread():
        for row in _in_reading_order(paths, spans):
            path = paths[row]
            try:
                _announce(task, row, starting)
                _extract(clip_file(task.root, path), spans[row], row, extractor, values)
                values["status"][row] = ClipStatus.OK
            except AudioError as error:
                values["status"][row] = error.status
                # np.empty left what was in memory: the same input must give the same bytes.
                for array in extractor.spec.arrays:
                    values[array][row] = 0
                where = addresses[row]
                failures.append(ClipFailure(ids[row], where, error.status, error.detail))
    starting(len(paths))
    # A file that is missing may be the fault of this machine, which does not see the root.
    if any(failure.status == ClipStatus.MISSING for failure in failures):
        check_root(task.root, task.witness)
    return Extracted(values, tuple(addresses), tuple(failures))


def _spans(arrays: StoredArrays, block: Block) -> list[Span]:
    """Return the part of its file that each clip of a block is."""
    if not arrays.manifest.parts and not arrays.manifest.shards:
        return [WHOLE] * len(block)
    return [Span(*place) for place in arrays.places(block)]


def _in_reading_order(paths: NDArray[Any], spans: Sequence[Span]) -> Iterable[int]:
    """Return the rows ordered by file and by position in it, so that each file is read forward."""
    if all(span is WHOLE for span in spans):
        return range(len(paths))
    starts = [0.0 if isnan(span.start_s) else span.start_s for span in spans]
    return sorted(range(len(paths)), key=lambda row: (paths[row], spans[row].item, starts[row]))


def _announce(task: BlockTask, row: int, starting: Callable[[int], object]) -> None:
    """Report the row whose file is opened next, so that a crash can be blamed on it.

    Raises:
        AudioError: The file killed a process before and must not be opened.
    """
    if row in task.crashed:
        raise AudioError(ClipStatus.CRASH, task.crashed[row])
    starting(row)


def _empty(arrays: StoredArrays, num_clips: int) -> dict[str, NDArray[Any]]:
    """Return rows to fill: images that hold nothing yet, and outcomes as of failed clips."""
    spec = arrays.manifest.spec
    images = {
        key: np.empty((num_clips, *shape), spec.dtype_of(key)) for key, shape in spec.arrays.items()
    }
    results = {
        name: np.full((num_clips, *inner), np.nan if fill == "NaN" else fill, dtype)
        for name, (dtype, inner, fill) in outcomes(arrays.manifest).items()
    }
    return images | results


def _extract(
    path: Path, span: Span, row: int, extractor: Extractor, values: dict[str, NDArray[Any]]
) -> None:
    """Fill one row of each array.

    Raises:
        AudioError: The file cannot be used.
    """
    images, recording = extract_file(path, extractor, span)
    for key, image in images.items():
        values[key][row] = image
    values["duration_s"][row] = recording.duration_s
    values["peak"][row] = recording.peak
    values["source_sha256"][row] = np.frombuffer(recording.source_sha256, np.uint8)
    if "trimmed_s" in values:
        start, stop = extractor.trim_bounds(recording.waveform)
        values["trimmed_s"][row] = (stop - start) / extractor.spec.sample_rate
