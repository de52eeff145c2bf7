"""Growth of the cost of everything but the audio with the number of clips.

A table of clips without audio files goes through the real planning, creation, commits of one 2 × 2
image per clip, resume, `info` and reading, so that only the bookkeeping is timed. Each size is
measured in a process of its own, for the sake of its peak memory.

    python -m benchmarks.scale                     # 1,000, 10,000 and 100,000 clips
    python -m benchmarks.scale --large             # and 1,000,000 and 10,000,000
"""

import argparse
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import featurestore
from benchmarks import record
from benchmarks.made_up import complete, outcomes
from featurestore.building.build import blocks_where
from featurestore.building.executors.dask import DaskExecutor
from featurestore.building.manifests import plan_manifest
from featurestore.datasets.collection import load_collection
from featurestore.reading.info import describe
from featurestore.store.arrays import StoredArrays
from featurestore.store.cliptable import clip_tables
from featurestore.store.creation import claim_arrays, create_arrays
from featurestore.store.metadata import Columns
from featurestore.store.plan import Block
from featurestore.store.reader import StoredDataset
from schemas import ClipStatus, FeatureSpec, StoreManifest
from schemas.features import Resolution
from trainer.data.order import EpochOrder

T = TypeVar("T")
SIZES = (1_000, 10_000, 100_000)
LARGE = (1_000_000, 10_000_000)
_FOLDS, _CLASSES = 5, 50
_TINY = FeatureSpec(
    resolutions=(Resolution(name="R1", n_mels=2, num_frames=2),), variants=(), dtype="uint8"
)
_NO_OPS = 1_000


def _tiny_images(block: Block) -> dict[str, NDArray[Any]]:
    return {name: np.ones((len(block), *shape), np.uint8) for name, shape in _TINY.arrays.items()}


class _Clock:
    """Elapsed and processor seconds of named parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def __call__(self, name: str, part: Callable[[], T]) -> T:
        started, worked = time.perf_counter(), time.process_time()
        result = part()
        self.seconds[name] = time.perf_counter() - started
        self.cpu[name] = time.process_time() - worked
        return result


def write_table(num_clips: int, root: Path) -> None:
    """Write a table of clips, spread over folds and classes, of which only the first has a file.

    A recording has four clips, all in one fold, as the trainer requires.
    """
    place = root / "audio/000"
    place.mkdir(parents=True)
    (place / "clip00000000.wav").touch()
    with (root / "clips.csv").open("w") as file:
        file.write("path,class,fold,recording\n")
        for row in range(num_clips):
            recording = row // (4 * _FOLDS) * _FOLDS + row % _FOLDS
            file.write(
                f"audio/{row % 1000:03d}/clip{row:08d}.wav,class{row // _FOLDS % _CLASSES:02d},"
                f"{row % _FOLDS + 1},recording{recording:08d}\n"
            )


def measure(num_clips: int, folder: Path) -> dict[str, Any]:
    """Measure the seconds of each part for that many clips, the store's size, and peak memory."""
    root, path, clock = folder / f"{num_clips}", folder / f"{num_clips}.zarr", _Clock()
    write_table(num_clips, root)
    arrays = _create(root, path, clock)
    created_mb = _peak_mb()
    shutil.rmtree(root)
    num_tasks = _fill(arrays, clock)
    _read(path, arrays, clock)
    files, size = _extent(path)
    shutil.rmtree(path)
    return {
        "clips": num_clips,
        "seconds": clock.seconds,
        "processor seconds": clock.cpu,
        "us_per_clip": {name: 1e6 * s / num_clips for name, s in clock.seconds.items()},
        "scheduler_tasks": num_tasks,
        "block_clips": arrays.manifest.block_clips,
        "files": files,
        "bytes": size,
        "bytes_per_clip": size / num_clips,
        "peak_memory_mb_created": created_mb,
        "peak_memory_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _create(root: Path, path: Path, clock: _Clock) -> StoredArrays:
    dataset = clock("read the table", lambda: load_collection(root))
    manifest: StoreManifest = clock("plan the manifest", lambda: plan_manifest(dataset, _TINY))
    tables = clock("order the clip table", lambda: clip_tables(dataset.clips, manifest))
    return clock("create the arrays", lambda: _created(path, manifest, tables))


def _fill(arrays: StoredArrays, clock: _Clock) -> int:
    blocks = clock("find pending blocks (new)", lambda: _pending(arrays))
    clock("commit every block", lambda: _commit(arrays, blocks))
    clock("declare complete", lambda: complete(arrays))
    return len(blocks)


def _created(path: Path, manifest: StoreManifest, tables: Mapping[int, Columns]) -> StoredArrays:
    arrays = claim_arrays(path, manifest)
    create_arrays(arrays, tables)
    return arrays


def _pending(arrays: StoredArrays) -> list[Block]:
    return blocks_where(arrays, lambda status: status == ClipStatus.PENDING)


def _commit(arrays: StoredArrays, blocks: Iterable[Block]) -> None:
    for block in blocks:
        arrays.write_block(block, _tiny_images(block) | outcomes(len(block)))


def _read(path: Path, arrays: StoredArrays, clock: _Clock) -> None:
    clock("find pending blocks (finished)", lambda: _pending(arrays))
    clock("info", lambda: describe(path))
    dataset = clock("open", lambda: featurestore.open_store(path))
    sizes = clock("read the labels", lambda: _chunk_sizes(dataset))
    order = EpochOrder(0, dataset.fingerprint, dataset.folds, sizes)
    clock("order an epoch", lambda: order.rows(1))
    clock("read the clip table", dataset.clips)
    clock("load the images", lambda: dataset.load(dataset.arrays[0]))


def _chunk_sizes(dataset: StoredDataset) -> tuple[int, ...]:
    """Return the number of clips of each chunk, as the trainer counts them."""
    return tuple(len(dataset.labels(block)) for block in dataset.blocks())


def _extent(path: Path) -> tuple[int, int]:
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)


def scheduler_ms(num_tasks: int = _NO_OPS) -> float:
    """Measure the milliseconds per empty task, on Dask with two worker processes."""
    with DaskExecutor(workers=2) as executor:
        list(executor.run(abs, range(50)))
        started = time.perf_counter()
        list(executor.run(abs, range(num_tasks)))
        return 1e3 * (time.perf_counter() - started) / num_tasks


def _show(measured: Sequence[dict[str, Any]]) -> None:
    parts = measured[-1]["seconds"]
    sizes = {f"{m['clips']:,} clips, s": m["seconds"] for m in measured}
    rows = [
        {"part": part} | {name: float(seconds[part]) for name, seconds in sizes.items()}
        for part in parts
    ]
    record.table(rows, "Seconds of each part")
    kept = ("clips", "scheduler_tasks", "files", "bytes", "bytes_per_clip")
    peaks = ("peak_memory_mb_created", "peak_memory_mb")
    record.table([{name: m[name] for name in (*kept, *peaks)} for m in measured], "Sizes")


def _alone(size: int, folder: Path) -> dict[str, Any]:
    """Measure a size in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, size, folder).result()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each size in turn; the record is saved after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("sizes", nargs="*", type=int, help="clips; by default 1000 10000 100000")
    parser.add_argument("--large", action="store_true", help="1,000,000 and 10,000,000 as well")
    parser.add_argument("--out", default="scale", help="name of the record")
    options = parser.parse_args(argv)
    sizes = [*(options.sizes or SIZES), *(LARGE if options.large else ())]
    measured: list[dict[str, Any]] = []
    per_task = scheduler_ms()
    print(f"an empty Dask task: {per_task:.2f} ms")
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            measured.append(_alone(size, Path(folder)))
            print(f"{size:,} clips: {sum(measured[-1]['seconds'].values()):.1f} s")
            record.save(options.out, {"scheduler_ms_per_task": per_task, "sizes": measured})
    _show(measured)


if __name__ == "__main__":
    main()
