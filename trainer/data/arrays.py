"""The arrays of a run: placement of their data by size, shared by all folds.

A held-out fold and its training folds are index arrays into the same memory, so that folds trained
in parallel hold no copies. On a CPU, the device's memory is the host's, so `device` means `host`.
"""

import math
import os
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from featurestore import StoredDataset
from featurestore.malloc import release_freed_memory
from schemas import Placement, RunConfig
from trainer.data.source import FoldRows, Source, StageData, load_to_device, load_to_host
from trainer.data.split import training_folds
from trainer.data.streamed import StreamedSource
from trainer.oom import explain_oom_loading

PlacementChoice = Placement | Literal["auto"]

_MOST_OF_FREE = 0.5
"""Maximum fraction of the free memory for data; the network and other programs need the rest."""
_CGROUP = Path("sys/fs/cgroup")


def choose_placements(
    dataset: StoredDataset,
    arrays: Sequence[str],
    device: torch.device,
    choice: PlacementChoice,
    held: int = 1,
) -> dict[str, Placement]:
    """Choose the placement of each array's data.

    Results may differ between calls, as free memory changes: call it once per run, and pass the
    result on.

    Args:
        dataset: Dataset with the arrays.
        arrays: Keys of the arrays, such as `R1/mel`; may repeat.
        device: Device used for training.
        choice: Placement requested by the user; `auto` chooses by free memory.
        held: Number of arrays in memory at once.
    """
    free = free_device_memory(device), available_host_memory()
    return {
        array: choose_placement(choice, held * array_bytes(dataset, array), *free)
        for array in arrays
    }


def choose_placement(
    choice: PlacementChoice, num_bytes: int, free_device: int | None, free_host: int
) -> Placement:
    """Return the user's choice; for `auto`, the fastest placement with twice the memory needed.

    Args:
        choice: Placement requested by the user.
        num_bytes: Size of the data in bytes.
        free_device: Free bytes on the GPU; None if a CPU trains.
        free_host: Free bytes on the host.
    """
    if choice == "auto":
        if num_bytes <= _MOST_OF_FREE * (free_device or 0):
            return "device"
        return "host" if num_bytes <= _MOST_OF_FREE * free_host else "stream"
    return "host" if choice == "device" and free_device is None else choice


def array_bytes(dataset: StoredDataset, array: str) -> int:
    """Return the size of all images of an array in memory, in bytes."""
    values: int = len(dataset.clips()) * math.prod(dataset.shape(array))
    return values * dataset.dtype_of(array).itemsize


def free_device_memory(device: torch.device) -> int | None:
    """Return the memory of a GPU that can still be allocated, in bytes.

    None for a CPU, whose memory is the host's.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    # PyTorch keeps what earlier trainings of this process have freed, and allocates it again.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + kept


def available_host_memory(root: Path = Path("/")) -> int:
    """Return the memory that can still be allocated in bytes, counting the page cache as free.

    Args:
        root: Directory that contains `proc` and `sys`, for tests.
    """
    container = _left_to_container(root / _CGROUP)
    machine = _available(root / "proc/meminfo")
    return machine if container is None else min(container, machine)


def _available(meminfo: Path) -> int:
    """Return Linux's own estimate; on other systems the free memory, or all of it."""
    try:
        line = re.search(r"^MemAvailable:\s*(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    except OSError:
        line = None
    if line:
        return int(line[1]) * 1024
    name = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")


def _left_to_container(group: Path) -> int | None:
    """Return what a control group (version 2) leaves of its limit; None without a limit."""
    try:
        limit = (group / "memory.max").read_text().strip()
        # Only anonymous memory counts as taken: the page cache gives way to it.
        anonymous = re.search(r"^anon (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return None
    if limit == "max" or not anonymous:
        return None
    return max(0, int(limit) - int(anonymous[1]))


def open_source(
    dataset: StoredDataset,
    array: str,
    folds: Sequence[int],
    device: torch.device,
    placement: Placement,
) -> Source:
    """Open one array of several folds.

    Args:
        dataset: An open store's dataset.
        array: Key of the array, such as `R1/mel`.
        folds: Folds in the reader's order.
        device: Device that batches are delivered to.
        placement: Placement of the data.

    Raises:
        DeviceMemoryError: The data does not fit.
        featurestore.errors.StoreError: The store lacks the array, or is damaged.
    """
    with explain_oom_loading(array, array_bytes(dataset, array), placement, str(device)):
        if placement == "stream":
            return StreamedSource(dataset, array, folds, device)
        load = load_to_device if placement == "device" else load_to_host
        return load(dataset, array, folds, device)


class HeldArray(dict[int, StageData]):
    """An array, held in memory as long as this object.

    Maps each held-out fold to its training and held-out rows, for use by one thread.
    """


class SharedArrays:
    """The arrays of a run, for any number of threads; a context manager.

    An array is held as long as it is used, and the latest one until another is requested.

    Args:
        dataset: An open store's dataset.
        config: Config of the run, with the held-out folds and the device.
        placements: Placement of each array's data.
    """

    def __init__(
        self, dataset: StoredDataset, config: RunConfig, placements: Mapping[str, Placement]
    ) -> None:
        self._dataset, self._placements = dataset, placements
        self._folds, self._device = config.folds, torch.device(config.device)
        self._opening = threading.Lock()
        self._loader: ThreadPoolExecutor | None = None
        self._latest: HeldArray | None = None
        self._held: weakref.WeakValueDictionary[str, HeldArray] = weakref.WeakValueDictionary()

    def placement(self, array: str) -> Placement:
        """Return the placement of an array's data."""
        return self._placements[array]

    def __enter__(self) -> Self:
        self._loader = ThreadPoolExecutor(1, "loader")
        return self

    def __exit__(self, *_: object) -> None:
        if self._loader is not None:
            self._loader.shutdown(cancel_futures=True)

    def request(self, array: str) -> Future[HeldArray]:
        """Start reading an array in a thread of its own; see `hold`.

        A thread that trains several folds continues with the others in the meantime.
        """
        assert self._loader is not None, "requested within the context"  # noqa: S101
        return self._loader.submit(self.hold, array)

    def hold(self, array: str) -> HeldArray:
        """Return an array, read from the store unless it is held already.

        Raises:
            DeviceMemoryError: The data does not fit.
            featurestore.errors.StoreError: The store lacks the array, or is damaged.
        """
        with self._opening:
            held = self._held.get(array)
            if held is None:
                # The memory of the one before is free before this one is read.
                self._latest = None
                release_freed_memory()
                held = HeldArray(self._open(array))
                self._held[array] = held
            self._latest = held
            return held

    def held_out(self, array: str, fold: int) -> Source:
        """Return a held-out fold's rows of an array, read from the store unless held already.

        Raises:
            DeviceMemoryError: The data does not fit.
            featurestore.errors.StoreError: The store is damaged.
        """
        with self._opening:
            held = self._held.get(array)
        if held is not None:
            return held[fold].valid
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


def _rows_by_fold(dataset: StoredDataset) -> dict[int, NDArray[np.int64]]:
    """Return the positions of each fold's rows among those of all folds."""
    sizes = [sum(len(dataset.labels(b)) for b in dataset.blocks([f])) for f in dataset.folds]
    stops = np.cumsum(sizes, dtype=np.int64).tolist()
    ranges = zip(dataset.folds, sizes, stops, strict=True)
    return {fold: np.arange(stop - size, stop) for fold, size, stop in ranges}
