"""Does a GPU train as it should? Cheap proofs first; a check that does not hold raises.

Everything but CUDA graphs is checked on a CPU as well, which takes the same code otherwise.
"""

import csv
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.train.bare import wait
from benchmarks.train.setting import Bench, refuse
from schemas import Acceleration
from trainer.data import buffers
from trainer.model import Network
from trainer.records.checkpoint import Snapshots
from trainer.training.stage import EpochResult, StageTrainer, Stopwatch

_MODES: dict[bool, tuple[Acceleration, ...]] = {False: ("eager",), True: ("eager", "graph")}
_BEFORE_STOP = 5
"""Number of epochs of two folds before they are stopped."""


def checks(bench: Bench, parts: Callable[[str, Callable[[], Any]], Any]) -> None:
    """Run every check: the most decisive first, and last the one that may leave damage behind."""
    arrays = bench.arrays
    first = next(iter(arrays.values()))
    for name, proof in _PROOFS.items():
        parts(name, partial(proof, bench, first))
    parts("recordings while data are loaded", lambda: recordings(bench, first, loading))
    for name, array in arrays.items():
        parts(f"rates {name}", partial(rates, bench, array, _MODES[bench.how.on_gpu]))
    parts("command line", lambda: command_line(bench))
    if bench.how.on_gpu:
        parts("rates compiled", lambda: rates(bench, first, ("compile", "compile-graph")))
    parts("recordings next to foreign copies", lambda: recordings(bench, first, foreign_copies))


def check(holds: bool, what: str) -> bool:
    """Raise RuntimeError unless something holds."""
    if not holds:
        raise RuntimeError(what)
    return True


class Trained:
    """A network and its trainer, which trains epoch after epoch."""

    def __init__(
        self,
        bench: Bench,
        array: str,
        acceleration: Acceleration | None = None,
        warn: Callable[[str], None] = refuse,
    ) -> None:
        how = acceleration or bench.how.acceleration
        self.network: Network = bench.network()
        self.trainer: StageTrainer = bench.trainer(bench.data(array), how, self.network, warn)
        self._order, self._device = bench.order(), bench.how.device

    def epoch(self, number: int) -> EpochResult:
        """Train for an epoch; with a graph, it is recorded in the first."""
        return self.trainer.run_epoch(self._order.windows(number), number, lambda: None)

    def epochs(self, count: int) -> tuple[list[Any], list[Tensor]]:
        """Train, and return the losses and the weights."""
        results = [self.epoch(number) for number in range(1, count + 1)]
        return [(result.train, result.valid) for result in results], self.weights

    @property
    def weights(self) -> list[Tensor]:
        """A copy of all weights and statistics."""
        return [value.clone() for value in self.network.state_dict().values()]


def same(one: tuple[Any, list[Tensor]], other: tuple[Any, list[Tensor]]) -> bool:
    """Return whether losses and weights are equal to the bit."""
    return bool(one[0] == other[0]) and all(map(torch.equal, one[1], other[1]))


def strides(bench: Bench, array: str) -> dict[str, bool]:
    """Check the layout of the gradients, which the fused AdamW of a GPU insists on."""
    trained = Trained(bench, array, "eager")
    trained.epoch(1)
    named = [(name, p) for name, p in trained.network.named_parameters() if p.grad is not None]
    bad = [name for name, p in named if p.grad is not None and p.grad.stride() != p.stride()]
    check(not bad, f"gradients of another layout than the weights: {bad}")
    return {"gradients are laid out as weights": True}


def same_bits(bench: Bench, array: str) -> dict[str, bool]:
    """Check that epochs give the same bits when repeated, and with a graph as without."""
    eager = Trained(bench, array, "eager").epochs(2)
    found = {"eager again": same(Trained(bench, array, "eager").epochs(2), eager)}
    if bench.how.on_gpu:
        graph = Trained(bench, array, "graph").epochs(2)
        found["graph as eager"] = same(graph, eager)
        found["graph again"] = same(Trained(bench, array, "graph").epochs(2), graph)
    check(all(found.values()), f"other bits: {found}")
    return found


def resumed(bench: Bench, array: str) -> dict[str, bool]:
    """Check that a stage resumed in the middle gives the bits of one that never stopped."""
    straight, again = Trained(bench, array), Trained(bench, array)
    straight.epoch(1)
    state, weights = straight.trainer.state(), deepcopy(straight.network.state_dict())
    straight.epoch(2)
    again.network.load_state_dict(weights)
    again.trainer.restore(state)
    again.epoch(2)
    equal = all(map(torch.equal, again.weights, straight.weights))
    return {"resumed as straight": check(equal, "a resumed stage has other weights")}


def float32_error(bench: Bench, array: str) -> dict[str, float]:
    """Check that float32 is not TF32, whose products are off by a thousandth: against float64."""
    shape, network = bench.dataset.shape(array), bench.network().eval()
    images = torch.rand(4, 1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = deepcopy(network).double()(images.double())
        network = network.to(bench.how.device).to(memory_format=torch.channels_last)
        found = network(images.to(bench.how.device)).cpu().double()
    error = float((found - exact).norm() / exact.norm())
    check(error < 2e-5, f"float32 differs from float64 by {error:.1g}")
    return {"relative error": error}


_PROOFS: dict[str, Callable[[Bench, str], Any]] = {
    "strides": strides,
    "same bits": same_bits,
    "resumed": resumed,
    "float32 error": float32_error,
}


def rates(bench: Bench, array: str, modes: tuple[Acceleration, ...]) -> dict[str, Any]:
    """Measure the trainer in some modes, and profile a step in each."""
    found: dict[str, Any] = {}
    for how in modes:
        trained = Trained(bench, array, how)
        started = time.perf_counter()
        trained.epoch(1)
        first_s = time.perf_counter() - started
        results = [trained.epoch(number) for number in range(2, 2 + bench.how.rounds)]
        found[how] = {
            "first_epoch_s": first_s,
            "samples_per_s": median(result.samples_per_s for result in results),
            "valid_s": median(result.seconds - result.train_s for result in results),
            "copy_of_state_s": _copy_s(trained, bench.how.device),
        }
        found[f"a step, {how}"] = _profile(trained, bench)
    return found


def _copy_s(trained: Trained, device: torch.device) -> float:
    """Return the seconds of the copy of the state after an epoch, into memory that is there."""
    networks, optimizers = Snapshots(), Snapshots()
    for _ in range(2):
        wait(device)
        started = time.perf_counter()
        networks.take(trained.network.state_dict())
        trained.trainer.state(optimizers.take)
        wait(device)
    return time.perf_counter() - started


def _profile(trained: Trained, bench: Bench) -> dict[str, Any]:
    """Return the number of launches of a step, their time, and those that take the longest."""
    gpu = bench.how.on_gpu
    steps = trained.trainer.steps(bench.order().windows(1), 1, Stopwatch())
    next(steps)
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as profiled:
        next(steps)
        wait(bench.how.device)
    steps.close()
    field = f"self_{'device' if gpu else 'cpu'}_time_total"
    timed = [(getattr(event, field), event) for event in profiled.key_averages()]
    timed = sorted(((us, event) for us, event in timed if us > 0), key=lambda pair: -pair[0])
    return {
        "launches": sum(event.count for _, event in timed),
        "us": sum(us for us, _ in timed),
        "longest": [f"{event.key[:60]}: {event.count}, {us:.0f} us" for us, event in timed[:14]],
    }


Neighbour = Callable[[torch.device, Event], None]
"""Function that uses a device until an event is set."""


def loading(device: torch.device, stop: Event) -> None:
    """Copy images to the device as the trainer does when it loads an array."""
    shape, images = (1000, 33, 33), np.random.default_rng(0).random((9, 33, 33), np.float32)
    with buffers.loading_onto(device):
        out = torch.empty(shape, device=device)
    while not stop.wait(0.001):
        buffers.scatter_rows(images, out, np.arange(9))


def foreign_copies(device: torch.device, stop: Event) -> None:
    """Copy on the default stream, as a user's own thread may; the trainer cannot know of it."""
    out = torch.empty(1 << 20, device=device)
    pinned = torch.empty(1 << 20, pin_memory=device.type == "cuda")
    while not stop.wait(1e-4):
        out.copy_(pinned, non_blocking=True)
        out.index_copy_(0, torch.arange(9).to(device), out[:9].clone())
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()


@contextmanager
def next_to(neighbour: Neighbour, device: torch.device) -> Iterator[None]:
    """Let four threads use the device."""
    stop = Event()
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(neighbour, device, stop) for _ in range(4)]
        try:
            yield
        finally:
            stop.set()
    for thread in done:
        thread.result()


def recordings(bench: Bench, array: str, neighbour: Neighbour) -> dict[str, Any]:
    """Record six times next to other threads that use the device.

    Next to the trainer's own threads every recording must succeed at once; next to foreign ones the
    result only says what to expect.
    """
    warnings: list[str] = []
    failed = 0
    with next_to(neighbour, bench.how.device):
        for _ in range(6 if bench.how.on_gpu else 1):
            failed += Trained(bench, array, warn=warnings.append).epoch(1).failed_recordings
    if neighbour is loading:
        check(not failed, f"{failed} recordings failed: {warnings[:1]}")
    return {"failed_recordings": failed, "warnings": len(warnings)}


def command_line(bench: Bench) -> dict[str, Any]:
    """Check two folds at once by the command: stopped by Ctrl-C and resumed, they lose nothing."""
    how = bench.how
    options = {
        "--store": bench.dataset.path,
        "--method": "resize",
        "--device": how.device,
        "--precision": how.precision,
        "--acceleration": how.acceleration,
        "--arch": how.arch,
        "--batch-size": how.batch,
        "--threads": torch.get_num_threads(),
        "--init": "random",
        "--folds-at-once": 2,
        "--epochs-scale": 0.05 if how.on_gpu else 0.001,
    }
    folds = [f"--fold={fold}" for fold in bench.dataset.folds[:2]]
    new = ["run", *(str(part) for option in options.items() for part in option), *folds]
    with tempfile.TemporaryDirectory() as folder:
        straight, stopped = Path(folder) / "straight", Path(folder) / "stopped"
        started = time.perf_counter()
        _end(_start(*new, "--out", str(straight)), 0)
        seconds = time.perf_counter() - started
        running = _start(*new, "--out", str(stopped))
        while len(_metrics(stopped)) < _BEFORE_STOP and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _end(running, 130)
        _end(_start("run", "--resume", str(stopped)), 0)
        one, other = _metrics(straight), _metrics(stopped)
    failed = sum(int(row["failed_recordings"]) for row in one + other)
    check(not failed, f"{failed} recordings failed")
    names = "fold", "epoch", "train_loss", "valid_loss"
    losses, resumed_losses = (
        [[row[name] for name in names] for row in rows] for rows in (one, other)
    )
    equal = check(losses == resumed_losses, "a resumed run has other losses")
    return {"epochs": len(one), "seconds": seconds, "resumed as straight": equal}


def _start(*arguments: str) -> subprocess.Popen[str]:
    """Start the command `trainer` with arguments."""
    command = [sys.executable, "-m", "trainer", *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def _end(process: subprocess.Popen[str], status: int) -> None:
    """Wait for the end of a command, and raise RuntimeError unless it exits with a status."""
    output, _ = process.communicate(timeout=600)
    code = process.returncode
    check(code == status, f"exit {code}, expected {status}: {output[-300:]}")


def _metrics(run: Path) -> list[dict[str, str]]:
    """Return the epochs of a run so far."""
    rows: list[dict[str, str]] = []
    for path in sorted(run.glob("fold*/metrics.csv")):
        with path.open(newline="") as file:
            rows += csv.DictReader(file)
    return rows
