"""The trainer's epoch compared with the bare loop, and folds at once."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from threading import Event
from typing import Any

import torch

from benchmarks import record
from benchmarks.train.bare import BareLoop, ready_batches, wait
from benchmarks.train.setting import Bench
from featurestore import usable_cores
from trainer.threads import computing_threads, driving_threads, threads_per_fold
from trainer.training.folds import take_turns
from trainer.training.stage import EpochResult, Progress


def _ignore() -> None: ...


def against_bare(bench: Bench, array: str) -> dict[str, float]:
    """Measure samples per second of the trainer's epoch and of the bare loop, in turns."""
    how, num_classes = bench.how, len(bench.dataset.class_names)
    data, order = bench.data(array), bench.order()
    trainer = bench.trainer(data, how.acceleration)
    loop = BareLoop(how, how.acceleration, bench.network())
    batches = ready_batches(bench.dataset.shape(array), how, num_classes)
    outcomes: list[EpochResult] = []

    def by_trainer() -> None:
        outcomes.append(trainer.run_epoch(order.windows(len(outcomes) + 1), 0, _ignore))

    cases: dict[str, Callable[[], object]] = {"trainer": by_trainer, "bare": lambda: loop(batches)}
    record.interleave(cases, 1)  # warm up
    times = record.interleave(cases, how.rounds)
    measured = outcomes[1:]
    trained = measured[0].train.num_samples
    # The trainer's seconds are those of its training alone; a bare epoch may have other batches.
    times["trainer"] = [outcome.train_s / trained for outcome in measured]
    times["bare"] = [seconds / (how.steps * how.batch) for seconds in times["bare"]]
    found = record.ratios(times, "trainer", "bare")
    valid = [(o.seconds - o.train_s) / o.valid.num_samples for o in measured]
    return {
        "trainer_samples_per_s": 1 / median(times["trainer"]),
        "bare_samples_per_s": 1 / median(times["bare"]),
        "trainer_over_bare": found["median"],
        "low": found["low"],
        "high": found["high"],
        "valid_samples_per_s": 1 / median(valid),
    }


def folds_at_once(bench: Bench, array: str) -> dict[str, Any]:
    """Measure training samples per second of one fold, and of several at once."""
    return {str(count): _together(bench, array, count) for count in bench.how.folds_at_once}


def _together(bench: Bench, array: str, count: int) -> dict[str, float]:
    how, data, order = bench.how, bench.data(array), bench.order()
    wait(how.device)
    threads = threads_per_fold(usable_cores(), count, how.batch, how.device.type)
    spans: list[tuple[float, float]] = []
    warm: list[bool] = []

    def fold() -> Progress[None]:
        trainer = bench.trainer(data, how.acceleration)
        yield from trainer.epoch(order.windows(1), 0)
        warm.append(True)
        while len(warm) < count:
            yield lambda: len(warm) == count
        started = time.perf_counter()
        for number in range(how.rounds):
            yield from trainer.epoch(order.windows(number + 2), 0)
        spans.append((started, time.perf_counter()))

    works, drivers = deque([fold] * count), driving_threads(count, how.device.type)
    drive = partial(take_turns, works, count // drivers, how.device, Event())
    with computing_threads(threads), ThreadPoolExecutor(drivers) as pool:
        for driver in [pool.submit(drive) for _ in range(drivers)]:
            driver.result()
    seconds = max(stop for _, stop in spans) - min(start for start, _ in spans)
    samples = count * how.rounds * how.steps * how.batch
    return {"threads": threads, "samples_per_s": samples / seconds}


def device_bytes(bench: Bench) -> dict[str, float]:
    """Return the peak GPU memory of this process in GB."""
    return {"peak_gb": torch.cuda.max_memory_allocated(bench.how.device) / 1e9}
