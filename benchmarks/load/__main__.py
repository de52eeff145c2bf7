"""Rates at which a stage fills, and at which an epoch of shuffled batches is read.

The same images are read from our store and from other common formats: one `.npy` per clip, one
memory-mapped array, WebDataset, Hugging Face datasets (Arrow) and LitData. Each is timed in a
process of its own while nothing else runs. Libraries that are not installed are left out, with a
message.

    python -m benchmarks.load                      # builds a store of ESC-10 or synthetic sounds
    python -m benchmarks.load --store esc10.zarr
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import featurestore
from benchmarks import record
from benchmarks.load.cases import alone, answer, epoch_rates
from benchmarks.load.data import build_store, tile
from benchmarks.load.formats import BATCH, WORKERS


def _arrays(dataset: featurestore.StoredDataset) -> list[str]:
    """Return one array of each resolution, the last of its variants."""
    return [f"{r}/{dataset.variants(r)[-1]}" for r in dataset.resolutions]


def _measure(store: Path, options: argparse.Namespace, folder: Path) -> None:
    dataset = tile(store, options.clips, folder / "tiled.zarr")
    results: dict[str, Any] = {}
    for array in _arrays(dataset):
        found = results.setdefault(array, {})
        for what in ("fill", "memory", "stream"):
            found[what] = alone(Path(dataset.path), array, what, folder, 3 * options.rounds)
        if not options.no_epochs:
            found["epochs"] = epoch_rates(Path(dataset.path), array, options.rounds, folder)
        record.save(
            options.out,
            results,
            clips=len(dataset.clips()),
            batch=BATCH,
            workers=WORKERS,
            rounds=options.rounds,
            source=featurestore.open_store(store).card.title,
            bars={
                "R3 clips_per_s": 8000,
                "above_array_mb": 200,
                "gpu_share_median": 0.8,
                "cpu_share_median": 0.8,
            },
        )
    _show(results)


def _show(results: dict[str, Any]) -> None:
    rows = [
        {
            "array": array,
            "clips/s": found["fill"]["clips_per_s"],
            "slowest": found["fill"]["slowest"],
            "clips/processor s": found["fill"]["clips_per_processor_s"],
            "× np.load": found["fill"]["times_npy_load"],
            "cold, clips/s": found["fill"]["cold"].get("clips_per_s", "not measured"),
            "peak above array, MB": found["memory"]["above_array_mb"],
        }
        for array, found in results.items()
    ]
    record.table(rows, "Filling a stage from the page cache")
    record.table(
        [{"array": array} | found["stream"] for array, found in results.items()],
        "Streaming, and decoding alone",
    )
    record.table(
        [
            {"array": array, "read by": name} | rates
            for array, found in results.items()
            for name, rates in found.get("epochs", {"rates": {}})["rates"].items()
        ],
        f"Epochs of shuffled batches of {BATCH}, float32 on the host",
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--store", type=Path, help="a finished store; by default one is built")
    parser.add_argument(
        "--clips", type=int, default=1600, help="minimum number; the store's clips are repeated"
    )
    parser.add_argument("--rounds", type=int, default=2, help="processes of each case")
    parser.add_argument("--quick", action="store_true", help="one process of each case, 400 clips")
    parser.add_argument("--no-epochs", action="store_true", help="only filling and streaming")
    parser.add_argument("--out", default="load", help="name of the record")
    for name in ("--case", "--array", "--folder"):  # options of a case's own process
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.case:
        folder = Path(options.folder)
        answer(options.store, options.array, options.case, folder, options.rounds)
        return
    if options.quick:
        options.clips, options.rounds = 400, 1
    with tempfile.TemporaryDirectory() as temporary:
        store = options.store or build_store(Path(temporary))
        _measure(store, options, Path(temporary))


if __name__ == "__main__":
    main()
