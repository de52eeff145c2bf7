"""Repair of the damaged parts of a store, and nothing else, from its original audio files.

Metadata and the clip table follow from the manifest and the dataset's table. A damaged chunk is
rebuilt from the files of its block, after checking that these have not changed.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from featurestore.building.block import block_tasks
from featurestore.building.build import machine_fault
from featurestore.building.executors import Executor, SerialExecutor
from featurestore.building.isolated import run_isolated
from featurestore.building.manifests import plan_manifest, refuse_other
from featurestore.checking.rebuild import rebuild_block
from featurestore.checking.verify import (
    checked,
    chunk_parts,
    wrong_metadata,
)
from featurestore.datasets.base import Dataset
from featurestore.errors import CorruptError, NotAStoreError, SourcesError, StoreError
from featurestore.storage import Place, Storage, locate
from featurestore.store.agreement import with_additions
from featurestore.store.arrays import StoredArrays
from featurestore.store.checksums import (
    checksums_object,
    fold_checksums,
    list_sha256,
    stored_checksums,
    with_checksums,
)
from featurestore.store.cliptable import clip_tables, differing_columns, write_columns
from featurestore.store.counts import status_counts
from featurestore.store.creation import remove_partial
from featurestore.store.documents import (
    dataset_documents,
    manifest_copy,
    present,
    read_manifest,
    store_documents,
    write_all,
)
from featurestore.store.layout import has_checksums
from featurestore.store.lock import locked
from featurestore.store.parsing import DOCUMENT
from featurestore.store.plan import Block
from featurestore.store.records import remove_records
from featurestore.store.root import datasets_found, datasets_made, read_root
from featurestore.text import quantity
from schemas import StoreManifest

_NAMED = 3


def repair(dataset: Dataset, path: Place, executor: Executor | None = None) -> Iterator[str]:
    """Repair one dataset of a store, which is byte for byte as before the damage afterwards.

    An unfinished build is repaired as far as it is committed; `build` does the rest. A store
    without damage is left alone.

    Args:
        dataset: The dataset, unchanged since the store was built.
        path: Path or URL of the store.
        executor: Where blocks are extracted; None means in this process, one after another.

    Yields:
        A line about each thing repaired.

    Raises:
        SourcesError: Some files have changed since the build; everything else is repaired.
        FingerprintError: The dataset's table is not the one from which the store was built.
        CorruptError: No copy of the manifest is left.
        StoreError: There is no store at `path`.
        BusyError: Another process is writing the store.
        StorageError: The store cannot be written.
    """
    storage, name = locate(path), dataset.card.name
    try:
        names = datasets_found(storage)
    except NotAStoreError as error:
        raise NotAStoreError(f"{storage} holds no {name}: {error}") from error
    if name not in names:
        raise StoreError(
            f"{storage} holds no {name}: `featurestore build --dataset {name}` makes it"
        )
    _refuse_newer(storage)
    with locked(storage):
        if removed := remove_partial(storage):
            yield f"{removed} half-written files removed"
        manifest = _best_manifest(dataset, storage)
        yield from _repair_metadata(storage, manifest)
        yield from _repair_checksums(StoredArrays(storage, manifest))
        yield from _repair_table(StoredArrays(storage, manifest), dataset)
        arrays = StoredArrays(storage, manifest)
        yield from _repair_blocks(arrays, dataset.root, executor or SerialExecutor())
        if manifest.state == "complete":
            yield from _seal(storage, manifest)
            remove_records(storage, manifest)


def _refuse_newer(storage: Storage) -> None:
    """Refuse to write anything where any part of the store is newer than this program.

    Raises:
        NewerError: One is.
    """
    for name in datasets_found(storage):
        list(_copies(storage, name))


def only_dataset(path: Place) -> str:
    """Return the name of the only dataset in a store, even if the root is damaged.

    Raises:
        StoreError: The store holds no dataset, or several.
    """
    names = datasets_found(locate(path))
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise StoreError(f"{path} should hold one dataset and holds {listed}: name it (--dataset)")
    return names[0]


def _best_manifest(dataset: Dataset, storage: Storage) -> StoreManifest:
    """Return the copy that fits itself, the sources and the other files best.

    The state is `complete` where any copy says so: none does before all is committed.
    """
    valid = list(_copies(storage, dataset.card.name))
    if not valid:
        raise CorruptError(
            f"{storage}: no undamaged copy of the manifest of {dataset.card.name} is left. Delete "
            "the store and build it again"
        )
    for manifest in valid:
        refuse_other(
            StoredArrays(storage, manifest), plan_manifest(dataset, manifest.spec), dataset
        )

    def likeness(manifest: StoreManifest) -> tuple[int, int]:
        documents, planned = dataset_documents(manifest), plan_manifest(dataset, manifest.spec)
        wrong = len(list(wrong_metadata(storage, documents)))
        return -wrong, sum(value == getattr(planned, key) for key, value in manifest)

    best = max([m for m in valid if m.state == "complete"] or valid, key=likeness)
    if best.format_version > 1:
        return best
    planned = plan_manifest(dataset, best.spec)  # no digest covers these in version 1
    return best.model_copy(update={"folds": planned.folds, "num_clips": planned.num_clips})


def _copies(storage: Storage, name: str) -> Iterator[StoreManifest]:
    """Yield the dataset's own manifest and the root's copy of it, where they can be read.

    Raises:
        NewerError: One is newer.
    """
    with suppress(CorruptError):
        yield read_manifest(storage, name)
    with suppress(CorruptError):
        yield manifest_copy(storage, read_root(storage), name)


def _repair_metadata(storage: Storage, manifest: StoreManifest) -> Iterator[str]:
    name = manifest.card.name
    other_manifests = (
        _any_copy(storage, other) for other in datasets_made(storage) if other != name
    )
    root = store_documents([manifest, *other_manifests])
    mine = {
        key: data for key, data in root.items() if key == DOCUMENT or key.startswith(f"{name}/")
    }
    datasets = tuple(key.split("/")[0] for key in root if key.count("/") == 1)
    wrong = {
        key: with_additions(mine[key], present(storage, key), datasets)
        for key, _ in wrong_metadata(storage, mine)
    }
    write_all(storage, wrong)
    yield from (f"{key} written again" for key in wrong)


def _any_copy(storage: Storage, name: str) -> StoreManifest:
    for manifest in _copies(storage, name):
        return manifest
    raise CorruptError(f"{storage}: the manifest of {name} is lost; delete {name} in it first")


def _repair_checksums(arrays: StoredArrays) -> Iterator[str]:
    """Write damaged lists of checksums again, where the chunks still give those of the manifest."""
    storage, manifest = arrays.storage, arrays.manifest
    for fold in manifest.folds:
        if not arrays.checksums.fault(fold.fold):
            continue
        with suppress(CorruptError):
            values = fold_checksums(storage, manifest, fold.fold)
            if list_sha256(values) == fold.checksums:
                key, data = checksums_object(manifest, fold.fold, values)
                write_all(storage, {key: data})
                yield f"{key} written again"


def _seal(storage: Storage, manifest: StoreManifest) -> Iterator[str]:
    """Have the manifest count and vouch for what is there now, if that is not what it was."""
    arrays = StoredArrays(storage, manifest)
    fresh = manifest.model_copy(update={"counts": status_counts(arrays.unsealed())})
    if has_checksums(manifest):
        fresh = with_checksums(fresh, stored_checksums(storage, manifest))
    if fresh != manifest or any(arrays.checksums.fault(fold.fold) for fold in manifest.folds):
        arrays.set_manifest(fresh)
        yield f"{manifest.card.name}/{DOCUMENT} written again: what was made again is not the same"


def _repair_table(arrays: StoredArrays, dataset: Dataset) -> Iterator[str]:
    """Yield the columns that differ from the dataset's table."""
    for fold, table in clip_tables(dataset.clips, arrays.manifest).items():
        # Where nothing says which chunk belongs where, the dataset's own table does.
        readable = arrays.unsealed() if arrays.checksums.fault(fold) else arrays
        wrong = differing_columns(readable, fold, table)
        yield from (f"{key} written again" for key in write_columns(arrays, fold, wrong, table))


def _repair_blocks(arrays: StoredArrays, root: Path, executor: Executor) -> Iterator[str]:
    """Make broken blocks again: all of a fold, where nothing says which chunk belongs where."""
    manifest = arrays.manifest
    tasks = block_tasks(arrays, root, _broken_blocks(arrays))
    changed: list[str] = []
    try:
        for rebuilt in executor.run(rebuild_block, tasks, partial(run_isolated, rebuild_block)):
            changed += rebuilt.changed
            where = f"{manifest.card.name}/fold{rebuilt.block.fold}"
            rows = f"rows {rebuilt.block.start} to {rebuilt.block.stop}"
            yield from (f"{where}/{array}, {rows}, made again" for array in rebuilt.arrays)
    except OSError as error:
        raise machine_fault(error) from error
    if changed:
        more = ", …" if len(changed) > _NAMED else ""
        raise SourcesError(
            f"the files of {quantity(len(changed), 'clip')} at {root} are not those that "
            f"{arrays.storage} was built from ({', '.join(changed[:_NAMED])}{more}), so their "
            "blocks were left broken. Put the files back and repair again, or delete the store and "
            "build it again"
        )


def _broken_blocks(arrays: StoredArrays) -> list[Block]:
    """Return those with a chunk that is not as it should be, in order."""
    size = arrays.manifest.block_clips
    sizes = {fold.fold: fold.num_clips for fold in arrays.manifest.folds}
    broken: set[Block] = set()
    for part, problems in checked(chunk_parts(arrays), arrays.storage.threads):
        if part.chunk is not None and problems:
            rows = part.chunk[0]
            start = rows.start // size * size
            broken.add(Block(rows.fold, start, min(start + size, sizes[rows.fold])))
    return sorted(broken)
