"""Faults that a training run survives: kills, full disks, calls that fail and second starts.

python -m benchmarks.train_faults [--kills 40] [--failures 40] [--seed 0] [--place DIR]

Each training is a process of its own, forked from this one so that torch is loaded once. A
disturbed run must end, resumed, with the bits of an undisturbed one, or be refused in one line.
"""

import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.record import save, table
from featurestore import open_store
from featurestore.building.build import build
from featurestore.datasets import load_dataset
from featurestore.datasets.synthetic import make_synthetic
from schemas import FeatureSpec, Resolution
from trainer.cli import main as trainer
from trainer.config import TrainingOptions
from trainer.plan import plan_run
from trainer.records.checkpoint import load_checkpoint
from trainer.records.finished import open_finished
from trainer.run import begin

FOLDS, EPOCHS, METHODS = (1,), (1, 1, 1), ("mel", "resize", "baseline", "control")
RESOLUTIONS = tuple(
    Resolution(name=name, n_mels=side, num_frames=side)
    for name, side in (("R1", 12), ("R2", 16), ("R3", 24))
)
CALLS = ("write", "fsync", "replace", "link", "open")
"""System calls that are made to fail: those that write a run's files."""
_TIMES = {"seconds", "samples_per_s", "wait_share"}
"""Columns of metrics.csv that differ from run to run."""
_SIZES_MB = (1, 30, 60, 100, 150, 200)
"""Sizes of the small disks in MB; a state has about 130 MB."""
_ROOM_MB = 2000
"""Size of a disk after room was made, in MB."""


def make_store(folder: Path) -> Path:
    """Build a store of small images of a few clips, in two folds."""
    dataset = make_synthetic(folder / "sounds", num_folds=2, clips_per_class=4)
    store = folder / "s.zarr"
    build(load_dataset("synthetic", dataset.root), store, FeatureSpec(resolutions=RESOLUTIONS))
    return store


def new_run(store: Path, out: Path) -> None:
    """Write the record of a small run: three stages of one epoch each."""
    dataset = open_store(store)
    options = TrainingOptions(
        method="resize",
        folds=FOLDS,
        init="random",
        arch="resnet18",
        batch_size=8,
        device="cpu",
        precision="float32",
        threads=1,
    )
    plan = plan_run(dataset, options)
    stages = tuple(
        stage.model_copy(update={"epochs": epochs, "max_lr": 1e-3})
        for stage, epochs in zip(plan.config.stages[::2], EPOCHS, strict=True)
    )
    begin(dataset, replace(plan, config=plan.config.model_copy(update={"stages": stages})), out)


class Training:
    """`trainer` in a forked process.

    Args:
        log: File for its output.
        arguments: Arguments of the command line.
        before: Function to call in the process before the training.
    """

    def __init__(
        self, log: Path, *arguments: str, before: Callable[[], object] = lambda: None
    ) -> None:
        self._log = log
        self._pid = os.fork()
        if self._pid == 0:
            self._train(arguments, before)

    def _train(self, arguments: tuple[str, ...], before: Callable[[], object]) -> None:
        code = 70
        try:
            target = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(target, 1)
            os.dup2(target, 2)
            before()
            code = trainer(list(arguments))
        except BaseException as error:  # noqa: BLE001 - a traceback is a finding
            sys.stderr.write(f"Traceback of {type(error).__name__}: {error}\n")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self, after_s: float | None = None) -> int | None:
        """Wait for the exit code; after `after_s` seconds kill the process and return None."""
        deadline = time.monotonic() + (after_s or 1e9)
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= deadline:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                return None
            time.sleep(0.005)

    def killed_at(self, file: Path) -> bool:
        """Kill the process as soon as a file exists; return whether that was before its end."""
        while not file.exists():
            if os.waitpid(self._pid, os.WNOHANG)[0]:
                return False
            time.sleep(0.005)
        self.ended(after_s=1e-6)
        return file.exists()

    @property
    def error(self) -> str:
        """The line that begins with `error:`; the whole log if it is not the only one."""
        text = self._log.read_text(errors="replace")
        lines = [line for line in text.splitlines() if line.startswith("error: ")]
        return lines[0] if len(lines) == 1 and "Traceback" not in text else text


def resumed(out: Path, before: Callable[[], object] = lambda: None) -> Training:
    """Start to resume a run, with a state written after every epoch."""
    arguments = ("run", "--resume", str(out), "--checkpoint-every", "0")
    return Training(out.with_name(f"{out.name}.log"), *arguments, before=before)


def train_straight(store: Path, out: Path) -> None:
    """Train a run that nothing disturbs.

    Raises:
        RuntimeError: The training failed.
    """
    new_run(store, out)
    if code := (training := resumed(out)).ended():
        raise RuntimeError(f"{code}: {training.error}")


def is_same(out: Path, straight: Path) -> bool:
    """Return whether two finished runs have the same weights, metrics and predictions."""
    ours, theirs = open_finished(out), open_finished(straight)
    ours.verify()
    for fold in FOLDS:
        rows = [
            [row.model_dump(exclude=_TIMES) for row in run.epochs(fold)] for run in (ours, theirs)
        ]
        if rows[0] != rows[1]:
            return False
        for name in ("best", "last"):
            tables = [(run / f"fold{fold}/{name}.csv").read_bytes() for run in (out, straight)]
            one, other = (
                load_checkpoint(run / f"fold{fold}/{name}.pt").model for run in (out, straight)
            )
            if tables[0] != tables[1] or any(not torch.equal(one[k], other[k]) for k in other):
                return False
    return True


def kills(
    store: Path, place: Path, straight: Path, straight_s: float, number: int, seed: int
) -> dict[str, Any]:
    """Kill trainings at random moments and resume them until they end; return counts."""
    chance, counts = random.Random(seed), Counter[str]()  # noqa: S311 - no secret
    span = straight_s / 4  # most of a straight run is the first one's imports
    while counts["kills"] < number:
        out = place / f"killed{counts['runs']}"
        new_run(store, out)
        code = None
        while code is None:
            began = time.monotonic()
            after_s = chance.uniform(0, span) if counts["kills"] < number else None
            code = (training := resumed(out)).ended(after_s)
            counts["kills"] += code is None
        if code:
            raise RuntimeError(training.error)
        span = min(span, max(1.0, time.monotonic() - began))
        counts["runs"] += 1
        counts["unequal"] += not is_same(out, straight)
        counts["left behind"] += sum(1 for file in out.rglob(".*") if file.is_file())
        typer.echo(f"kills: {dict(counts)}, within {span:.1f} s")
        _remove(out)
    return dict(counts)


def failing(name: str, at: int, number: int, out: Path) -> Callable[[], None]:
    """Return a function that makes a system call of this process fail once.

    Args:
        name: Name of the call in `os`.
        at: Number of the call that fails, from 1, of those that concern the run's directory.
        number: Error number, such as `errno.EIO`.
        out: The run's directory.
    """

    def patch() -> None:
        real, seen = getattr(os, name), 0

        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any call of the system
            nonlocal seen
            if _concerns(arguments[0], out):
                seen += 1
                if seen == at:
                    raise OSError(number, os.strerror(number))
            return real(*arguments, **named)

        setattr(os, name, call)

    return patch


def _concerns(target: object, out: Path) -> bool:
    if isinstance(target, int):
        with_link = Path(f"/proc/self/fd/{target}")
        return with_link.exists() and str(with_link.readlink()).startswith(str(out))
    return str(target).startswith(str(out))


def failures(store: Path, place: Path, straight: Path, number: int, seed: int) -> dict[str, Any]:
    """Make system calls fail at random places, then resume; return counts."""
    chance, counts = random.Random(seed), Counter[str]()  # noqa: S311
    for round_ in range(number):
        out = place / f"failing{round_}"
        new_run(store, out)
        name = CALLS[round_ % len(CALLS)]
        code = chance.choice((errno.EIO, errno.ENOSPC, errno.EDQUOT))
        training = resumed(out, failing(name, chance.randrange(1, 16), code, out))
        status = training.ended()
        counts["failed calls"] += 1
        if status == 0:
            counts["not met, or without effect"] += 1
        elif status == 1 and training.error.startswith("error: "):
            counts["one line"] += 1
        else:
            counts["traceback"] += 1
            counts[f"{name}: {training.error[-300:]}"] += 1
        if resumed(out).ended() != 0 or not is_same(out, straight):
            counts["unequal"] += 1
        typer.echo(f"failures: {dict(counts)}")
        _remove(out)
    return dict(counts)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Callable[[], None]]:
    """Mount a small file system; yield a function that makes room on it."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    more = ["mount", "-o", f"remount,size={_ROOM_MB}m", str(folder)]

    def make_room() -> None:
        subprocess.run(more, check=True)

    try:
        yield make_room
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def full_disks(store: Path, place: Path, straight: Path) -> dict[str, Any]:
    """Train on file systems that are too small, make room, and resume; return counts."""
    counts = Counter[str]()
    if os.geteuid():
        return {"not tried": "only root may mount a small file system"}
    for megabytes in _SIZES_MB:
        with small_disk(place / f"disk{megabytes}", megabytes) as make_room:
            out = place / f"disk{megabytes}" / "run"
            log = place / f"disk{megabytes}.log"
            new_run(store, out)
            arguments = ("run", "--resume", str(out), "--checkpoint-every", "0")
            status = (training := Training(log, *arguments)).ended()
            counts["disks"] += 1
            if status == 1 and training.error.startswith("error: "):
                counts["one line"] += 1
            elif status != 0:
                counts["traceback"] += 1
                counts[training.error[-300:]] += 1
            make_room()
            if Training(log, *arguments).ended() != 0 or not is_same(out, straight):
                counts["unequal"] += 1
    return dict(counts)


def two_starts(store: Path, place: Path, straight: Path) -> dict[str, Any]:
    """Start four methods with one --out, then resume one run four times, each all at once."""
    out, small = place / "contested", "--init random --arch resnet18 --batch-size 8 --threads 1"
    arguments = ("--store", str(store), "--fold", "1", "--epochs-scale", "0.001", *small.split())
    starts = {
        method: Training(
            place / f"{method}.log", "run", *arguments, "--method", method, "--out", str(out)
        )
        for method in METHODS
    }
    ended = {method: start.ended() for method, start in starts.items()}
    found = open_finished(out)
    found.verify()
    winners = [method for method, code in ended.items() if code == 0]
    refused = sum(s.error.startswith("error: ") for m, s in starts.items() if ended[m] == 1)
    again = place / "again"
    new_run(store, again)
    arguments = ("run", "--resume", str(again))
    resumes = [Training(place / f"again{n}.log", *arguments) for n in range(4)]
    codes = [one.ended() for one in resumes]
    refused += sum(
        one.error.startswith("error: ") for one, code in zip(resumes, codes, strict=True)
    )
    return {
        "starts": len(starts) + len(resumes),
        "trained": len(winners) + codes.count(0),
        "one line": refused,
        "result of another method": int([found.config.method] != winners),
        "unequal": int(not is_same(again, straight)),
    }


def _remove(out: Path) -> None:
    for file in sorted(out.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    out.rmdir()


def main(
    number_of_kills: Annotated[int, typer.Option("--kills", min=1)] = 40,
    number_of_failures: Annotated[int, typer.Option("--failures", min=1)] = 40,
    seed: int = 0,
    place: Annotated[
        Path | None, typer.Option(help="Directory for the runs, such as /dev/shm.")
    ] = None,
) -> None:
    """Disturb small trainings in every way, and compare them with an undisturbed one."""
    torch.set_num_threads(1)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place)))
        store, straight = make_store(place), place / "straight"
        began = time.monotonic()
        train_straight(store, straight)
        straight_s = time.monotonic() - began
        results: dict[str, Any] = {"straight_s": straight_s}
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "kills": lambda: kills(store, place, straight, straight_s, number_of_kills, seed),
            "second starts": lambda: two_starts(store, place, straight),
            "full disks": lambda: full_disks(store, place, straight),
            "failing calls": lambda: failures(store, place, straight, number_of_failures, seed),
        }
        for name, part in parts.items():
            results[name] = part()
            table([{k: str(v) for k, v in results[name].items()}], f"{name}, seed {seed}")
            save("train_faults", results, seed=seed)


if __name__ == "__main__":
    typer.run(main)
