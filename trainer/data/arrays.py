"""The arrays of a run: where each one's data lie, chosen by size, and held once for all folds.

A held-out fold takes its rows, and training the others: another fold to hold out is another index
into the same memory, and folds trained at once hold no copies. On a CPU the device's memory is the
host's, so `device` means `host` there.
"""

import ctypes
import math
import os
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from featurestore import StoredDataset
from schemas import Reading, RunConfig
from trainer.data.source import FoldRows, Source, StageData, load_to_device, load_to_host
from trainer.data.split import training_folds
from trainer.data.streamed import StreamedSource
from trainer.oom import explain_oom_loading

Placement = Reading
"""`device`, `host` or `stream`; the records call it a reading."""
PlacementChoice = Placement | Literal["auto"]

_MOST_OF_FREE = 0.5
"""Fraction of the free memory that data may take; the network and other programs need the rest."""
_CGROUP = Path("sys/fs/cgroup")


@dataclass(frozen=True)
class FreeMemory:
    """Memory that is free before any data is read.

    Args:
        device: Bytes of the GPU; 0 for a CPU.
        host: Bytes of the host.
    """

    device: int
    host: int


def choose_placements(
    dataset: StoredDataset,
    arrays: Sequence[str],
    device: torch.device,
    choice: PlacementChoice,
    held: int = 1,
) -> dict[str, Placement]:
    """Choose where each array's data shall lie.

    Two calls may answer differently, as free memory changes: call it once per run, and hand the
    answer on.

    Args:
        dataset: Gives the sizes.
        arrays: `resolution/variant`; may repeat.
        device: Device that trains.
        choice: `auto` chooses by the memory that is free now.
        held: Arrays that are in memory at once.
    """
    free = FreeMemory(free_device_memory(device), available_host_memory())
    on_gpu = device.type == "cuda"
    return {
        array: choose_placement(choice, held * array_bytes(dataset, array), free, on_gpu=on_gpu)
        for array in arrays
    }


def choose_placement(
    choice: PlacementChoice, num_bytes: int, free: FreeMemory, *, on_gpu: bool
) -> Placement:
    """Return the fastest place that has twice the room; with another choice than `auto`, that one.

    Args:
        choice: What the user asks for.
        num_bytes: Bytes of the data.
        free: Memory that is free.
        on_gpu: Whether a GPU trains.
    """
    if choice == "auto":
        if on_gpu and num_bytes <= _MOST_OF_FREE * free.device:
            return "device"
        return "host" if num_bytes <= _MOST_OF_FREE * free.host else "stream"
    return "host" if choice == "device" and not on_gpu else choice


def array_bytes(dataset: StoredDataset, array: str) -> int:
    """Return how many bytes all images of an array take in memory."""
    values: int = len(dataset.clips()) * math.prod(dataset.shape(array))
    return values * dataset.dtype_of(array).itemsize


def free_device_memory(device: torch.device) -> int:
    """Return the bytes free on a GPU; 0 for a CPU, whose memory is the host's."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return free


def available_host_memory(root: Path = Path("/")) -> int:
    """Return the bytes that may still be allocated, counting the page cache as free.

    Args:
        root: Where `proc` and `sys` lie.
    """
    container = _left_to_container(root / _CGROUP)
    machine = _available(root / "proc/meminfo")
    return machine if container is None else min(container, machine)


def release_freed_memory() -> None:
    """Return to the system what glibc's malloc keeps of freed memory; elsewhere do nothing.

    malloc keeps a share for each thread: a process grew by half a gigabyte with every run.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


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


class HeldArray(dict[int, StageData]):
    """An array, held in memory while this object is.

    By held-out fold, its training and its held-out rows; each for one thread.
    """


class SharedArrays:
    """The arrays of a run, for any number of threads; a context manager while some are requested.

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
        self._loader: ThreadPoolExecutor | None = None
        self._latest: HeldArray | None = None
        self._held: weakref.WeakValueDictionary[str, HeldArray] = weakref.WeakValueDictionary()

    def placement(self, array: str) -> Placement:
        """Return where an array's data lie."""
        return self._placements[array]

    def __enter__(self) -> Self:
        self._loader = ThreadPoolExecutor(1, "loader")
        return self

    def __exit__(self, *_: object) -> None:
        if self._loader is not None:
            self._loader.shutdown(cancel_futures=True)

    def request(self, array: str) -> Future[HeldArray]:
        """Return an array that a thread of its own reads; see `hold`.

        Whoever trains several folds goes on with the others in the meantime.
        """
        assert self._loader is not None, "requested within the context"  # noqa: S101
        return self._loader.submit(self.hold, array)

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
                held = HeldArray(self._open(array))
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
