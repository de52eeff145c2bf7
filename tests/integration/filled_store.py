"""Stores of any size filled with noise, without audio: for what only reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore import StoredDataset, open_store
from featurestore.store.arrays import StoredArrays
from featurestore.store.counts import status_counts
from featurestore.store.creation import claim_arrays, create_arrays
from featurestore.store.fingerprint import fingerprint
from featurestore.store.plan import Block, fold_blocks
from schemas import ClipStatus, DatasetCard, FeatureSpec, Fold, Resolution, StoreManifest

ARRAY = "R3/full"
CLASSES = ("a", "b", "c")
NO_CLIPS = "0" * 64
BLOCK_CHUNKS = 1
"""Chunks a block: above one, they lie in shards."""


def fill_store(
    path: Path,
    shape: tuple[int, int],
    folds: Mapping[int, int],
    *,
    chunk: int,
    dtype: str = "float16",
    failed: Mapping[int, set[int]] | None = None,
) -> StoredDataset:
    """A store of one array.

    Args:
        path: Of the store.
        shape: Bands and frames.
        folds: Clips of each fold.
        chunk: Clips a chunk.
        dtype: Of the stored values.
        failed: Rows of each fold whose clip has no features.
    """
    arrays = start_store(path, shape, folds, chunk=chunk, dtype=dtype)
    rng = np.random.default_rng(0)
    for fold, num in folds.items():
        for block in fold_blocks(fold, num, chunk * BLOCK_CHUNKS):
            lost = [row - block.start for row in (failed or {}).get(fold, ()) if row in rows(block)]
            arrays.write_block(block, _values(rng, block, shape, dtype, lost))
    update = {"state": "complete", "counts": status_counts(arrays)}
    arrays.set_manifest(arrays.manifest.model_copy(update=update))
    return open_store(path)


def start_store(
    path: Path,
    shape: tuple[int, int],
    folds: Mapping[int, int],
    *,
    chunk: int,
    dtype: str = "float16",
) -> StoredArrays:
    """A store of which nothing is built yet; see `fill_store`."""
    arrays = claim_arrays(path, _manifest(shape, folds, chunk, dtype))
    create_arrays(arrays, {fold: _table(fold, num) for fold, num in folds.items()})
    return arrays


def write(arrays: StoredArrays, block: Block, lost: Sequence[int] = ()) -> None:
    """Build a block of it, of which some clips have no features."""
    spec = arrays.manifest.spec
    rng = np.random.default_rng(0)
    arrays.write_block(block, _values(rng, block, spec.arrays[ARRAY], spec.dtype, lost))


def rows(block: Block) -> range:
    return range(block.start, block.stop)


def _manifest(
    shape: tuple[int, int], folds: Mapping[int, int], chunk: int, dtype: str
) -> StoreManifest:
    resolution = Resolution(name="R3", n_mels=shape[0], num_frames=shape[1])
    spec = FeatureSpec(resolutions=(resolution,), dtype=dtype)
    return StoreManifest(
        extractor_version=0,
        fingerprint=fingerprint(spec, NO_CLIPS, 0),
        clips_sha256=NO_CLIPS,
        spec=spec,
        card=DatasetCard(
            name="noise", title="", class_names=CLASSES, licence="", citation="", url=""
        ),
        folds=tuple(Fold(fold=fold, num_clips=num) for fold, num in folds.items()),
        num_clips=sum(folds.values()),
        chunk_clips=chunk,
        block_clips=chunk * BLOCK_CHUNKS,
        order_seed=0,
        libraries={},
        state="building",
    )


def _table(fold: int, num: int) -> dict[str, NDArray[Any]]:
    text = np.dtypes.StringDType()
    names = np.array([f"{fold}-{row}" for row in range(num)], text)
    return {
        "clip_id": names,
        "path": names,
        "source": np.array([""] * num, text),
        "class_id": np.arange(num, dtype=np.int32) % len(CLASSES),
        "index": np.arange(num),
    }


def _values(
    rng: np.random.Generator, block: Block, shape: tuple[int, int], dtype: str, lost: Sequence[int]
) -> dict[str, NDArray[Any]]:
    size = len(block)
    # One row of noise a clip: enough to tell clips apart, and it compresses.
    noise = rng.random((size, 1, shape[1])) * (255 if dtype == "uint8" else 1)
    status = np.full(size, ClipStatus.OK, np.uint8)
    status[list(lost)] = ClipStatus.UNREADABLE
    return {
        ARRAY: np.broadcast_to(noise, (size, *shape)).astype(dtype),
        "duration_s": np.ones(size, np.float32),
        "peak": np.ones(size, np.float32),
        "source_sha256": np.random.default_rng([block.fold, block.start]).integers(
            0, 256, (size, 32), np.uint8
        ),
        "status": status,
    }
