"""A build: from a dataset to a complete store, resuming what an earlier build left unfinished.

Plan the blocks, create the arrays, run the blocks that are not committed, mark the store as
complete. `block` has what is done per block, `executors` where it runs.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.building.block import BlockOutcome, ClipFailure, block_tasks, build_once
from featurestore.building.commit import check_current, held
from featurestore.building.executors import Executor, SerialExecutor
from featurestore.building.fitness import differing_libraries
from featurestore.building.isolated import run_isolated
from featurestore.building.manifests import library_warnings, plan_manifest, refuse_other
from featurestore.datasets.base import Dataset
from featurestore.errors import BuildError, CorruptError, StrictError, cause
from featurestore.storage import Place, Storage, locate
from featurestore.store import plan
from featurestore.store.arrays import StoredArrays
from featurestore.store.cliptable import clip_tables, differing_columns, write_columns
from featurestore.store.counts import status_counts
from featurestore.store.creation import claim_arrays, create_arrays, find_arrays, remove_partial
from featurestore.store.documents import dataset_names
from featurestore.store.lock import locked, remove_left
from featurestore.store.plan import Block
from featurestore.store.sourcecheck import edited_sources
from featurestore.text import quantity
from schemas import FORMAT_VERSION, ClipStatus, FeatureSpec, StoreManifest


@dataclass(frozen=True)
class BuildOptions:
    """Handling of failed clips, and of what the store already holds.

    Attributes:
        strict: Treat a failed clip as an error; the build stops at the first block that has one.
        retry_failed: Rebuild blocks with failed clips.
        coordinates: Store Hz, seconds and class names as coordinates of a new dataset, and each
            clip's trimmed length, whatever its spec.
    """

    strict: bool = False
    retry_failed: bool = False
    coordinates: bool = False


class Observer(Protocol):
    """Interface for watching the progress of a build."""

    def started(self, manifest: StoreManifest, num_done: int) -> None:
        """Handle the start: the arrays exist, and `num_done` clips were committed before."""
        ...

    def committed(self, outcome: BlockOutcome) -> None:
        """Handle a committed block."""
        ...


class _Silent:
    """Observer that ignores everything."""

    def started(self, manifest: StoreManifest, num_done: int) -> None:
        """Do nothing."""

    def committed(self, outcome: BlockOutcome) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class BuildReport:
    """Result of a build.

    Attributes:
        manifest: Manifest of the complete store.
        num_built: Clips built by this call, failed ones included.
        failures: Clips that failed in this call.
        warnings: Warnings for the user.
    """

    manifest: StoreManifest
    num_built: int
    failures: tuple[ClipFailure, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class BuildPlan:
    """Preview of a build: what exists, and what `build` would add.

    Attributes:
        manifest: Manifest of the store, as stored or as it would be written.
        num_pending: Clips that are not built yet.
        most_bytes: Size of their arrays in bytes, before compression.
    """

    manifest: StoreManifest
    num_pending: int
    most_bytes: int


def plan_build(dataset: Dataset, path: Place, spec: FeatureSpec | None = None) -> BuildPlan:
    """Return what `build` would do with the same arguments; nothing is written.

    Raises:
        FingerprintError: The store holds this dataset with other features or clips.
        StoreError: `path` is not a store.
    """
    planned = plan_manifest(dataset, spec or FeatureSpec())
    stored = _find(dataset, locate(path), planned)
    manifest, num_pending = planned, planned.num_clips
    if stored is not None:
        manifest = stored.manifest
        num_pending = sum(map(len, blocks_where(stored, lambda s: s == ClipStatus.PENDING)))
    return BuildPlan(manifest, num_pending, num_pending * manifest.spec.clip_bytes)


def build(
    dataset: Dataset,
    path: Place,
    spec: FeatureSpec | None = None,
    executor: Executor | None = None,
    options: BuildOptions | None = None,
    observer: Observer | None = None,
) -> BuildReport:
    """Build a dataset into a store, or finish a build that was interrupted.

    Does nothing if the store is complete. The bytes written do not depend on the executor, nor on
    how often the build was interrupted.

    Args:
        dataset: Card, root and clips.
        path: Path or URL of the store, which may hold other datasets.
        spec: Spec of the features; None for the paper's.
        executor: Where blocks run; None means in this process, one after another.
        options: Handling of failed clips.
        observer: Receives the progress.

    Raises:
        FingerprintError: The store holds this dataset with other features or clips.
        StrictError: A clip failed, with `options.strict`.
        StorageError: The store cannot be written.
        BusyError: Another process is writing the store.
        BuildError: A file cannot be read because of the machine, or processes die.
        StoreError: `path` is not a store.
    """
    options, observer = options or BuildOptions(), observer or _Silent()
    planned = plan_manifest(dataset, spec or FeatureSpec(), coordinates=options.coordinates)
    storage = locate(path)
    try:
        stored = _find(dataset, storage, planned)
        finished = stored is not None and stored.manifest.state == "complete"
        if stored is not None and finished:
            remove_left(storage, stored.manifest)
        with nullcontext() if finished and not options.retry_failed else locked(storage):
            return _build(
                dataset, storage, planned, executor or SerialExecutor(), options, observer
            )
    except OSError as error:
        raise machine_fault(error) from error


def _build(
    dataset: Dataset,
    storage: Storage,
    planned: StoreManifest,
    executor: Executor,
    options: BuildOptions,
    observer: Observer,
) -> BuildReport:
    arrays = _find_or_create(dataset, storage, planned)
    if options.retry_failed:
        arrays = _reopen(arrays, blocks_where(arrays, lambda status: status > ClipStatus.OK))
    changed = _reopen_changed(arrays, dataset)
    if options.strict:
        _refuse_failed(arrays)
    pending = blocks_where(arrays, lambda status: status == ClipStatus.PENDING)
    num_pending = sum(map(len, pending))
    observer.started(arrays.manifest, arrays.manifest.num_clips - num_pending)
    if pending and arrays.manifest.spec.features:
        from featurestore.extraction.librosa_features import warm_cache

        in_workers = not isinstance(executor, SerialExecutor)
        quiet = isinstance(observer, _Silent)
        warm_cache(arrays.manifest.spec, in_workers=in_workers, quiet=quiet)
    tasks = block_tasks(arrays, dataset.root, pending)
    failures: list[ClipFailure] = []
    mixed: dict[str, str] = {}
    for outcome in executor.run(build_once, tasks, partial(run_isolated, build_once)):
        observer.committed(outcome)
        failures.extend(outcome.failures)
        mixed |= {outcome.libraries: outcome.host}
        if options.strict:
            _refuse(failures)
    if arrays.manifest.state != "complete":
        arrays = _complete(arrays, dataset)
    warnings = [*library_warnings(arrays.manifest, planned), *_mixed(arrays.manifest, mixed)]
    if changed:
        warnings.append(
            f"built again: {quantity(changed, 'block')} that an earlier build had finished, which "
            "changed since, or of which it had left no record"
        )
    if num_pending < arrays.manifest.num_clips:
        warnings += edited_sources(arrays, dataset.root)
    return BuildReport(arrays.manifest, num_pending, tuple(failures), tuple(warnings))


def _mixed(manifest: StoreManifest, hosts: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each set of libraries that only workers have.

    Args:
        manifest: Manifest of the store.
        hosts: A host by how its libraries differ from the store's.
    """
    differences = {differing: host for differing, host in hosts.items() if differing}
    here = differing_libraries(manifest.libraries) if differences else ""
    for differing, host in differences.items():
        if differing != here:
            yield (
                f"workers on {host} have other library versions than the store was started with: "
                f"{differing}. Clips built there may differ from the others in the last digits"
            )


def machine_fault(error: OSError) -> BuildError:
    """Return the error for an I/O fault of the machine, with advice."""
    cure = "fix the problem"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        cure = "allow more (`ulimit -n 4096`)"
    what = f"cannot read {error.filename}" if error.filename else "system error"
    return BuildError(
        f"{what}: {cause(error)}. Finished blocks are safe; {cure} and rerun the same command"
    )


def _find_or_create(dataset: Dataset, storage: Storage, planned: StoreManifest) -> StoredArrays:
    """Return the arrays to build into. A complete store is not written to; others under a lock."""
    arrays = _find(dataset, storage, planned)
    if arrays is not None and arrays.manifest.state == "complete":
        return arrays
    remove_partial(storage)
    if arrays is None:
        arrays = claim_arrays(storage, planned)
        refuse_other(arrays, planned, dataset)
    if dataset.card.name not in dataset_names(storage):
        create_arrays(arrays, clip_tables(dataset.clips, arrays.manifest))
    return arrays


def _find(dataset: Dataset, storage: Storage, planned: StoreManifest) -> StoredArrays | None:
    """Return the existing arrays, if any; refuse them if their settings or clips differ."""
    arrays = find_arrays(storage, dataset.card.name)
    if arrays is not None:
        refuse_other(arrays, planned, dataset)
    return arrays


class _Condition(Protocol):
    def __call__(self, status: NDArray[np.uint8], /) -> NDArray[np.bool_]: ...


def blocks_where(arrays: StoredArrays, condition: _Condition) -> list[Block]:
    """Return the blocks that have a clip whose status meets the condition, in order."""
    chosen: list[Block] = []
    for fold in arrays.manifest.folds:
        status = arrays.read(fold.fold, "status")
        blocks = plan.fold_blocks(fold.fold, fold.num_clips, arrays.manifest.block_clips)
        chosen.extend(block for block in blocks if condition(status[block.rows]).any())
    return chosen


def _reopen(arrays: StoredArrays, blocks: list[Block]) -> StoredArrays:
    """Make committed blocks pending again; the store says so before anything changes in it."""
    if not blocks:
        return arrays
    if arrays.manifest.state == "complete":
        kept = set(blocks_where(arrays, lambda status: status > ClipStatus.PENDING)) - set(blocks)
        arrays.record_blocks(sorted(kept))
    manifest = arrays.manifest.model_copy(update={"state": "building", "counts": {}})
    arrays = arrays.set_manifest(manifest)
    for block in blocks:
        arrays.uncommit(block)
    return arrays


def _reopen_changed(arrays: StoredArrays, dataset: Dataset) -> int:
    """Write again what was changed of an unfinished build's clip table, and have its blocks made.

    Returns:
        How many committed blocks are pending again, because their chunks are not those that were
        committed.
    """
    if arrays.manifest.state == "complete":
        return 0
    for fold, table in clip_tables(dataset.clips, arrays.manifest).items():
        write_columns(arrays, fold, differing_columns(arrays, fold, table), table)
    committed, changed = _committed_blocks(arrays.unsealed())
    changed += arrays.changed_blocks(committed)
    for block in changed:
        arrays.uncommit(block)
    return len(changed)


def _committed_blocks(arrays: StoredArrays) -> tuple[list[Block], list[Block]]:
    """Return the committed blocks, and those whose status is damaged, in order."""
    committed, damaged = [], []
    for fold in arrays.manifest.folds:
        for block in plan.fold_blocks(fold.fold, fold.num_clips, arrays.manifest.block_clips):
            try:
                if arrays.read(block.fold, "status", block.rows).any():
                    committed.append(block)
            except CorruptError:
                damaged.append(block)
    return committed, damaged


def _complete(arrays: StoredArrays, dataset: Dataset) -> StoredArrays:
    check_current(arrays, arrays.manifest.fingerprint)
    counts = status_counts(arrays)
    if pending := counts.get(ClipStatus.PENDING.name.lower()):
        raise BuildError(
            f"{arrays.storage} has lost {quantity(pending, 'clip')} that were committed: does "
            "something else write to it? Run the same command again"
        )
    for fold, table in clip_tables(dataset.clips, arrays.manifest).items():
        if columns := differing_columns(arrays, fold, table):
            raise CorruptError(
                f"{arrays.storage}: {', '.join(columns)} of fold {fold} changed while the store "
                "was built: does something else write to it? Run the same command again"
            )
    remove_partial(arrays.storage)  # of workers that died over a commit
    manifest = _finished(arrays.manifest, counts, dataset)
    blocks = blocks_where(arrays, lambda status: status > ClipStatus.PENDING)
    with held(arrays, manifest.fingerprint) as held_arrays:
        completed = held_arrays.set_manifest(manifest, blocks)
    return StoredArrays(arrays.storage, completed.manifest)


def _finished(
    manifest: StoreManifest, counts: Mapping[str, int], dataset: Dataset
) -> StoreManifest:
    """Return the manifest of a complete dataset: files may have been added since it was started."""
    update: dict[str, object] = {"state": "complete", "counts": counts}
    if dataset.official_clips != manifest.official_clips and manifest.format_version > 1:
        update |= {"official_clips": dataset.official_clips, "format_version": FORMAT_VERSION}
    return manifest.model_copy(update=update)


def _refuse_failed(arrays: StoredArrays) -> None:
    """Refuse a store in which clips have failed before."""
    failed = {
        name: count
        for name, count in status_counts(arrays).items()
        if ClipStatus[name.upper()].failed
    }
    if failed:
        raise StrictError(
            f"{quantity(sum(failed.values()), 'clip')} of {arrays.storage} failed before "
            f"({_listed(failed)}) and --strict accepts none: put the files right and use "
            "--retry-failed"
        )


def _refuse(failures: list[ClipFailure]) -> None:
    if failures:
        first = failures[0]
        raise StrictError(
            f"{quantity(len(failures), 'clip')} of a block failed and --strict accepts none; the "
            f"first is {first.path}: {first.status.reason} ({first.detail}). Put the files right "
            "and use --retry-failed, or leave --strict out"
        )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
