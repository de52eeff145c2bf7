"""The store to read: of real clips if there are any, repeated to the requested number."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import featurestore
from benchmarks.made_up import create, fill, made_up
from featurestore.store.plan import Block

AUDIO = Path(__file__).parents[3] / "shared" / "data" / "esc10"


def build_store(folder: Path) -> Path:
    """Build a store of ESC-10 if its audio is on this machine, else of synthetic sounds."""
    from featurestore.building.build import build
    from featurestore.building.executors.dask import DaskExecutor
    from featurestore.datasets import load_dataset, make_synthetic

    real = AUDIO.is_dir()
    dataset = load_dataset("esc10", AUDIO) if real else make_synthetic(folder / "synthetic")
    print(f"building a store of {len(dataset.clips)} clips of {dataset.card.name} …")
    with DaskExecutor() as executor:
        build(dataset, folder / "source.zarr", executor=executor)
    return folder / "source.zarr"


def tile(store: Path, num_clips: int, path: Path) -> featurestore.StoredDataset:
    """Return a store of at least `num_clips` clips, which repeats the images of `store`."""
    source = featurestore.open_store(store)
    if len(source.clips()) >= num_clips:
        return source
    images = {array: source.load(array)[0] for array in source.arrays}

    def repeated(block: Block) -> dict[str, NDArray[Any]]:
        first = (block.fold * 101 + block.start) % len(images[source.arrays[0]])
        return {a: _cyclic(values, first, len(block)) for a, values in images.items()}

    fill(create(made_up(num_clips), path, source.manifest.spec), repeated)
    return featurestore.open_store(path)


def _cyclic(values: NDArray[Any], first: int, size: int) -> NDArray[Any]:
    return values.take(np.arange(first, first + size), axis=0, mode="wrap")
