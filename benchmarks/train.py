"""How close is training to what the device can do, and how long do the paper's tables take?

The trainer's own epoch against the same network and optimiser in a bare loop over tensors that
are ready on the device; on a GPU also against the measured peak of matrix products, compiled, in
CUDA graphs, and several folds at once. It needs neither network nor audio: without a store it
makes one of random features.

    python -m benchmarks.train --device cpu --quick
    python -m benchmarks.train --device cuda --quick      # under 8 minutes
    python -m benchmarks.train --device cuda --store esc50.zarr
"""

import argparse
import dataclasses
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

import featurestore
from benchmarks import record
from benchmarks.scale import create, fill, made_up
from featurestore.plan import Block
from schemas import FeatureSpec, Stage
from trainer.data import StageData
from trainer.device import choose_precision, make_repeatable, resolve_device
from trainer.engine import StageTrainer, make_optimizer
from trainer.methods import stages
from trainer.model import build_model
from trainer.order import EpochOrder
from trainer.plan import Options, Plan, plan_run
from trainer.reading import open_split
from trainer.run import run

Batches = list[tuple[Tensor, Tensor]]
Step = Callable[[Tensor, Tensor], None]
ESC50, URBANSOUND8K = (2000, 5), (8732, 10)
"""Clips and folds."""
TABLES = {"esc50": ESC50, "urbansound8k": URBANSOUND8K}
METHODS = ("baseline", "mel", "resize")
_CHANNELS_LAST = torch.channels_last


@dataclass(frozen=True)
class Setting:
    """How much is measured.

    Args:
        device: That trains.
        arch: The network.
        batch: Size of a batch.
        steps: Batches an epoch.
        rounds: How often each case is timed.
        divisor: Of the short schedule's epochs.
        quick: Leave out what takes long.
    """

    device: torch.device
    arch: str
    batch: int
    steps: int
    rounds: int
    divisor: int
    quick: bool

    @property
    def num_clips(self) -> int:
        """Of a store whose four training folds make an epoch of that many batches."""
        return self.batch * self.steps * 5 // 4


def setting(name: str, *, quick: bool) -> Setting:
    """What is measured on a device: on a CPU with a smaller network, where it shall be quick."""
    device = resolve_device(name)
    if device.type == "cuda":
        return Setting(device, "resnet34", 64, 25, 3 if quick else 7, 10, quick)
    if quick:
        return Setting(device, "resnet18", 8, 2, 3, 30, quick)
    return Setting(device, "resnet34", 64, 3, 5, 30, quick)


# --- the data ---------------------------------------------------------------------------------


def random_store(path: Path, num_clips: int) -> featurestore.StoredDataset:
    """A store of random features, of the paper's three resolutions."""
    spec = FeatureSpec(variants=("resize",))
    rng = np.random.default_rng(0)

    def images(block: Block) -> dict[str, NDArray[Any]]:
        return {
            name: rng.random((len(block), *shape), np.float32).astype(np.float16)
            for name, shape in spec.arrays.items()
        }

    fill(create(made_up(num_clips), path, spec), images)
    return featurestore.open_store(path)


def arrays_of(dataset: featurestore.StoredDataset) -> dict[str, str]:
    """The array of each resolution that the method `resize` uses."""
    return {r: f"{r}/{dataset.variants(r)[-1]}" for r in dataset.resolutions}


def _order(dataset: featurestore.StoredDataset) -> EpochOrder:
    folds = dataset.folds[1:]
    sizes = tuple(len(dataset.labels(block)) for block in dataset.blocks(folds))
    return EpochOrder(0, dataset.fingerprint, folds, sizes)


def _plan(
    dataset: featurestore.StoredDataset, how: Setting, precision: str, method: str = "resize"
) -> Plan:
    options = Options(
        method=method,
        folds=dataset.folds[:1],
        device=str(how.device),
        precision=precision,
        init="random",
        batch_size=how.batch,
        arch=how.arch,
    )
    return plan_run(dataset, options)


def ready_batches(shape: tuple[int, int], how: Setting, num_classes: int) -> Batches:
    """Batches of random images, float32, ready on the device."""
    images = torch.rand(how.steps * how.batch, 1, *shape, device=how.device)
    labels = torch.randint(num_classes, (len(images),), device=how.device)
    images = images.to(memory_format=_CHANNELS_LAST)
    return list(zip(images.split(how.batch), labels.split(how.batch), strict=True))


# --- the bare loop ----------------------------------------------------------------------------


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def make_step(
    how: Setting, precision: str, num_classes: int, *, compiled: bool = False, graph: bool = False
) -> Step:
    """One step of the same network and optimiser, and nothing else.

    Args:
        how: Gives network and device.
        precision: `float32` or `bf16`.
        num_classes: Of the network.
        compiled: Through torch.compile.
        graph: The step will be captured in a CUDA graph.
    """
    network = build_model(how.arch, num_classes, 0).to(how.device, memory_format=_CHANNELS_LAST)
    optimizer = make_optimizer(network, 1.0, 0.1)
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
        group["capturable"] = graph
    network.train()
    model = torch.compile(network, dynamic=False) if compiled else network
    bf16 = precision == "bf16"

    def step(images: Tensor, labels: Tensor) -> None:
        with torch.autocast(how.device.type, torch.bfloat16, enabled=bf16, cache_enabled=not graph):
            loss = cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def graphed(step: Step, images: Tensor, labels: Tensor) -> Step:
    """The whole step as one CUDA graph; each call copies its batch into the graph's own."""
    own_images, own_labels = images.clone(), labels.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(own_images, own_labels)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(own_images, own_labels)

    def replay(images: Tensor, labels: Tensor) -> None:
        own_images.copy_(images, non_blocking=True)
        own_labels.copy_(labels, non_blocking=True)
        graph.replay()

    return replay


def loop(step: Step, batches: Batches, device: torch.device) -> None:
    """A step on every batch, until the device is done."""
    for images, labels in batches:
        step(images, labels)
    wait(device)


# --- the parts --------------------------------------------------------------------------------


def trainer_against_bare(
    dataset: featurestore.StoredDataset, how: Setting, array: str, precision: str
) -> dict[str, float]:
    """Samples a second of the trainer's epoch and of the bare loop, in turns.

    On a CPU that others use as well, the ratio of processor times says more than that of seconds.
    """
    num_classes = len(dataset.class_names)
    trainer, data, order = _trainer(dataset, how, array, precision)
    step = make_step(how, precision, num_classes)
    batches = ready_batches(dataset.shape(array), how, num_classes)
    outcomes: list[Any] = []
    busy: dict[str, list[float]] = {"trainer": [], "bare": []}
    epochs = iter(range(1, how.rounds + 2))

    def by_trainer() -> None:
        marks = [time.process_time()]
        windows = order.windows(next(epochs))
        outcomes.append(trainer.run_epoch(windows, lambda: marks.append(time.process_time())))
        busy["trainer"].append((marks[-1] - marks[0]) / outcomes[-1].train.num_samples)

    def bare() -> None:
        started = time.process_time()
        loop(step, batches, how.device)
        busy["bare"].append((time.process_time() - started) / (how.steps * how.batch))

    cases: dict[str, Callable[[], object]] = {"trainer": by_trainer, "bare": bare}
    record.interleave(cases, 1)  # warm up
    times = record.interleave(cases, how.rounds)
    measured = outcomes[1:]
    trained = measured[0].train.num_samples
    # The trainer's seconds are those of its training alone; a bare epoch may have other batches.
    times["trainer"] = [outcome.train_s / trained for outcome in measured]
    times["bare"] = [seconds / (how.steps * how.batch) for seconds in times["bare"]]
    found = record.ratios(times, "trainer", "bare")
    valid = [(o.seconds - o.train_s) / len(data.test) for o in measured]
    return {
        "trainer_samples_per_s": 1 / median(times["trainer"]),
        "bare_samples_per_s": 1 / median(times["bare"]),
        "trainer_over_bare": found["median"],
        "low": found["low"],
        "high": found["high"],
        "processor_time_over_bare": record.ratios(busy, "trainer", "bare")["median"],
        "valid_samples_per_s": 1 / median(valid),
    }


def _trainer(
    dataset: featurestore.StoredDataset, how: Setting, array: str, precision: str
) -> tuple[StageTrainer, StageData, EpochOrder]:
    order = _order(dataset)
    reading = "device" if how.device.type == "cuda" else "host"
    train, test = (
        open_split(dataset, array, folds, how.device, reading)
        for folds in (order.folds, dataset.folds[:1])
    )
    data = StageData(array, train, test)
    model = build_model(how.arch, len(dataset.class_names), 0).to(how.device)
    stage = Stage(array=array, epochs=how.rounds + 1, max_lr=1e-3)
    return StageTrainer(model, stage, data, _plan(dataset, how, precision).config), data, order


def epochs_part(
    dataset: featurestore.StoredDataset, how: Setting, precision: str
) -> dict[str, dict[str, float]]:
    """The trainer against the bare loop, at each resolution."""
    return {
        resolution: trainer_against_bare(dataset, how, array, precision)
        for resolution, array in arrays_of(dataset).items()
    }


def projection_part(rates: dict[str, dict[str, float]]) -> dict[str, Any]:
    """What the measured rates make of a fold and of the paper's tables. Nothing is run here."""
    tables = {
        name: {
            method: folds * fold_seconds(rates, method, name, clips * (folds - 1) // folds, clips)
            for method in METHODS
        }
        for name, (clips, folds) in TABLES.items()
    }
    fold = {method: fold_seconds(rates, method, "esc50", 1600, 2000) for method in METHODS}
    return {
        "esc50_fold_s": fold,
        "resize_over_baseline": fold["resize"] / fold["baseline"],
        "arithmetic": 0.63,
        "table_hours": {name: {m: s / 3600 for m, s in t.items()} for name, t in tables.items()},
        "both_tables_hours": sum(sum(table.values()) for table in tables.values()) / 3600,
    }


def fold_seconds(
    rates: dict[str, dict[str, float]], method: str, dataset: str, train: int, clips: int
) -> float:
    """Seconds of one fold's epochs, each with validation, at the measured rates."""
    total = 0.0
    for stage in stages(method, dataset):
        rate = rates[stage.array.split("/")[0]]
        epoch = train / rate["trainer_samples_per_s"]
        total += stage.epochs * (epoch + (clips - train) / rate["valid_samples_per_s"])
    return total


def short_schedule_part(
    dataset: featurestore.StoredDataset, how: Setting, precision: str
) -> dict[str, Any]:
    """`resize` and `baseline` in full, with data, validation and checkpoints, but fewer epochs."""
    found: dict[str, Any] = {"divisor": how.divisor, "precision": precision}
    with tempfile.TemporaryDirectory() as folder:
        for method in ("baseline", "resize"):
            plan = _plan(dataset, how, precision, method)
            short = _shortened(plan.config.stages, how.divisor)
            config = plan.config.model_copy(update={"stages": short})
            result = run(dataset, dataclasses.replace(plan, config=config), Path(folder) / method)
            found[f"{method}_s"] = result.folds[0].seconds
            found[f"{method}_epochs"] = {stage.array: stage.epochs for stage in short}
            found[f"{method}_pixels"] = sum(
                stage.epochs * int(np.prod(dataset.shape(stage.array))) for stage in short
            )
    found["resize_over_baseline"] = found["resize_s"] / found["baseline_s"]
    found["arithmetic"] = found["resize_pixels"] / found["baseline_pixels"]
    return found


def _shortened(schedule: Sequence[Stage], divisor: int) -> tuple[Stage, ...]:
    """One stage an array, of the divided sum of its epochs."""
    epochs: dict[str, int] = {}
    for stage in schedule:
        epochs[stage.array] = epochs.get(stage.array, 0) + stage.epochs
    return tuple(
        Stage(array=array, epochs=max(1, round(number / divisor)), max_lr=1e-3)
        for array, number in epochs.items()
    )


# --- on a GPU only ----------------------------------------------------------------------------


def peak_part(how: Setting, size: int = 8192, repeats: int = 30) -> dict[str, float]:
    """TFLOP/s of a large bf16 matrix product: what the device does at its best."""
    a, b = (torch.randn(size, size, device=how.device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    wait(how.device)
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    wait(how.device)
    return {"tflops": repeats * 2 * size**3 / (time.perf_counter() - started) / 1e12}


def gflop_a_sample(how: Setting, shape: tuple[int, int]) -> float:
    """Of one training sample, forward and backward, counted by torch."""
    small = dataclasses.replace(how, batch=8, steps=1)
    step = make_step(small, "float32", 50)
    counter = FlopCounterMode(display=False)
    with counter:
        step(*ready_batches(shape, small, 50)[0])
    return float(counter.get_total_flops()) / 8 / 1e9


def modes_part(
    dataset: featurestore.StoredDataset, how: Setting, resolution: str, tflops: float
) -> dict[str, Any]:
    """The bare loop in bf16: eager, compiled, in a graph, and both; each may fail alone."""
    shape = dataset.shape(arrays_of(dataset)[resolution])
    batches = ready_batches(shape, how, 50)
    gflop = gflop_a_sample(how, shape)
    ready: dict[str, Callable[[], object]] = {}
    found: dict[str, Any] = {"gflop_a_sample": gflop}
    for name, compiled, graph in (
        ("eager", False, False),
        ("compiled", True, False),
        ("graph", False, True),
        ("compiled graph", True, True),
    ):
        try:
            step = make_step(how, "bf16", 50, compiled=compiled, graph=graph)
            step = graphed(step, *batches[0]) if graph else step
            loop(step, batches, how.device)
            ready[name] = lambda step=step: loop(step, batches, how.device)
        except Exception as error:  # noqa: BLE001  (one mode must not lose the others)
            found[name] = {"failed": _reason(error)}
            print(f"{resolution}, {name}: failed: {_reason(error)}")
    times = record.interleave(ready, how.rounds)
    for name, seconds in times.items():
        rate = how.steps * how.batch / median(seconds)
        share = rate * gflop / 1000 / tflops if tflops else None
        found[name] = {"samples_per_s": rate, "share_of_peak": share}
    return found


def threads_at_once(shape: tuple[int, int], how: Setting, count: int) -> float:
    """Samples a second of that many folds in threads, each with its stream, eager in bf16."""
    steps = [make_step(how, "bf16", 50) for _ in range(count)]
    batches = ready_batches(shape, how, 50)
    streams = [torch.cuda.Stream() for _ in range(count)]

    def work(step: Step, stream: torch.cuda.Stream) -> None:
        with torch.cuda.stream(stream):
            for images, labels in batches:
                step(images, labels)

    def together() -> None:
        pairs = zip(steps, streams, strict=True)
        workers = [threading.Thread(target=work, args=pair) for pair in pairs]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        wait(how.device)

    return _rate(together, count, how)


def graphs_at_once(shape: tuple[int, int], how: Setting, count: int) -> float:
    """The same with one graph a fold, replayed in turns on a stream each, by one thread."""
    batches = ready_batches(shape, how, 50)
    steps = [graphed(make_step(how, "bf16", 50, graph=True), *batches[0]) for _ in range(count)]
    streams = [torch.cuda.Stream() for _ in range(count)]

    def together() -> None:
        for images, labels in batches:
            for step, stream in zip(steps, streams, strict=True):
                with torch.cuda.stream(stream):
                    step(images, labels)
        wait(how.device)

    return _rate(together, count, how)


def _rate(together: Callable[[], None], count: int, how: Setting) -> float:
    wait(how.device)
    together()
    times = record.interleave({"together": together}, how.rounds)["together"]
    return count * how.steps * how.batch / median(times)


def processes_at_once(shape: tuple[int, int], how: Setting, count: int) -> float:
    """The same with a process a fold; they start their timed loops together."""
    context = torch.multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(count), context.SimpleQueue()
    arguments = (shape, how, barrier, queue)
    workers = [context.Process(target=_fold_process, args=arguments) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(180)
        if worker.is_alive():
            worker.terminate()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError(f"exit codes {[worker.exitcode for worker in workers]}")
    spans = [queue.get() for _ in workers]
    seconds = max(stop for _, stop in spans) - min(start for start, _ in spans)
    return count * how.rounds * how.steps * how.batch / seconds


def _fold_process(shape: tuple[int, int], how: Setting, barrier: Any, queue: Any) -> None:  # noqa: ANN401
    step, batches = make_step(how, "bf16", 50), ready_batches(shape, how, 50)
    loop(step, batches, how.device)
    barrier.wait(150)
    started = time.time()
    for _ in range(how.rounds):
        loop(step, batches, how.device)
    queue.put((started, time.time()))


def folds_part(
    dataset: featurestore.StoredDataset, how: Setting, resolution: str
) -> dict[str, Any]:
    """One fold and several at once: threads, graphs, processes; all samples a second."""
    shape = dataset.shape(arrays_of(dataset)[resolution])
    found: dict[str, Any] = {}
    kinds = {"threads": threads_at_once, "graphs": graphs_at_once, "processes": processes_at_once}
    for kind, measure in kinds.items():
        for count in (1, 2, 4) if how.quick else (1, 2, 4, 8):
            try:
                found.setdefault(kind, {})[count] = measure(shape, how, count)
            except Exception as error:  # noqa: BLE001  (one way must not lose the others)
                found.setdefault(kind, {})[count] = {"failed": _reason(error)}
                print(f"{resolution}, {count} {kind}: failed: {_reason(error)}")
                break
    return found


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300]


# --- the command ------------------------------------------------------------------------------


class _Parts:
    """Runs parts, one failure losing one part only, and saves after each."""

    def __init__(self, name: str, how: Setting, source: str) -> None:
        self._name, self._how, self._source = name, how, source
        self.results: dict[str, Any] = {}

    def __call__(self, name: str, part: Callable[[], Any]) -> Any:  # noqa: ANN401  (JSON)
        started = time.perf_counter()
        try:
            self.results[name] = part()
        except Exception as error:  # noqa: BLE001  (the other parts are still worth having)
            traceback.print_exc()
            self.results[name] = {"failed": _reason(error)}
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
        how = dataclasses.asdict(self._how) | {"device": str(self._how.device)}
        bars = {
            "trainer_over_bare on cpu": 1.03,
            "trainer_over_bare on cuda": 1.02,
            "resize_over_baseline": 0.70,
            "H200 esc50_fold_s": 60,
            "H200 samples_per_s": {"R1": 25_000, "R2": 13_000, "R3": 8_000},
        }
        record.save(self._name, self.results, data=self._source, **how, bars=bars)
        return self.results[name]


def measure(dataset: featurestore.StoredDataset, how: Setting, parts: _Parts) -> None:
    """Every part that the device can do."""
    best = choose_precision("auto", how.device)
    rates = parts(f"epochs {best}", lambda: epochs_part(dataset, how, best))
    if "failed" not in rates:
        parts("projection, nothing of it was run", lambda: projection_part(rates))
    parts("short schedule", lambda: short_schedule_part(dataset, how, best))
    if best != "float32":
        parts("epochs float32", lambda: epochs_part(dataset, how, "float32"))
    if how.device.type == "cuda":
        _measure_gpu(dataset, how, parts)


def _measure_gpu(dataset: featurestore.StoredDataset, how: Setting, parts: _Parts) -> None:
    torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.benchmark = True  # the bare loops take the fastest algorithms there are
    tflops = parts("peak", lambda: peak_part(how)).get("tflops", 0.0)
    resolutions = list(arrays_of(dataset))
    for name in resolutions:
        parts(f"modes {name}", lambda name=name: modes_part(dataset, how, name, tflops))
    for name in resolutions[:1] if how.quick else resolutions:
        parts(f"folds at once {name}", lambda name=name: folds_part(dataset, how, name))


def show(results: dict[str, Any]) -> None:
    """Print what was found."""
    for name, found in results.items():
        rows = [
            {"what": key} | (value if isinstance(value, dict) else {"value": value})
            for key, value in found.items()
        ]
        for columns in dict.fromkeys(tuple(row) for row in rows):  # a table for each kind of row
            record.table([row for row in rows if tuple(row) == columns], name)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every part, save after each, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--store", type=Path, help="a finished store; else random features")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; on a CPU a ResNet18")
    parser.add_argument("--epochs-only", action="store_true", help="only that, in float32")
    parser.add_argument("--out", help="name of the record; train-cpu or train-cuda by default")
    options = parser.parse_args(argv)
    how = setting(options.device, quick=options.quick)
    make_repeatable(how.device)  # as the trainer does
    with tempfile.TemporaryDirectory() as folder:
        if options.store:
            dataset = featurestore.open_store(options.store)
            sizes = len(dataset.clips(dataset.folds[1:])) // how.batch
            how = dataclasses.replace(how, steps=min(how.steps, max(1, sizes)))
        else:
            dataset = random_store(Path(folder) / "random.zarr", how.num_clips)
        source = dataset.card.title if options.store else "random features"
        parts = _Parts(options.out or f"train-{how.device.type}", how, source)
        if options.epochs_only:
            parts("epochs float32", lambda: epochs_part(dataset, how, "float32"))
        else:
            measure(dataset, how, parts)
        show(parts.results)


if __name__ == "__main__":
    main()
