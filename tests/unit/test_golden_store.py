"""A store of format version 1, written by version 0.1.0, works for ever."""

from pathlib import Path

import numpy as np
import pytest

from featurestore import open_store

STORE = Path(__file__).parents[1] / "golden" / "v1" / "store.zarr"
FINGERPRINTS = {
    "folder": "056eb415d6937ec92881ed3ee45fe3aa9735fb5ed250dfb305080ca6344f7",
    "esc50": "12f6dd00ef7ffed8d6ab85915e7620a28098c9624e4478b62b6c0a0dd9c3",
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_the_golden_store_keeps_its_fingerprint_and_is_readable(name: str) -> None:
    dataset = open_store(STORE, name)
    assert dataset.fingerprint.startswith(FINGERPRINTS[name])
    for array in dataset.arrays:
        images, labels = dataset.read(array)
        assert len(images) == len(labels) == len(dataset.clips())
        assert np.isfinite(images).all()
