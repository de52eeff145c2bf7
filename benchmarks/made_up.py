"""Stores of clips that exist nowhere: real planning, arrays and commits, made-up images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.building.build import blocks_where
from featurestore.building.manifests import plan_manifest
from featurestore.datasets import Dataset
from featurestore.store.arrays import StoredArrays
from featurestore.store.cliptable import clip_tables
from featurestore.store.counts import status_counts
from featurestore.store.creation import claim_arrays, create_arrays
from featurestore.store.plan import Block
from schemas import Clip, ClipStatus, DatasetCard, FeatureSpec

Images = Callable[[Block], dict[str, NDArray[Any]]]


def made_up(num_clips: int, num_folds: int = 5, num_classes: int = 50) -> Dataset:
    """Return a dataset of clips that exist nowhere, spread evenly over folds and classes.

    A recording has four clips, all in one fold, as the trainer demands.
    """
    names = tuple(f"class{number:02d}" for number in range(num_classes))
    card = DatasetCard(
        name="made-up", title="Made-up clips", class_names=names, licence="-", citation="-", url="-"
    )
    clips = tuple(
        Clip(
            clip_id=f"clip{i:08d}.wav",
            path=f"audio/{i % 1000:03d}/clip{i:08d}.wav",
            fold=i % num_folds + 1,
            class_id=i // num_folds % num_classes,
            source=f"recording{i // (4 * num_folds) * num_folds + i % num_folds:08d}",
        )
        for i in range(num_clips)
    )
    return Dataset(card, Path("/nowhere"), clips)


def create(dataset: Dataset, path: Path, spec: FeatureSpec) -> StoredArrays:
    """Return the store of a dataset, with every block pending."""
    manifest = plan_manifest(dataset, spec)
    arrays = claim_arrays(path, manifest)
    create_arrays(arrays, clip_tables(dataset.clips, manifest))
    return arrays


def fill(arrays: StoredArrays, images: Images) -> StoredArrays:
    """Commit every block with made-up images, and declare the store complete.

    Args:
        arrays: Created and pending.
        images: The images of a block's clips, by the keys of the spec's arrays.
    """
    for block in blocks_where(arrays, lambda status: status == ClipStatus.PENDING):
        arrays.write_block(block, images(block) | outcomes(len(block)))
    return complete(arrays)


def complete(arrays: StoredArrays) -> StoredArrays:
    """Declare a store complete."""
    update = {"state": "complete", "counts": status_counts(arrays)}
    return arrays.set_manifest(arrays.manifest.model_copy(update=update))


def outcomes(size: int) -> dict[str, NDArray[Any]]:
    """Return the outcomes of that many good clips, as in the clip table."""
    return {
        "duration_s": np.full(size, 5, np.float32),
        "peak": np.full(size, 1, np.float32),
        "source_sha256": np.random.default_rng().integers(0, 256, (size, 32), np.uint8),
        "status": np.full(size, ClipStatus.OK, np.uint8),
    }
