"""Setting of the measurements: device, sizes, store, and the parts of the trainer."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

import featurestore
from benchmarks.made_up import create, fill, made_up
from featurestore.store.plan import Block
from schemas import Acceleration, FeatureSpec, Placement, RunConfig, Stage
from trainer.config import TrainingOptions
from trainer.data.arrays import SharedArrays
from trainer.data.order import EpochOrder
from trainer.data.source import StageData
from trainer.model import Network, build_model
from trainer.plan import Plan, plan_run
from trainer.training.device import Precision, choose_precision, resolve_device
from trainer.training.stage import StageTrainer


@dataclass(frozen=True)
class Setting:
    """Sizes and device of a measurement.

    Args:
        device: Device that trains.
        precision: Precision of every step.
        arch: Architecture of the network.
        batch: Clips per batch.
        steps: Batches per epoch.
        rounds: Number of times that each case is timed.
        divisor: Divisor of the protocol's epochs when whole folds are trained.
        folds_at_once: Numbers of folds to train at once.
        quick: Whether to leave out measurements that take long.
        acceleration: Execution mode of every step, except where modes are compared.
    """

    device: torch.device
    precision: Precision
    arch: Literal["resnet18", "resnet34", "resnet50"]
    batch: int
    steps: int
    rounds: int
    divisor: int
    folds_at_once: tuple[int, ...]
    quick: bool
    acceleration: Acceleration

    @property
    def num_clips(self) -> int:
        """Clips of a store of five folds, four of which make an epoch of `steps` batches."""
        return self.batch * self.steps * 5 // 4

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"


def setting(
    name: str,
    precision: Precision | Literal["auto"] = "auto",
    acceleration: Acceleration | None = None,
    *,
    quick: bool,
) -> Setting:
    """Return the setting for a device: the size of ESC-50 on a GPU, of a few minutes on a CPU.

    By default, steps are recorded as CUDA graphs on a GPU.
    """
    device = resolve_device(name)
    chosen = choose_precision(precision, device)
    if device.type == "cuda":
        folds = (1, 2, 4) if quick else (1, 2, 4, 8)
        rounds, how = 3 if quick else 7, acceleration or "graph"
        return Setting(device, chosen, "resnet34", 64, 25, rounds, 1, folds, quick, how)
    how = acceleration or "eager"
    if quick:
        return Setting(device, chosen, "resnet18", 8, 4, 5, 10, (1, 2), quick, how)
    return Setting(device, chosen, "resnet34", 64, 3, 5, 30, (1, 2), quick, how)


def random_store(path: Path, num_clips: int) -> featurestore.StoredDataset:
    """Return a store of random features, of the paper's three resolutions."""
    spec = FeatureSpec(variants=("resize",))
    rng = np.random.default_rng(0)

    def images(block: Block) -> dict[str, NDArray[Any]]:
        return {
            name: rng.random((len(block), *shape), np.float32).astype(np.float16)
            for name, shape in spec.arrays.items()
        }

    fill(create(made_up(num_clips), path, spec), images)
    return featurestore.open_store(path)


@dataclass(frozen=True)
class Bench:
    """A store and a setting, and the parts of the trainer made for them."""

    dataset: featurestore.StoredDataset
    how: Setting

    @property
    def arrays(self) -> dict[str, str]:
        """The array of each resolution that the method `resize` uses."""
        variants = self.dataset.variants
        return {r: f"{r}/{variants(r)[-1]}" for r in self.dataset.resolutions}

    def plan(self, method: str = "resize") -> Plan:
        """Plan a run of the first fold."""
        how = self.how
        options = TrainingOptions(
            method=method,
            folds=self.dataset.folds[:1],
            device=str(how.device),
            precision=how.precision,
            init="random",
            batch_size=how.batch,
            arch=how.arch,
            acceleration=how.acceleration,
            threads=torch.get_num_threads(),
        )
        return plan_run(self.dataset, options)

    def order(self) -> EpochOrder:
        """Return the order of an epoch of all folds but the first."""
        folds, dataset = self.dataset.folds[1:], self.dataset
        sizes = tuple(len(dataset.labels(block)) for block in dataset.blocks(folds))
        return EpochOrder(0, dataset.fingerprint, folds, sizes)

    def data(self, array: str) -> StageData:
        """Return all folds but the first for training and the first held out, in memory."""
        placements: dict[str, Placement] = {array: "device" if self.how.on_gpu else "host"}
        held = SharedArrays(self.dataset, self.plan().config, placements).hold(array)
        return held[self.dataset.folds[0]]

    def trainer(
        self,
        data: StageData,
        acceleration: Acceleration,
        network: Network | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> StageTrainer:
        """Return the trainer of a long stage, by default of the bench's network.

        Args:
            data: Data of the stage.
            acceleration: Execution mode of the steps.
            network: The network.
            warn: Called with a line if a step runs in another mode; `refuse` by default.
        """
        config: RunConfig = self.plan().config.model_copy(update={"acceleration": acceleration})
        model = (network or self.network()).to(self.how.device)
        stage = Stage(array=data.array, epochs=1000, max_lr=1e-3)
        return StageTrainer(model, stage, data, config, warn or refuse)

    def network(self) -> Network:
        """Return a new network with the same weights at each call."""
        return build_model(self.how.arch, len(self.dataset.class_names), 0)

    def fitted(self) -> "Bench":
        """Return this bench with at most as many steps per epoch as the store has batches."""
        whole = len(self.dataset.clips(self.dataset.folds[1:])) // self.how.batch
        steps = min(self.how.steps, max(1, whole))
        return Bench(self.dataset, dataclasses.replace(self.how, steps=steps))


def refuse(reason: str) -> None:
    """Raise RuntimeError where the trainer would fall back: a figure must be of the named mode."""
    raise RuntimeError(reason)
