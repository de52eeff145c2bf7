"""The command: runs every part that the device supports, and saves after each."""

import argparse
import dataclasses
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import featurestore
from benchmarks import record, train
from benchmarks.train.checks import checks
from benchmarks.train.epochs import against_bare, device_bytes, folds_at_once
from benchmarks.train.modes import modes, peak
from benchmarks.train.overhead import overhead, paired_steps
from benchmarks.train.protocol import projection, whole_folds
from benchmarks.train.setting import Bench, Setting, random_store, setting
from featurestore import usable_cores
from trainer.threads import computing_threads, threads_per_fold
from trainer.training.acceleration import reason_of
from trainer.training.device import computing_on, own_stream

BARS = {
    "trainer_step_over_bare on cpu": 1.03,
    "trainer_over_bare on cuda": 1.02,
    "resize_over_baseline": 0.70,
    "H200 resize_s": 60,
    "H200 samples_per_s": {"R1": 25_000, "R2": 13_000, "R3": 8_000},
    "H200 samples_per_s, goal": {"R1": 60_000, "R2": 26_000, "R3": 14_000},
}


class Parts:
    """Runs parts and saves the record after each; a part that fails does not stop the others.

    Args:
        name: Name of the record.
        how: Setting of the measurements.
        source: Description of the data, for the record.
    """

    def __init__(self, name: str, how: Setting, source: str) -> None:
        self._name, self._how, self._source = name, how, source
        self.results: dict[str, Any] = {}

    def __call__(self, name: str, part: Callable[[], Any]) -> Any:  # noqa: ANN401  (JSON)
        """Run a part; return its result, or `{"failed": reason}`."""
        started = time.perf_counter()
        try:
            self.results[name] = part()
        except Exception as error:  # noqa: BLE001  (the other parts are still worth having)
            traceback.print_exc()
            self.results[name] = {"failed": reason_of(error)}
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        how = dataclasses.asdict(self._how) | {"device": str(self._how.device)}
        record.save(self._name, self.results, data=self._source, **how, bars=BARS)
        return self.results[name]


def measure(bench: Bench, parts: Parts) -> None:
    """Measure every part: first those that have a bar, last those that compile, which is slow."""
    how, arrays = bench.how, bench.arrays
    rates = epochs(bench, parts)
    if len(rates) == len(arrays):
        parts("projection, nothing of it was run", lambda: projection(rates))
    parts("whole folds", lambda: whole_folds(bench))
    for name in list(arrays)[:1] if how.quick and not how.on_gpu else arrays:
        parts(f"folds at once {name}", partial(folds_at_once, bench, arrays[name]))
    tflops = parts("peak", lambda: peak(how)).get("tflops", 0.0)
    for name in reversed(list(arrays)):
        compiled = name == "R1" or not how.quick
        parts(f"modes {name}", partial(modes, bench, name, tflops, compiled=compiled))
    if how.on_gpu:
        parts("memory", lambda: device_bytes(bench))


def epochs(bench: Bench, parts: Parts) -> dict[str, dict[str, float]]:
    """Compare the trainer with the bare loop; return the rates of each resolution that worked."""
    for name, array in bench.arrays.items():
        parts(f"overhead {name}", partial(overhead, bench, array))
        if not bench.how.on_gpu:
            parts(f"paired steps {name}", partial(paired_steps, bench, array))
    found = {
        name: parts(f"epoch {name}", partial(against_bare, bench, array))
        for name, array in bench.arrays.items()
    }
    return {name: rates for name, rates in found.items() if "failed" not in rates}


def show(results: dict[str, Any]) -> None:
    """Print the results."""
    for name, found in results.items():
        rows = [
            {"what": key} | (value if isinstance(value, dict) else {"value": value})
            for key, value in found.items()
        ]
        for columns in dict.fromkeys(tuple(row) for row in rows):  # a table for each kind of row
            record.table([row for row in rows if tuple(row) == columns], name)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every part, save after each, and print; return 1 if a part failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=train.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bf16"])
    parser.add_argument("--acceleration", choices=["eager", "graph"], help="graph on a GPU")
    parser.add_argument("--store", type=Path, help="a finished store; else random features")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; on a CPU a ResNet18")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--checks", action="store_true", help="does the device train as it should?")
    only.add_argument("--epochs-only", action="store_true", help="the trainer against bare only")
    parser.add_argument("--threads", type=int, help="of the CPU; those of the trainer by default")
    parser.add_argument("--out", help="name of the record; train-cuda or checks-cuda, say")
    options = parser.parse_args(argv)
    how = setting(options.device, options.precision, options.acceleration, quick=options.quick)
    threads = options.threads or threads_per_fold(usable_cores(), 1, how.batch, how.device.type)
    with tempfile.TemporaryDirectory() as folder, computing_threads(threads):
        if options.store:
            dataset = featurestore.open_store(options.store)
        else:
            dataset = random_store(Path(folder) / "random.zarr", how.num_clips)
        bench = Bench(dataset, how).fitted()
        source = dataset.card.title if options.store else "random features"
        name = f"{'checks' if options.checks else 'train'}-{how.device.type}"
        parts = Parts(options.out or name, bench.how, source)
        run = checks if options.checks else epochs if options.epochs_only else measure
        with computing_on(how.device), own_stream(how.device):  # as the trainer does
            run(bench, parts)
        show(parts.results)
    return int(any("failed" in found for found in parts.results.values()))


if __name__ == "__main__":
    sys.exit(main())
