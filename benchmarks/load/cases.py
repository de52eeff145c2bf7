"""Each case in a process of its own, so that nothing of one is alive while another is timed."""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import featurestore
from benchmarks.load import filling
from benchmarks.load.formats import WAYS, Source

_SECONDS, _EPOCHS = 0.6, 3
"""Minimum time in seconds, and minimum number, of the repetitions of an epoch."""


def alone(store: Path, array: str, what: str, folder: Path, rounds: int = 1) -> dict[str, Any]:
    """Measure a case in a new process.

    Args:
        store: Path of the store.
        array: `resolution/variant`.
        what: `memory`, `fill`, `stream`, or a key of `WAYS`.
        folder: Directory for the files of other formats.
        rounds: Number of rounds, where the case has any.

    Returns:
        Its measurements; or, under `error`, why it failed.
    """
    arguments = ["--store", str(store), "--array", array, "--folder", str(folder)]
    command = [sys.executable, "-m", "benchmarks.load", *arguments, "--case", what]
    done = subprocess.run(
        [*command, "--rounds", str(rounds)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {
            "error": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:300]
        }
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def answer(store: Path, array: str, what: str, folder: Path, rounds: int) -> None:
    """Measure a case; print JSON as the last line for `alone`, which describes the arguments."""
    dataset = featurestore.open_store(store)
    if what == "memory":
        found: dict[str, Any] = filling.memory(dataset, array)
    elif what == "fill":
        found = filling.fill_rates(dataset, array, rounds)
    elif what == "stream":
        found = filling.stream_share(dataset, array, rounds)
    else:
        home = folder / array.replace("/", "-") / str(list(WAYS).index(what))
        home.mkdir(parents=True, exist_ok=True)
        found = epochs(Source(dataset, array, home), what)
    print(json.dumps(found), flush=True)


def epochs(source: Source, way: str) -> dict[str, Any]:
    """Measure samples per second of each epoch, after a first one that is not counted.

    Raises:
        ValueError: An epoch delivered fewer than nine tenths of the clips.
    """
    epoch = WAYS[way](source)
    size = epoch()
    if size < 0.9 * len(source.dataset.clips()):
        raise ValueError(f"delivered {size} of {len(source.dataset.clips())} clips")
    rates: list[float] = []
    started = time.perf_counter()
    while len(rates) < _EPOCHS or time.perf_counter() - started < _SECONDS:
        before = time.perf_counter()
        rates.append(epoch() / (time.perf_counter() - before))
    return {"rates": rates}


def epoch_rates(store: Path, array: str, rounds: int, folder: Path) -> dict[str, Any]:
    """Measure samples per second of each reader of `WAYS`, in `rounds` processes each, in turns."""
    rates: dict[str, list[float]] = {}
    skipped: dict[str, str] = {}
    names = list(WAYS)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found = {} if name in skipped else alone(store, array, name, folder)
            if "error" in found:
                skipped[name] = found["error"]
                print(f"{array}: {name} is left out: {skipped[name]}")
            rates.setdefault(name, []).extend(found.get("rates", []))
    kept = {name: values for name, values in rates.items() if name not in skipped}
    summary = {
        name: {"samples_per_s": median(values), "slowest": min(values), "fastest": max(values)}
        for name, values in kept.items()
    }
    return {"rates": summary, "skipped": skipped}
