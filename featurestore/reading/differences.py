"""Differences between two stores, as data that `featurestore diff` prints.

Settings, clips, outcomes and all stored values are compared; differences in layout and in library
versions are only noted. Clips are matched by id, in any order.
"""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import UnknownNameError
from featurestore.reading import Watch
from featurestore.storage import Place, locate
from featurestore.store.columns import ClipTable
from featurestore.store.reader import StoredDataset, open_store
from featurestore.store.root import dataset_names
from featurestore.text import json_text
from schemas import ClipStatus

_COLUMNS = ("fold", "path", "source", "start_s", "end_s", "item")
_NOTED = ("format_version", "chunk_clips", "block_clips", "order_seed", "libraries")
_DIGEST_BYTES = 16


def compare_stores(
    first: Place,
    second: Place,
    dataset: str | None = None,
    watch: Watch = lambda steps, total: steps,
) -> dict[str, Any]:
    """Return what differs between the datasets of two stores.

    Datasets are paired by name; if each store holds one dataset, these two are compared.

    Args:
        first: Path or URL of a store.
        second: Path or URL of another store.
        dataset: Name of the only dataset to compare; None for all.
        watch: Shows the progress.

    Returns:
        `first`, `second`, `equal`; `only_first`, `only_second` (names of datasets); and `datasets`,
        by name: `spec` and `card` ([first, second] by field), `clips` (`only_first`,
        `only_second`, and `changed`: columns by clip id), `outcomes` ([first, second] by clip id),
        `audio` (ids of clips whose files differ), `arrays` (by key: `compared`, `different`,
        `largest` (largest difference of two values; None if the order of clips differs),
        `only`), and `notes` ([first, second] by name), which do not count as differences.

    Raises:
        StoreError: One is not a store, unfinished, damaged, or has no such dataset.
    """
    places = locate(first), locate(second)
    names = [dataset_names(place) for place in places]
    if dataset is not None:
        for known in names:
            if dataset not in known:
                raise UnknownNameError("dataset", dataset, known)
        names = [(dataset,), (dataset,)]
    single = dataset is None and [len(known) for known in names] == [1, 1]
    pairs = [(names[0][0], names[1][0])] if single else [(n, n) for n in names[0] if n in names[1]]
    unpaired = [[n for n in known if all(n not in pair for pair in pairs)] for known in names]
    differences = {
        one: _compare(open_store(places[0], one), open_store(places[1], other), watch)
        for one, other in pairs
    }
    different = any(map(_differs, differences.values())) or any(unpaired)
    return {
        "first": json_text(places[0]),
        "second": json_text(places[1]),
        "equal": not different,
        "only_first": unpaired[0],
        "only_second": unpaired[1],
        "datasets": differences,
    }


def _differs(differences: Mapping[str, Any]) -> bool:
    return any(
        (
            *(differences[name] for name in ("spec", "card", "outcomes", "audio")),
            *differences["clips"].values(),
            *(a["different"] or a["only"] for a in differences["arrays"].values()),
        )
    )


def _compare(first: StoredDataset, second: StoredDataset, watch: Watch) -> dict[str, Any]:
    spec = _fields(first.manifest.spec.model_dump(mode="json"))
    other_spec = _fields(second.manifest.spec.model_dump(mode="json"))
    tables = first.all_clips(), second.all_clips()
    rows = _matched(*tables)
    return {
        "spec": _pairs(
            spec | {"extractor_version": first.manifest.extractor_version},
            other_spec | {"extractor_version": second.manifest.extractor_version},
        ),
        "card": _pairs(first.card.model_dump(mode="json"), second.card.model_dump(mode="json")),
        "clips": {
            "only_first": _without(tables[0], rows[0]),
            "only_second": _without(tables[1], rows[1]),
            "changed": _changed(first, second, tables, rows),
        },
        "outcomes": _outcomes(tables, rows),
        "audio": _audio(first, second),
        "arrays": _arrays(first, second, watch),
        "notes": _pairs(*({n: getattr(s.manifest, n) for n in _NOTED} for s in (first, second))),
    }


def _fields(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping)
        flat |= _fields(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys(chain(first, second))
    return {
        name: [first.get(name), second.get(name)]
        for name in names
        if first.get(name) != second.get(name)
    }


def _matched(first: ClipTable, second: ClipTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of both tables at which the same clips are, in the first one's order."""
    row_of = {clip: row for row, clip in enumerate(second.clip_id.tolist())}
    pairs = [
        (row, row_of[clip]) for row, clip in enumerate(first.clip_id.tolist()) if clip in row_of
    ]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _without(table: ClipTable, rows: NDArray[np.int64]) -> list[str]:
    alone = np.ones(len(table), bool)
    alone[rows] = False
    return [json_text(clip) for clip in table.clip_id[alone]]


def _changed(
    first: StoredDataset,
    second: StoredDataset,
    tables: tuple[ClipTable, ClipTable],
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> dict[str, list[str]]:
    """Return the columns that differ, by the id of the clip."""
    classes = [
        np.array([*store.class_names, ""], object)[table.class_id]  # -1: none
        for store, table in ((first, tables[0]), (second, tables[1]))
    ]
    columns = {name: (getattr(tables[0], name), getattr(tables[1], name)) for name in _COLUMNS}
    columns["class"] = (classes[0], classes[1])
    changed: dict[str, list[str]] = {}
    for name, (one, other) in columns.items():
        a, b = one[rows[0]], other[rows[1]]
        differs = a != b
        if a.dtype.kind == "f":
            differs &= ~(np.isnan(a) & np.isnan(b))
        for row in np.flatnonzero(differs):
            changed.setdefault(json_text(tables[0].clip_id[rows[0][row]]), []).append(name)
    if first.multilabel or second.multilabel:
        labels = _labels(first), _labels(second)
        for clip in labels[0].keys() & labels[1].keys():
            if labels[0][clip] != labels[1][clip]:
                changed.setdefault(json_text(clip), []).append("labels")
    return changed


def _labels(store: StoredDataset) -> dict[str, frozenset[str]]:
    """Return the classes of each clip with features, by its id."""
    labels = store.all_labels()
    if not store.multilabel:
        labels = labels[:, None] == np.arange(len(store.class_names))
    names = np.array(store.class_names, object)
    ids = store.clips().clip_id.tolist()
    return {clip: frozenset(names[row > 0]) for clip, row in zip(ids, labels, strict=True)}


def _outcomes(
    tables: tuple[ClipTable, ClipTable], rows: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> dict[str, list[str]]:
    one, other = tables[0].status[rows[0]], tables[1].status[rows[1]]
    return {
        json_text(tables[0].clip_id[rows[0][row]]): [
            ClipStatus(status[row]).name.lower() for status in (one, other)
        ]
        for row in np.flatnonzero(one != other)
    }


def _audio(first: StoredDataset, second: StoredDataset) -> list[str]:
    """Return the clips with features in both that were made from other bytes."""
    digests = [
        dict(zip(store.clips().clip_id.tolist(), store.source_digests().tolist(), strict=True))
        for store in (first, second)
    ]
    return [json_text(clip) for clip, d in digests[0].items() if digests[1].get(clip, d) != d]


def _arrays(first: StoredDataset, second: StoredDataset, watch: Watch) -> dict[str, dict[str, Any]]:
    by_key: dict[str, dict[str, Any]] = {}
    aligned = _aligned(first, second)
    for key in dict.fromkeys((*first.arrays, *second.arrays)):
        only = [s for s, store in (("first", first), ("second", second)) if key in store.arrays]
        by_key[key] = {"compared": 0, "different": 0, "largest": None, "only": None}
        if len(only) == 1:
            by_key[key]["only"] = only[0]
        elif first.shape(key) != second.shape(key):
            by_key[key]["different"] = len(first.clips())
        elif aligned:
            by_key[key] |= _by_value(first, second, key, watch)
        else:
            by_key[key] |= _by_digest(first, second, key, watch)
    return by_key


def _aligned(first: StoredDataset, second: StoredDataset) -> bool:
    """Return whether the same clips with features lie in the same blocks, in the same order."""
    sizes = [[len(store.labels(block)) for block in store.blocks()] for store in (first, second)]
    ids = first.clips().clip_id, second.clips().clip_id
    return sizes[0] == sizes[1] and np.array_equal(*ids)


def _by_value(
    first: StoredDataset, second: StoredDataset, key: str, watch: Watch
) -> dict[str, Any]:
    different, compared, largest = 0, 0, 0.0
    blocks = list(zip(first.blocks(), second.blocks(), strict=True))

    def steps() -> Iterator[None]:
        nonlocal different, compared, largest
        for one, other in blocks:
            a = first.read_block(one, key).astype(np.float32) * np.float32(first.scale_of(key))
            b = second.read_block(other, key).astype(np.float32) * np.float32(second.scale_of(key))
            apart = np.abs(a - b)
            differs = (apart.reshape(len(a), -1) != 0).any(axis=1)  # also where it is NaN
            different += int(differs.sum())
            compared += len(a)
            largest = max(largest, float(np.nanmax(apart, initial=0.0)))
            yield

    for _ in watch(steps(), len(blocks)):
        pass
    return {"compared": compared, "different": different, "largest": largest}


def _by_digest(
    first: StoredDataset, second: StoredDataset, key: str, watch: Watch
) -> dict[str, Any]:
    digests: list[dict[str, bytes]] = [{}, {}]

    def steps() -> Iterator[None]:
        for store, of_clip in zip((first, second), digests, strict=True):
            ids = iter(store.clips().clip_id.tolist())
            scale = np.float32(store.scale_of(key))
            for block in store.blocks():
                for image in store.read_block(block, key).astype(np.float32) * scale:
                    digest = hashlib.blake2b(image.tobytes(), digest_size=_DIGEST_BYTES).digest()
                    of_clip[next(ids)] = digest
                yield

    for _ in watch(steps(), len(first.blocks()) + len(second.blocks())):
        pass
    shared = digests[0].keys() & digests[1].keys()
    different = sum(digests[0][clip] != digests[1][clip] for clip in shared)
    return {"compared": len(shared), "different": different}
