"""The cost of a build in addition to extraction: starting, workers, Dask, memory, disk.

python -m benchmarks.build [--clips 1280] [--rounds 5]
"""

import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated, TypeVar

import psutil
import soundfile
import typer

from benchmarks.extract import AUDIO
from benchmarks.record import interleave, save, table
from featurestore.building.build import build
from featurestore.building.executors import Executor, SerialExecutor
from featurestore.building.executors.dask import DaskExecutor
from featurestore.building.executors.processes import ProcessExecutor
from featurestore.datasets import Dataset, load_dataset

T = TypeVar("T")
R = TypeVar("R")


class Timed:
    """An executor that records the time of its blocks and the peak memory.

    Attributes:
        seconds: Seconds from the first block to the last.
        peak_mb: Peak memory of the largest process, this one or a worker, in MB.
    """

    def __init__(self, inner: Executor) -> None:
        self._inner = inner
        self.seconds = 0.0
        self.peak_mb = 0.0

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        """Run the blocks; see `Executor.run`."""
        started = time.perf_counter()
        for result in self._inner.run(function, tasks, rescue):
            self.peak_mb = max(self.peak_mb, *_memory_mb())
            yield result
        self.seconds = time.perf_counter() - started


def _memory_mb() -> list[float]:
    """Return the resident memory of this process and of each worker, in MB."""
    me = psutil.Process()
    return [p.memory_info().rss / 1e6 for p in (me, *me.children(recursive=True))]


def wav_dataset(root: Path, clips: int) -> Dataset:
    """Return ESC-10 as 16-bit WAV in five folds, with files repeated to that many clips."""
    files = sorted((AUDIO / "audio").iterdir())
    for index in range(clips):
        source = files[index % len(files)]
        place = root / f"fold{index % 5 + 1}" / source.stem.rsplit("-", 1)[1]
        place.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(source)
        soundfile.write(place / f"{index}.wav", samples, rate, subtype="PCM_16")
    return load_dataset("folder", root)


def timed_build(dataset: Dataset, place: Path, executor: Executor) -> tuple[float, float]:
    """Build a store; return the seconds of its blocks, and peak memory in MB."""
    shutil.rmtree(place, ignore_errors=True)
    timed = Timed(executor)
    build(dataset, place, executor=timed)
    return timed.seconds, timed.peak_mb


def serial_build(root: Path, place: Path) -> tuple[float, float]:
    """Build in this process, one block after another; see `timed_build`."""
    return timed_build(load_dataset("folder", root), place, SerialExecutor())


def compare(dataset: Dataset, place: Path, rounds: int) -> list[dict[str, object]]:
    """Return a row for each executor, all timed in turns.

    "2 alone" are two processes that build a store each and know nothing of each other: all that
    two cores of this machine can give. Workers are local processes, as by default, or Dask's.
    """
    spawn = multiprocessing.get_context("spawn")
    stores = [place / name for name in ("a.zarr", "b.zarr")]
    with (
        ProcessExecutor(workers=1) as one,
        ProcessExecutor(workers=2) as two,
        DaskExecutor(workers=2) as dask,
        ProcessPoolExecutor(2, spawn) as pool,
    ):

        def alone(processes: int) -> tuple[float, float]:
            tasks = [pool.submit(serial_build, dataset.root, s) for s in stores[:processes]]
            seconds, memory = zip(*(task.result() for task in tasks), strict=True)
            return max(seconds) / processes, max(memory)

        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "serial": lambda: alone(1),
            "2 alone": lambda: alone(2),
            "1 worker": lambda: timed_build(dataset, stores[0], one),
            "2 workers": lambda: timed_build(dataset, stores[0], two),
            "2 workers, Dask": lambda: timed_build(dataset, stores[0], dask),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}

        def case(name: str) -> Callable[[], object]:
            return lambda: found[name].append(ways[name]())

        interleave({name: case(name) for name in ways}, rounds + 1)  # the first round warms up
    kept = {name: values[1:] for name, values in found.items()}
    return [_row(name, kept, len(dataset.clips)) for name in kept]


def _row(name: str, found: dict[str, list[tuple[float, float]]], clips: int) -> dict[str, object]:
    seconds = [s for s, _ in found[name]]

    def over(other: str) -> float:
        return median(a / b for (a, _), b in zip(found[other], seconds, strict=True))

    return {
        "blocks run by": name,
        "clips/s": clips / median(seconds),
        "speed over serial": over("serial"),
        "over 1 worker": over("1 worker"),
        "peak MB per process": max(memory for _, memory in found[name]),
    }


def starting() -> dict[str, float]:
    """Return the seconds until the program answers, and until two Dask workers do."""
    program = Path(sys.executable).parent / "featurestore"
    started = time.perf_counter()
    subprocess.run([program, "datasets"], check=True, capture_output=True)
    answered = time.perf_counter()
    with DaskExecutor(workers=2):
        pass
    return {"program s": answered - started, "two Dask workers s": time.perf_counter() - answered}


def size_kb(store: Path, clips: int) -> float:
    """Return the stored kB per clip, of all files of the store."""
    return sum(f.stat().st_size for f in store.rglob("*") if f.is_file()) / clips / 1000


def main(
    clips: Annotated[int, typer.Option(min=64)] = 1280,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Build the same clips by each executor."""
    if not AUDIO.is_dir():
        typer.echo("the real audio of ../shared/data is not on this machine: nothing measured")
        raise typer.Exit(0)
    with tempfile.TemporaryDirectory() as place:
        dataset = wav_dataset(Path(place) / "wav", clips)
        rows = compare(dataset, Path(place), rounds)
        size = size_kb(Path(place) / "a.zarr", clips)
        others: dict[str, object] = {"kB per clip": size, **starting()}
    table(rows, f"{clips} WAV clips of 5 s")
    table([others], "in addition")
    save("build", {"executors": rows, "other": others}, clips=clips, rounds=rounds)


if __name__ == "__main__":
    typer.run(main)
