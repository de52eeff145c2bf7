"""Rates of decoding chunks and filling a stage, and the memory that it takes."""

import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import record
from featurestore import Block, StoredDataset

if TYPE_CHECKING:
    from trainer.data.order import Window
    from trainer.data.source import Source

MB = 1e6


def fill_rates(dataset: StoredDataset, array: str, rounds: int) -> dict[str, Any]:
    """Measure clips per second from a store's chunks into one array, and over `np.load`."""
    images, _ = dataset.load(array)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "images.npy"
        np.save(whole, images)
        cases = {"store": lambda: dataset.load(array), "npy": lambda: np.load(whole)}
        times = record.interleave(cases, rounds)
    rates = [len(images) / seconds for seconds in times["store"]]
    return {
        "clips": len(images),
        "array_mb": images.nbytes / MB,
        "clips_per_s": median(rates),
        "slowest": min(rates),
        "fastest": max(rates),
        "clips_per_processor_s": processor_rate(dataset, array, rounds),
        "times_npy_load": record.ratios(times, "store", "npy")["median"],
        "cold": cold_rate(dataset, array),
    }


def processor_rate(dataset: StoredDataset, array: str, rounds: int) -> float:
    """Measure clips per second of processor time, which other work disturbs little."""
    rates: list[float] = []
    for _ in range(rounds):
        started = time.process_time()
        images, _ = dataset.load(array)
        rates.append(len(images) / (time.process_time() - started))
    return median(rates)


def cold_rate(dataset: StoredDataset, array: str) -> dict[str, Any]:
    """Measure clips per second after the page cache was asked to drop the files.

    If this process reads less than half of them from the device, the request had no effect, and
    there is no rate, but a reason.
    """
    files = [
        f for f in Path(dataset.path).rglob("*") if f.is_file() and f"/{array}/" in f.as_posix()
    ]
    stored = sum(file.stat().st_size for file in files)
    for file in files:
        _drop(file)
    before, started = _blocks_read(), time.perf_counter()
    images, _ = dataset.load(array)
    seconds, read = time.perf_counter() - started, 512 * (_blocks_read() - before)
    if read < stored / 2:
        return {"told_apart": False, "reason": "the files came from a cache that cannot be dropped"}
    return {"told_apart": True, "clips_per_s": len(images) / seconds, "device_mb": read / MB}


def _drop(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _blocks_read() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock


def stream_share(dataset: StoredDataset, array: str, rounds: int) -> dict[str, float]:
    """Measure the rate of the streaming tier as a fraction of the rate of decoding alone, in turns.

    Both read every chunk sixteen times with the same number of threads. Decoding alone reuses the
    memory of the last chunk, which stays in the cache; a stream puts every row at its place in the
    order, in batches as stored. torch's `meta` device stands in for a GPU: the host then does all
    its work except the copies to the device.
    """
    import torch

    from trainer.data.order import EpochOrder
    from trainer.data.streamed import StreamedSource

    sizes = tuple(len(dataset.labels(block)) for block in dataset.blocks())
    order = EpochOrder(0, dataset.fingerprint, dataset.folds, sizes)
    windows = [window for epoch in range(1, 17) for window in order.windows(epoch)]
    splits = {
        name: StreamedSource(dataset, array, dataset.folds, torch.device(device))
        for name, device in (("gpu", "meta"), ("cpu", "cpu"))
    }
    blocks = [dataset.blocks()[number] for window in windows for number in window.blocks]
    cases: dict[str, Callable[[], object]] = {
        "decode": lambda: decode(dataset, array, blocks),
    }
    for name, split in splits.items():
        cases[name] = partial(consume, split, windows)
    for case in cases.values():
        case()
    times = record.interleave(cases, rounds)
    clips = sum(len(window.rows) for window in windows)
    found = {f"{name}_clips_per_s": clips / median(times[name]) for name in cases}
    for name in splits:
        share = record.ratios(times, "decode", name)
        found |= {f"{name}_share_{which}": value for which, value in share.items()}
    return found


def consume(split: "Source", windows: "Sequence[Window]") -> None:
    """Read every batch, and do nothing with it."""
    for _batch in split.batches(windows, 64):
        pass


def decode(dataset: StoredDataset, array: str, blocks: list[Block]) -> None:
    """Decode blocks with one thread per core, each into memory of its own."""
    own = threading.local()

    def one(block: Block) -> None:
        if not hasattr(own, "memory"):
            shape = (dataset.manifest.chunk_clips, *dataset.shape(array))
            own.memory = np.empty(shape, dataset.dtype)
        dataset.read_block(block, array, own.memory[: len(dataset.labels(block))])

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(one, blocks))


def memory(dataset: StoredDataset, array: str) -> dict[str, float]:
    """Return a new process's memory in MB before and after it fills a stage."""
    before = _peak_mb()
    images, _ = dataset.load(array)
    peak, size = _peak_mb(), images.nbytes / MB
    return {"array_mb": size, "peak_mb": peak, "above_array_mb": peak - size, "start_mb": before}


def _peak_mb() -> float:
    """Return peak memory in MB; not `ru_maxrss`, which a child inherits from its parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
