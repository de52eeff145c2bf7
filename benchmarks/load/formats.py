"""Readers of an epoch: ours, and those of other common formats.

Each delivers shuffled batches of 64: float32 (b, 1, bands, frames) in [0, 1], and classes (b,).
"""

import itertools
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore import StoredDataset
from schemas import Placement

BATCH = 64
WORKERS = 2
WORKER_OPTIONS: dict[str, Any] = {
    "num_workers": WORKERS,
    "persistent_workers": True,
    "multiprocessing_context": "fork",  # LitData makes `spawn` the default of the process
}
Epoch = Callable[[], int]
"""Function that reads every clip once, and returns how many there were."""


@dataclass(frozen=True)
class Source:
    """The images of one array, in a store and in another format.

    Args:
        dataset: Dataset of the store.
        array: `resolution/variant`.
        folder: Directory for the files of the other format; if it is not empty, they are there.
    """

    dataset: StoredDataset
    array: str
    folder: Path

    def load(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return images (n, bands, frames) as stored, and classes (n,)."""
        return self.dataset.load(self.array)

    @property
    def new(self) -> bool:
        """Whether the files of the other format have yet to be written."""
        return not any(self.folder.iterdir())


def _count(batches: Iterable[tuple[Any, Any]]) -> int:
    """Read batches, which must be float32 (b, 1, bands, frames) with b classes; count the clips."""
    total = 0
    for images, labels in batches:
        if str(images.dtype) != "torch.float32" or images.ndim != 4 or len(images) != len(labels):
            raise TypeError(f"a batch of {images.dtype} {tuple(images.shape)}")
        total += len(labels)
    return total


def _floats(images: NDArray[Any]) -> Any:  # noqa: ANN401  (torch is imported late)
    import torch

    return torch.from_numpy(np.ascontiguousarray(images)).unsqueeze(1).float()


def trainer_epoch(source: Source, placement: Placement) -> Epoch:
    """Return an epoch of the trainer's: from host memory, or streamed.

    The trainer's batches are as stored, and a training step makes them float32; here that is part
    of the epoch, as other readers do it.
    """
    import torch

    from trainer.data.arrays import open_source
    from trainer.data.buffers import BufferPool
    from trainer.data.order import EpochOrder
    from trainer.data.source import as_float32

    dataset = source.dataset
    split = open_source(dataset, source.array, dataset.folds, torch.device("cpu"), placement)
    sizes = tuple(len(dataset.labels(block)) for block in dataset.blocks())
    order = EpochOrder(0, dataset.fingerprint, dataset.folds, sizes)
    epochs, memory = itertools.count(1), BufferPool(8)

    def batches() -> Iterator[tuple[Any, Any]]:
        for images, labels in split.batches(order.windows(next(epochs)), BATCH):
            yield as_float32(images, split.scale, memory), labels

    return lambda: _count(batches())


def zarr_dataset(source: Source, cache_blocks: int = 32) -> Epoch:  # as by default
    """Return an epoch of our map-style dataset under a DataLoader, chunk by chunk."""
    from torch.utils.data import BatchSampler, DataLoader

    from trainer import BlockSampler, ZarrDataset

    folds = list(source.dataset.folds)
    data = ZarrDataset(source.dataset.path, source.array, folds=folds, cache_blocks=cache_blocks)
    shuffled = BlockSampler(data, seed=0, window=cache_blocks)
    order = BatchSampler(shuffled, BATCH, drop_last=False)
    loader = DataLoader(data, sampler=order, batch_size=None)
    return lambda: _count(loader)


def npy_files(source: Source) -> Epoch:
    """Return an epoch of one `.npy` per clip, with a Dataset and a DataLoader with workers."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    images, labels = source.load()
    files = [source.folder / f"{i:06d}.npy" for i in range(len(images))]
    if source.new:
        for file, image in zip(files, images, strict=True):
            np.save(file, image)

    class Files(Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            image = torch.from_numpy(np.load(files[index])).unsqueeze(0).float()
            return image, int(labels[index])

    loader = DataLoader(Files(), BATCH, shuffle=True, **WORKER_OPTIONS)
    return lambda: _count(loader)


def memory_map(source: Source) -> Epoch:
    """Return an epoch of one memory-mapped `.npy`; each batch gathers its rows in one call."""
    import torch

    images, labels = source.load()
    if source.new:
        np.save(source.folder / "images.npy", images)
    del images
    mapped = np.load(source.folder / "images.npy", mmap_mode="r")

    def batches() -> Iterator[tuple[Any, Any]]:
        order = np.random.default_rng().permutation(len(mapped))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            yield _floats(mapped[rows]), torch.from_numpy(labels[rows])

    return lambda: _count(batches())


def web_dataset(source: Source) -> Epoch:
    """Return an epoch of tar shards, read by workers in order through a shuffle buffer."""
    import torch
    import webdataset

    images, labels = source.load()
    if source.new:
        size = -(-len(images) // (4 * WORKERS))  # four shards per worker
        pattern = str(source.folder / "%04d.tar")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with webdataset.ShardWriter(pattern, maxcount=size, verbose=0) as writer:
                for i, image in enumerate(images):
                    writer.write({"__key__": f"{i:06d}", "npy": image, "cls": int(labels[i])})
    shards = sorted(str(file) for file in source.folder.glob("*.tar"))
    loader = webdataset.WebLoader(
        webdataset.WebDataset(shards, shardshuffle=len(shards))
        .shuffle(500)
        .decode()
        .to_tuple("npy", "cls")
        .batched(BATCH),
        batch_size=None,
        **WORKER_OPTIONS,
    )
    return lambda: _count((_floats(np.asarray(i)), torch.as_tensor(c)) for i, c in loader)


def hugging_face(source: Source) -> Epoch:
    """Return an epoch of a memory-mapped Arrow table of bytes and classes, with workers."""
    import datasets
    import torch
    from torch.utils.data import DataLoader

    datasets.disable_progress_bars()
    images, labels = source.load()
    shape, dtype = images.shape[1:], images.dtype
    if source.new:
        columns = {"image": [image.tobytes() for image in images], "label": labels}
        datasets.Dataset.from_dict(columns).save_to_disk(source.folder / "arrow")
    del images
    stored = datasets.load_from_disk(str(source.folder / "arrow"))

    def collate(rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        images = np.stack([np.frombuffer(row["image"], dtype).reshape(shape) for row in rows])
        return _floats(images), torch.tensor([row["label"] for row in rows])

    loader = DataLoader(stored, BATCH, shuffle=True, collate_fn=collate, **WORKER_OPTIONS)
    return lambda: _count(loader)


def lit_data(source: Source) -> Epoch:
    """Return an epoch of LitData's optimised chunks, streamed from disk by workers."""
    os.environ.setdefault("DISABLE_VERSION_CHECK", "1")
    import litdata

    logging.getLogger("litdata").setLevel(logging.ERROR)
    if source.new:
        images, labels = source.load()
        np.save(source.folder / "images.npy", images)
        np.save(source.folder / "labels.npy", labels)
        litdata.optimize(
            fn=_lit_sample,
            inputs=[(str(source.folder), i) for i in range(len(images))],
            output_dir=str(source.folder / "lit"),
            chunk_bytes="16MB",
            num_workers=1,
            verbose=False,
        )
    stored = litdata.StreamingDataset(str(source.folder / "lit"), shuffle=True)
    loader = litdata.StreamingDataLoader(stored, batch_size=BATCH, **WORKER_OPTIONS)
    return lambda: _count((images.unsqueeze(1).float(), labels) for images, labels in loader)


def _lit_sample(what: tuple[str, int]) -> tuple[Any, int]:
    """Return one sample to LitData's own process."""
    import torch

    folder, index = what
    image = np.load(Path(folder) / "images.npy", mmap_mode="r")[index]
    return torch.from_numpy(image.copy()), int(np.load(Path(folder) / "labels.npy")[index])


WAYS: dict[str, Callable[[Source], Epoch]] = {
    "trainer, host memory": lambda source: trainer_epoch(source, "host"),
    "trainer, streaming": lambda source: trainer_epoch(source, "stream"),
    "ZarrDataset, chunks kept": zarr_dataset,
    "ZarrDataset, 8 chunks kept": lambda source: zarr_dataset(source, cache_blocks=8),
    "one .npy per clip, DataLoader": npy_files,
    "one memory-mapped .npy": memory_map,
    "WebDataset": web_dataset,
    "HF datasets (Arrow)": hugging_face,
    "LitData": lit_data,
}
