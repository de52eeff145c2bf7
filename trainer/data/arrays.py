"""The arrays of a run, opened where they shall lie and held once for all folds.

A held-out fold takes its rows, and training the others: another fold to hold out is another index
into the same memory, and folds trained at once hold no copies.
"""

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from featurestore import StoredDataset
from schemas import RunConfig
from trainer.data.in_memory import load_to_device, load_to_host
from trainer.data.placement import Placement, array_bytes
from trainer.data.source import FoldRows, Source, StageData
from trainer.data.split import training_folds
from trainer.data.streamed import StreamedSource
from trainer.oom import explain_oom_loading


def open_source(
    dataset: StoredDataset,
    array: str,
    folds: Sequence[int],
    device: torch.device,
    placement: Placement,
) -> Source:
    """Open one array of some folds.

    Args:
        dataset: An open store's dataset.
        array: `resolution/variant`.
        folds: Folds in the reader's order.
        device: Device that batches are delivered to.
        placement: Where the data shall lie.

    Raises:
        DeviceMemoryError: It does not fit.
        featurestore.errors.StoreError: The store lacks it, or is damaged.
    """
    with explain_oom_loading(array, array_bytes(dataset, array), placement, str(device)):
        if placement == "stream":
            return StreamedSource(dataset, array, folds, device)
        load = load_to_device if placement == "device" else load_to_host
        return load(dataset, array, folds, device)


@dataclass(frozen=True, eq=False)
class HeldArray:
    """An array, held in memory while this object is.

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
        placements: Where each array's data shall lie.
    """

    def __init__(
        self, dataset: StoredDataset, config: RunConfig, placements: Mapping[str, Placement]
    ) -> None:
        self._dataset, self._placements = dataset, placements
        self._folds, self._device = config.folds, torch.device(config.device)
        self._opening = threading.Lock()
        self._latest: HeldArray | None = None
        self._held: weakref.WeakValueDictionary[str, HeldArray] = weakref.WeakValueDictionary()

    def placement(self, array: str) -> Placement:
        """Return where an array's data lie."""
        return self._placements[array]

    def hold(self, array: str) -> HeldArray:
        """Return an array, read from the store unless somebody holds it already.

        Raises:
            DeviceMemoryError: It does not fit.
            featurestore.errors.StoreError: The store lacks it, or is damaged.
        """
        with self._opening:
            held = self._held.get(array)
            if held is None:
                self._latest = None  # the memory of the one before is free before this one is read
                self._wait()  # what is loaded, and who uses it, is on other streams
                held = HeldArray(array, self._open(array))
                self._wait()
                self._held[array] = held
            self._latest = held
            return held

    def held_out(self, array: str, fold: int) -> Source:
        """Return a held-out fold's rows of an array, read from the store only if nobody holds it.

        Raises:
            DeviceMemoryError: They do not fit.
            featurestore.errors.StoreError: The store is damaged.
        """
        with self._opening:
            held = self._held.get(array)
        if held is not None:
            return held.stages[fold].valid
        return open_source(self._dataset, array, [fold], self._device, self._placements[array])

    def _open(self, array: str) -> dict[int, StageData]:
        """Return the rows of each held-out fold; data in memory are there once for all of them."""
        parts = {fold: (training_folds(self._dataset, fold), (fold,)) for fold in self._folds}
        placement = self._placements[array]

        def source(folds: tuple[int, ...]) -> Source:
            if placement == "stream":
                return open_source(self._dataset, array, folds, self._device, placement)
            return FoldRows(whole, np.concatenate([rows[fold] for fold in folds]))

        if placement != "stream":
            whole = open_source(self._dataset, array, self._dataset.folds, self._device, placement)
            rows = _rows_by_fold(self._dataset)
        return {
            fold: StageData(array, source(train), source(test))
            for fold, (train, test) in parts.items()
        }

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()


def _rows_by_fold(dataset: StoredDataset) -> dict[int, NDArray[np.int64]]:
    """Return the positions of each fold's rows among those of all folds."""
    sizes = [sum(len(dataset.labels(b)) for b in dataset.blocks([f])) for f in dataset.folds]
    stops = np.cumsum(sizes, dtype=np.int64).tolist()
    ranges = zip(dataset.folds, sizes, stops, strict=True)
    return {fold: np.arange(stop - size, stop) for fold, size, stop in ranges}
