"""Workers that come after a build has started, and a cluster that scales by itself.

python -m benchmarks.late_workers [--clips 1440] [--late-s 3]

A build is submitted to a scheduler without workers. Either one worker comes at once and a second
one later, or `adapt` starts and ends up to two by itself, as on a cluster with a queue. The number
of blocks that each process built is counted, and its first one is timed.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Annotated, Any, TypeVar

import typer
from distributed import LocalCluster

from benchmarks.record import save, table
from featurestore.building.build import build
from featurestore.building.executors import Executor
from featurestore.building.executors.dask import DaskExecutor
from featurestore.datasets import Dataset, load_dataset
from featurestore.datasets.synthetic import make_synthetic
from featurestore.store import plan
from schemas import FeatureSpec

T = TypeVar("T")
R = TypeVar("R")
_BLOCK_CLIPS = 8
"""Clips per block: few, so that there are many blocks to share."""


class ByProcess:
    """An executor that records when each worker process ended its blocks.

    Args:
        inner: Executor that runs the blocks.

    Attributes:
        done: End of each block, in seconds since the executor was made, by process id.
    """

    def __init__(self, inner: Executor) -> None:
        self._inner = inner
        self._started = time.perf_counter()
        self.done: dict[int, list[float]] = {}

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        """Run the blocks; see `Executor.run`."""
        rescued = partial(_named, rescue) if rescue else None
        for process, result in self._inner.run(partial(_named, function), tasks, rescued):
            self.done.setdefault(process, []).append(time.perf_counter() - self._started)
            yield result


def _named(function: Callable[[T], R], task: T) -> tuple[int, R]:
    return os.getpid(), function(task)


def timed(
    name: str, dataset: Dataset, store: Path, arrive: Callable[[LocalCluster], object]
) -> Iterator[dict[str, Any]]:
    """Build with the workers that `arrive` adds to the cluster; yield a row for each process."""
    cluster = LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None)
    with cluster, DaskExecutor(scheduler=cluster.scheduler_address) as inner:
        arrive(cluster)
        executor = ByProcess(inner)
        started = time.perf_counter()
        build(dataset, store, executor=executor)
        seconds = time.perf_counter() - started
    for number, (_, ended) in enumerate(sorted(executor.done.items(), key=_first), start=1):
        yield {
            "case": name,
            "process": number,
            "first block after, s": ended[0],
            "blocks": len(ended),
            "whole build, s": seconds,
        }


def _first(process: tuple[int, list[float]]) -> float:
    return process[1][0]


def _small_blocks(spec: FeatureSpec, num_clips: int, chunk_clips: int, max_files: int = 0) -> int:
    return _BLOCK_CLIPS


def main(
    clips: Annotated[int, typer.Option(min=64, help="Clips of 1 to 4 s, made on the spot.")] = 1440,
    late_s: Annotated[float, typer.Option(help="Seconds until the second worker comes.")] = 3.0,
) -> None:
    """Build twice: with a worker that comes late, and with a cluster that adapts."""
    plan.block_clips = _small_blocks
    plan.chunk_clips = lambda fold_sizes: _BLOCK_CLIPS

    def late(cluster: LocalCluster) -> None:
        cluster.scale(1)
        timer = Timer(late_s, cluster.scale, (2,))
        timer.daemon = True
        timer.start()

    def adapt(cluster: LocalCluster) -> None:
        cluster.adapt(minimum=0, maximum=2, interval="500ms")

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        made = make_synthetic(place / "sounds", num_folds=2, clips_per_class=clips // 12)
        dataset = load_dataset("synthetic", made.root)
        rows += timed("a worker that comes late", dataset, place / "late.zarr", late)
        rows += timed("adapt, 0 to 2 workers", dataset, place / "adapt.zarr", adapt)
        num_blocks = sum(-(-fold // _BLOCK_CLIPS) for fold in _fold_sizes(dataset))
    table(rows, f"{len(dataset.clips)} clips in {num_blocks} blocks")
    save("late_workers", {"workers": rows}, clips=len(dataset.clips), blocks=num_blocks)


def _fold_sizes(dataset: Dataset) -> list[int]:
    folds = [clip.fold for clip in dataset.clips]
    return [folds.count(fold) for fold in sorted(set(folds))]


if __name__ == "__main__":
    typer.run(main)
