"""Stores of clips without audio files: real planning, arrays and commits, made-up images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.building.build import blocks_where
from featurestore.building.manifests import plan_manifest
from featurestore.cliplist import TEXT, ClipList
from featurestore.datasets import Dataset
from featurestore.store.arrays import StoredArrays
from featurestore.store.cliptable import clip_tables
from featurestore.store.counts import status_counts
from featurestore.store.creation import claim_arrays, create_arrays
from featurestore.store.plan import Block
from schemas import ClipStatus, DatasetCard, FeatureSpec

Images = Callable[[Block], dict[str, NDArray[Any]]]


def made_up(num_clips: int, num_folds: int = 5, num_classes: int = 50) -> Dataset:
    """Return a dataset of clips without audio files, spread evenly over folds and classes.

    A recording has four clips, all in one fold, as the trainer requires.
    """
    names = tuple(f"class{number:02d}" for number in range(num_classes))
    card = DatasetCard(
        name="made-up", title="Made-up clips", class_names=names, licence="-", citation="-", url="-"
    )
    rows = np.arange(num_clips)
    recording = rows // (4 * num_folds) * num_folds + rows % num_folds
    files = _numbered("clip", rows, ".wav")
    clips = ClipList(
        clip_id=files,
        path=np.strings.add(_numbered("audio/", rows % 1000, "/", 3), files),
        fold=rows % num_folds + 1,
        class_id=rows // num_folds % num_classes,
        source=_numbered("recording", recording),
    )
    return Dataset(card, Path("/nowhere"), clips)


def _numbered(before: str, numbers: NDArray[np.int64], after: str = "", width: int = 8) -> Any:  # noqa: ANN401
    """Return texts (n,): each number, zero-padded to `width` digits, between two strings."""
    digits = np.strings.zfill(numbers.astype(f"U{width}"), width).astype(TEXT)
    return np.strings.add(np.strings.add(before, digits), after)


def create(dataset: Dataset, path: Path, spec: FeatureSpec) -> StoredArrays:
    """Create the store of a dataset, with every block pending."""
    manifest = plan_manifest(dataset, spec)
    arrays = claim_arrays(path, manifest)
    create_arrays(arrays, clip_tables(dataset.clips, manifest))
    return arrays


def fill(arrays: StoredArrays, images: Images) -> StoredArrays:
    """Commit every block with made-up images, and declare the store complete.

    Args:
        arrays: Arrays of a store with pending blocks.
        images: Function that returns the images of a block's clips, by the keys of the spec's
            arrays.
    """
    for block in blocks_where(arrays, lambda status: status == ClipStatus.PENDING):
        arrays.write_block(block, images(block) | outcomes(len(block)))
    return complete(arrays)


def complete(arrays: StoredArrays) -> StoredArrays:
    """Declare a store complete."""
    update = {"state": "complete", "counts": status_counts(arrays)}
    return arrays.set_manifest(arrays.manifest.model_copy(update=update))


def outcomes(size: int) -> dict[str, NDArray[Any]]:
    """Return the columns of the clip table that a block writes, for `size` good clips."""
    return {
        "duration_s": np.full(size, 5, np.float32),
        "peak": np.full(size, 1, np.float32),
        "source_sha256": np.random.default_rng().integers(0, 256, (size, 32), np.uint8),
        "status": np.full(size, ClipStatus.OK, np.uint8),
    }
