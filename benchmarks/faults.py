"""Faults that a store survives: builds killed at random moments, bits flipped in every file.

python -m benchmarks.faults [--kills 100] [--flips 3] [--seed 0]
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.record import save, table
from featurestore import FeatureStoreError
from featurestore.checking.repair import repair
from featurestore.checking.verify import verify
from featurestore.datasets import load_dataset
from featurestore.datasets.synthetic import make_synthetic

_BUILD = """
import sys
from contextlib import ExitStack
from pathlib import Path
from featurestore.store import plan
from featurestore.building.build import build
from featurestore.datasets import load_dataset
from featurestore.building.executors import SerialExecutor
from featurestore.building.executors.processes import ProcessExecutor

plan.chunk_clips = lambda fold_sizes: 4
plan.block_clips = lambda spec, num_clips, chunk: 4
name, root, store, workers = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
dataset = load_dataset(name, root)
with ExitStack() as stack:
    executor = stack.enter_context(ProcessExecutor(workers)) if workers else SerialExecutor()
    list(executor.run(abs, range(workers)))
    print("begins", flush=True)
    build(dataset, store, executor=executor)
"""
BLOCK = 4
"""Clips per block of these builds: many commits, so many moments to be killed at."""
_LOOK_S = 0.003
"""Seconds between two checks of what is committed."""


@dataclass
class Marathon:
    """Counts over a series of stores, the builds of each killed until it was finished.

    Attributes:
        seed: Seed of the moments and the numbers of workers.
        kills: Builds killed while blocks were pending.
        late: Builds killed when all were committed: before the store was declared complete, or
            while the workers were ending. They are not among `kills`.
        finished: Stores finished.
        unequal: Those whose bytes differ from an uninterrupted build's.
        redone: Committed blocks that were written again.
        in_flight: Maximum number of blocks that killed builds may have had under way.
        committed_at_kill: Blocks committed when each kill came.
        workers: Kills by the number of workers; 0 is the serial executor.
    """

    seed: int
    kills: int = 0
    late: int = 0
    finished: int = 0
    unequal: int = 0
    redone: int = 0
    in_flight: int = 0
    committed_at_kill: list[int] = field(default_factory=list)
    workers: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Pace:
    """Speed of an undisturbed build.

    Attributes:
        blocks: Number of blocks that it commits.
        first_s: Seconds until the first commit.
        block_s: Mean seconds from one commit to the next.
    """

    blocks: int
    first_s: float
    block_s: float


@dataclass(frozen=True)
class Moment:
    """Moment at which a build dies: `delay_s` after `committed` blocks were seen in the store."""

    committed: int
    delay_s: float


def run_build(
    name: str,
    root: Path,
    store: Path,
    workers: int,
    moment: Moment | None = None,
    env: Mapping[str, str] | None = None,
) -> bool:
    """Build in a process group of its own, killed at a moment (None: never); whether it ended.

    Raises:
        CalledProcessError: It failed, which it may not.
    """
    with started(name, root, store, workers, env or {}) as process:
        if moment is not None and killed_at(process, store, moment):
            return False
        code = process.wait()
    if code:
        raise subprocess.CalledProcessError(code, process.args)
    return True


@contextmanager
def started(
    name: str, root: Path, store: Path, workers: int, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a build in a process group of its own; yield it once its workers are ready."""
    command = [sys.executable, "-c", _BUILD, name, str(root), str(store), str(workers)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, start_new_session=True, env={**os.environ, **env}
    ) as process:
        assert process.stdout is not None  # noqa: S101  (it is a pipe)
        process.stdout.readline()
        yield process


def killed_at(process: subprocess.Popen[bytes], store: Path, moment: Moment) -> bool:
    """Kill a build with all its processes at a moment; return False if it ended before."""
    while len(commits(store)) < moment.committed:
        if process.poll() is not None:
            return False
        time.sleep(_LOOK_S)
    try:
        process.wait(moment.delay_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return True
    return False


def commits(store: Path) -> dict[Path, int]:
    """Return the time of each commit in ns since the epoch, by the file that is the commit."""
    files = (file for file in store.glob("*/fold*/status/c/*") if "." not in file.name)
    return {file: file.stat().st_mtime_ns for file in files}


def measure(name: str, root: Path, store: Path) -> Pace:
    """Measure the pace of a serial build that nothing disturbs."""
    with started(name, root, store, 0, {}) as process:
        began = time.time_ns()
        if code := process.wait():
            raise subprocess.CalledProcessError(code, process.args)
    times = sorted(commits(store).values())
    block_s = (times[-1] - times[0]) / max(1, len(times) - 1) / 1e9
    return Pace(len(times), max(0, times[0] - began) / 1e9, block_s)


def marathon(
    name: str,
    root: Path,
    place: Path,
    kills: int,
    seed: int,
    workers: tuple[int, ...] = (0, 2),
    env: Mapping[str, str] | None = None,
) -> Marathon:
    """Kill builds at random moments and resume them, with another number of workers each time.

    The moments are spread over the blocks that are still pending, however long the processes take
    to start and to close.

    Args:
        name: Name of the dataset.
        root: Directory of its files.
        place: Directory for the stores.
        kills: Number of kills; if a store is finished before, another one is started.
        seed: Seed of every random choice.
        workers: Numbers of workers to choose from; 0 is the serial executor.
        env: Variables to add to the builds' environment.
    """
    chance, history, env = random.Random(seed), Marathon(seed), env or {}  # noqa: S311  (no secret)
    pace = measure(name, root, place / "straight")
    straight = contents(place / "straight")
    while history.kills < kills:
        store = place / f"store{history.finished}"
        for number, moment in _attempts(store, history, kills, pace, chance, workers):
            before = commits(store)
            ended = run_build(name, root, store, number, moment, env)
            now = commits(store)
            history.redone += sum(now.get(file) != when for file, when in before.items())
            if ended:
                break
            _count(history, number, len(now), pace)
        history.finished += 1
        history.unequal += contents(store) != straight
    return history


def _attempts(
    store: Path,
    history: Marathon,
    kills: int,
    pace: Pace,
    chance: random.Random,
    workers: tuple[int, ...],
) -> Iterator[tuple[int, Moment | None]]:
    """Yield the number of workers and the moment to die of each build of a store.

    The moment is None once there were enough kills: that build finishes the store.
    """
    while True:
        number, done = chance.choice(workers), len(commits(store))
        if history.kills >= kills or done >= pace.blocks:
            yield number, None
            continue
        committed = chance.randrange(done, pace.blocks)
        span = pace.first_s if committed == done else pace.block_s
        yield number, Moment(committed, chance.uniform(0, span))


def _count(history: Marathon, workers: int, committed: int, pace: Pace) -> None:
    if committed == pace.blocks:
        history.late += 1
        return
    history.kills += 1
    history.workers[workers] += 1
    history.in_flight += 2 * max(1, workers)  # one is written while the next is extracted
    history.committed_at_kill.append(committed)


def contents(store: Path) -> dict[str, bytes]:
    """Return every file of a store by its relative path."""
    files = (file for file in store.rglob("*") if file.is_file())
    return {str(file.relative_to(store)): file.read_bytes() for file in files}


def flips(name: str, root: Path, store: Path, each: int, seed: int) -> Iterator[dict[str, object]]:
    """Flip single bits in every file of a store in turn; yield whether each was found and repaired.

    Args:
        name: Name of the dataset.
        root: Directory of its files.
        store: A finished store, which is left as it was.
        each: Number of bits per file, one at a time.
        seed: Seed of the choice of bits.
    """
    chance, dataset = random.Random(seed), load_dataset(name, root)  # noqa: S311
    for file in sorted(file for file in store.rglob("*") if file.is_file()):
        whole = file.read_bytes()
        for _ in range(each):
            bit = chance.randrange(8 * len(whole))
            broken = bytearray(whole)
            broken[bit // 8] ^= 1 << bit % 8
            file.write_bytes(broken)
            found = damaged(store)
            list(repair(dataset, store))
            repaired = file.read_bytes() == whole
            file.write_bytes(whole)
            path = file.relative_to(store)
            kind = "zarr.json" if path.name == "zarr.json" else str(path).split("/c/")[0]
            yield {
                "kind": kind,
                "file": str(path),
                "bit": bit,
                "found": found,
                "repaired": repaired,
            }


def damaged(store: Path) -> bool:
    """Return whether `verify` finds anything."""
    try:
        return any(verify(store))
    except FeatureStoreError:
        return True


def main(
    kills: Annotated[int, typer.Option(min=1)] = 100,
    flips_each: Annotated[int, typer.Option("--flips", min=1)] = 3,
    seed: int = 0,
) -> None:
    """Kill builds of a synthetic set, then flip bits in the finished store."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_synthetic(place / "sounds", num_folds=2, clips_per_class=4)
        started = time.monotonic()
        history = marathon("synthetic", place / "sounds", place, kills, seed)
        seconds = time.monotonic() - started
        shutil.move(place / "straight", place / "s.zarr")
        tried = list(flips("synthetic", place / "sounds", place / "s.zarr", flips_each, seed))
    killed = {
        "killed with blocks pending": history.kills,
        "killed after the last commit": history.late,
        "stores finished": history.finished,
        "not equal to an uninterrupted build": history.unequal,
        "committed blocks written again": history.redone,
        "kills by workers": dict(history.workers),
        "blocks committed at the kills": history.committed_at_kill,
        "seconds": seconds,
    }
    kinds = sorted({str(flip["kind"]) for flip in tried})
    rows = [
        {
            "in": kind,
            "bits flipped": len(of := [flip for flip in tried if flip["kind"] == kind]),
            "found": sum(bool(flip["found"]) for flip in of),
            "repaired": sum(bool(flip["repaired"]) for flip in of),
        }
        for kind in kinds
    ]
    missed = [flip for flip in tried if not (flip["found"] and flip["repaired"])]
    table(
        [{k: str(v) for k, v in killed.items() if not isinstance(v, list)}], f"kills, seed {seed}"
    )
    table(rows, f"bits flipped in every file, seed {seed}")
    counts = {
        "bits flipped": len(tried),
        "found": sum(bool(flip["found"]) for flip in tried),
        "repaired": sum(bool(flip["repaired"]) for flip in tried),
        "missed": missed,
    }
    save("faults", {"kills": killed, "flips": counts, "by array": rows}, seed=seed)


if __name__ == "__main__":
    typer.run(main)
