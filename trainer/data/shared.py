"""One array of all folds, held once for all that is trained on it.

A held-out fold takes its rows, and training the others: another fold to hold out is another index
into the same memory, and folds trained at once hold no copies.
"""

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from featurestore import StoredDataset
from schemas import Reading, RunConfig
from trainer.data.interface import Batches, Split, StageData
from trainer.data.order import Window
from trainer.data.reading import array_bytes, open_split
from trainer.outofmemory import loading


@dataclass(frozen=True)
class Part:
    """A `Split` of some rows of one that is held in memory.

    Args:
        whole: All rows, in memory.
        rows: (n,) int64, those of the part.
    """

    whole: Split
    rows: NDArray[np.int64]

    @property
    def device(self) -> torch.device:
        """See `trainer.data.interface.Split`."""
        return self.whole.device

    @property
    def scale(self) -> float:
        """See `trainer.data.interface.Split`."""
        return self.whole.scale

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, windows: Iterable[Window], size: int) -> Batches:
        """See `trainer.data.interface.Split`."""
        return self.whole.batches(self._in_whole(windows), size)

    def in_order(self, size: int) -> Batches:
        """See `trainer.data.interface.Split`."""
        return self.batches([Window((), np.arange(len(self)))], size)

    def _in_whole(self, windows: Iterable[Window]) -> Iterator[Window]:
        return (Window(window.blocks, self.rows[window.rows]) for window in windows)


@dataclass(frozen=True, eq=False)
class HeldArray:
    """An array, held while this object is.

    Args:
        name: `resolution/variant`.
        stages: Its training and its held-out rows, by held-out fold; each for one thread.
    """

    name: str
    stages: Mapping[int, StageData]


class SharedArrays:
    """The arrays of a run, for any number of threads.

    An array is held as long as somebody uses it, and the latest one until another is asked for.

    Args:
        dataset: An open store's dataset.
        config: Gives the folds to hold out, and the device.
        readings: Where each array's data shall lie.
    """

    def __init__(
        self, dataset: StoredDataset, config: RunConfig, readings: Mapping[str, Reading]
    ) -> None:
        self._dataset, self._readings = dataset, readings
        self._folds, self._device = config.folds, torch.device(config.device)
        self._opening = threading.Lock()
        self._latest: HeldArray | None = None
        self._held: weakref.WeakValueDictionary[str, HeldArray] = weakref.WeakValueDictionary()

    def reading(self, array: str) -> Reading:
        """Where its data lie."""
        return self._readings[array]

    def hold(self, array: str) -> HeldArray:
        """An array that is held by now.

        Raises:
            DeviceMemoryError: It does not fit.
            featurestore.errors.StoreError: The store lacks it, or is damaged.
        """
        with self._opening:
            found = self._held.get(array)
            if found is None:
                self._latest = None  # so that it is not held beside the new one
                self._wait()  # what is loaded, and who uses it, is on other streams
                with self._told(array):
                    found = HeldArray(array, self._open(array))
                self._wait()
                self._held[array] = found
            self._latest = found
            return found

    def _told(self, array: str) -> AbstractContextManager[None]:
        size, reading = array_bytes(self._dataset, array), self._readings[array]
        return loading(array, size, reading, str(self._device))

    def _open(self, array: str) -> dict[int, StageData]:
        """The parts of each held-out fold; what lies in memory is there once for all of them."""
        parts = {fold: (training_folds(self._dataset, fold), (fold,)) for fold in self._folds}
        reading = self._readings[array]

        def split(folds: tuple[int, ...]) -> Split:
            if reading == "stream":
                return open_split(self._dataset, array, folds, self._device, reading)
            return Part(whole, np.concatenate([rows[fold] for fold in folds]))

        if reading != "stream":
            whole = open_split(self._dataset, array, self._dataset.folds, self._device, reading)
            rows = _rows_by_fold(self._dataset)
        return {
            fold: StageData(array, split(train), split(test))
            for fold, (train, test) in parts.items()
        }

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()


def training_folds(dataset: StoredDataset, held_out: int) -> tuple[int, ...]:
    """All folds but one."""
    return tuple(fold for fold in dataset.folds if fold != held_out)


def _rows_by_fold(dataset: StoredDataset) -> dict[int, NDArray[np.int64]]:
    """Where the rows of each fold are among those of all folds."""
    sizes = [sum(len(dataset.labels(b)) for b in dataset.blocks([f])) for f in dataset.folds]
    stops = np.cumsum(sizes, dtype=np.int64).tolist()
    ranges = zip(dataset.folds, sizes, stops, strict=True)
    return {fold: np.arange(stop - size, stop) for fold, size, stop in ranges}
