"""The documents of a store: its root, and the manifest of each dataset in it.

The root's attributes mark the store as ours and name its datasets; a dataset's are its manifest.
What they say of arrays and chunks is used in `store`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from featurestore.errors import CorruptError, StorageError, StoreError
from featurestore.storage import Place, Storage, locate
from featurestore.store import metadata
from featurestore.store.metadata import DOCUMENT, Columns, Document
from schemas import FORMAT_VERSION, StoreManifest

MARK = "featurestore"
_WRITERS = 8
"""Files at once: each waits for the disk, which flushes several in the time of one."""


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Say what to do where the storage refuses."""
    try:
        yield
    except (OSError, StorageError) as error:
        told = error.strerror or error if isinstance(error, OSError) else error
        raise StorageError(
            f"cannot write {what}: {told}. What is committed is safe: "
            "put this right and run the same command again"
        ) from error


def store_documents(manifests: Iterable[StoreManifest]) -> dict[str, bytes]:
    """Every zarr.json of a store that holds these datasets, by its key.

    The root has a copy of all others.
    """
    manifests = sorted(manifests, key=lambda manifest: manifest.card.name)
    names = [manifest.card.name for manifest in manifests]
    documents = {}
    for name, manifest in zip(names, manifests, strict=True):
        documents[f"{name}/{DOCUMENT}"] = manifest_document(manifest)
        for fold in manifest.folds:
            for key, data in metadata.fold_objects(manifest, fold.num_clips, {}).items():
                documents[f"{name}/fold{fold.fold}/{key}"] = data
    root = metadata.group_document({MARK: {"format_version": FORMAT_VERSION, "datasets": names}})
    if manifests:
        root = metadata.with_copies(root, documents)
    return documents | {DOCUMENT: root}


def manifest_document(manifest: StoreManifest) -> bytes:
    """The zarr.json of a dataset."""
    return metadata.group_document(manifest.model_dump(mode="json"))


def table_objects(manifest: StoreManifest, fold: int, table: Columns) -> dict[str, bytes]:
    """The chunks of a fold's clip table, by their keys.

    Args:
        manifest: Of the dataset.
        fold: Its number.
        table: The columns of `TABLE`, (num_clips,) each, in row order.
    """
    objects = metadata.fold_objects(manifest, len(table["clip_id"]), table)
    group = f"{manifest.card.name}/fold{fold}"
    return {f"{group}/{k}": data for k, data in objects.items() if not k.endswith(DOCUMENT)}


def write_all(storage: Storage, objects: Mapping[str, bytes]) -> None:
    """Write objects by their keys, each whole or not at all.

    Raises:
        StorageError: One cannot be written.
    """
    with writing(str(storage)), ThreadPoolExecutor(max(_WRITERS, storage.threads)) as pool:
        list(pool.map(storage.write, objects.keys(), objects.values()))


def put_in_root(storage: Storage, manifest: StoreManifest) -> None:
    """Name a dataset in the root, with a copy of its manifest, in place of the one that is there.

    Of other datasets, the copies that are there stay: they follow from nothing but the root itself,
    which an object store replaces only if it has not changed since. So of several builds that do
    this at once none undoes what another did.

    Raises:
        StorageError: The store cannot be written.
    """

    def changed(root: bytes) -> bytes:
        others = (m for m in _manifests_in(storage, root) if m.card.name != manifest.card.name)
        return store_documents([*others, manifest])[DOCUMENT]

    with writing(str(storage)):
        storage.update(DOCUMENT, changed)


def _manifests_in(storage: Storage, root: bytes) -> Iterator[StoreManifest]:
    """The datasets that a root names, by its copies; a damaged copy is replaced."""
    document = _marked(storage, parsed(root))
    for name in document["attributes"][MARK]["datasets"]:
        try:
            yield _copy_in(storage, document, name)
        except CorruptError:
            yield read_manifest(storage, name)


_ZARR_FORMAT = 3


def parsed(data: bytes) -> Document:
    """A zarr.json.

    Raises:
        ValueError: It is none.
    """
    document = json.loads(data)
    if not isinstance(document, dict) or document.get("zarr_format") != _ZARR_FORMAT:
        raise ValueError(f"not the metadata of Zarr v{_ZARR_FORMAT}")
    return document


def dataset_names(place: Place) -> tuple[str, ...]:
    """Names of the datasets in a store, sorted.

    Raises:
        StoreError: There is no store at `place`, or one of another format.
        StorageError: It cannot be reached.
    """
    return tuple(root_document(locate(place))["attributes"][MARK]["datasets"])


def root_document(storage: Storage) -> Document:
    """The root's metadata, which has our mark."""
    try:
        root = parsed(storage.read(DOCUMENT))
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and storage.is_blank():
            raise StoreError(
                f"no store at {storage}: `featurestore build --dataset NAME` makes one"
            ) from error
        raise StoreError(
            f"{storage} exists and is no feature store (no readable {DOCUMENT}): {error}. "
            "If it was one, `featurestore repair` mends it"
        ) from error
    return _marked(storage, root)


def _marked(storage: Storage, root: Document) -> Document:
    """A root's document, if it has our mark."""
    mark = root.get("attributes", {}).get(MARK)
    if not isinstance(mark, dict) or not isinstance(mark.get("datasets"), list):
        raise StoreError(f"{storage} is a Zarr group, but no feature store: `{MARK}` is not in it")
    if mark.get("format_version") != FORMAT_VERSION:
        raise StoreError(
            f"{storage} has format version {mark.get('format_version')}, this program reads "
            f"{FORMAT_VERSION}: build it again, or install the version that made it"
        )
    return root


def read_manifest(storage: Storage, dataset: str) -> StoreManifest:
    """How the arrays of a dataset were made.

    Raises:
        CorruptError: The manifest is missing or damaged.
    """
    return manifest_in(storage, dataset, lambda: parsed(storage.read(f"{dataset}/{DOCUMENT}")))


def manifest_copy(storage: Storage, dataset: str) -> StoreManifest:
    """The root's copy of a manifest.

    Raises:
        CorruptError: There is none, or it is damaged.
    """
    try:
        root = parsed(storage.read(DOCUMENT))
    except (OSError, ValueError) as error:
        raise CorruptError(f"{storage}: the root is damaged: {error}") from error
    return _copy_in(storage, root, dataset)


def _copy_in(storage: Storage, root: Document, dataset: str) -> StoreManifest:
    return manifest_in(storage, dataset, lambda: root["consolidated_metadata"]["metadata"][dataset])


def manifest_in(storage: Storage, dataset: str, read: Callable[[], Document]) -> StoreManifest:
    """The manifest in a group's document.

    Args:
        storage: Of the store, for the error.
        dataset: Its name.
        read: Gives the document.

    Raises:
        CorruptError: The manifest is missing or damaged.
    """
    try:
        return StoreManifest.model_validate_json(json.dumps(read()["attributes"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CorruptError(
            f"{storage}: the manifest of {dataset} is damaged: {error}. "
            f"`featurestore repair {storage} --dataset {dataset}` mends it from a copy"
        ) from error


def datasets_found(storage: Storage) -> tuple[str, ...]:
    """Names of the datasets of which there is anything, whatever the root says.

    Raises:
        StoreError: The storage cannot be listed, and the root is damaged.
    """
    if not storage.listable:
        return dataset_names(storage)
    groups = (key.split("/") for key, _ in storage.sizes())
    names = {g[0] for g in groups if len(g) > 1 and (g[1] == DOCUMENT or g[1].startswith("fold"))}
    return tuple(sorted(names))


def datasets_made(storage: Storage) -> tuple[str, ...]:
    """Those that the root should name: their creation ended, or else nothing would be committed.

    Raises:
        StoreError: The storage cannot be listed, and the root is damaged.
    """
    try:
        named = set(dataset_names(storage))
    except StoreError:
        named = set(datasets_found(storage))

    def made(name: str) -> bool:
        return name in named or any("/status/c/" in key for key, _ in storage.sizes(name))

    return tuple(filter(made, datasets_found(storage)))
