"""Where a training step does not fit into the memory, the batch size that does: found by trying."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from schemas import Reading, RunConfig, Stage
from trainer.data.interface import StageData
from trainer.data.order import Window
from trainer.data.resident import Resident
from trainer.data.waiting import Waiting
from trainer.network.model import Network
from trainer.outofmemory import fitting_size, told
from trainer.training.engine import StageTrainer

_SMALLEST = 2
"""Clips of a batch that can be normalised."""


@contextmanager
def stepping(
    model: Network, stage: Stage, shape: tuple[int, int], config: RunConfig, reading: Reading
) -> Iterator[None]:
    """Around a stage's training: where a step does not fit, find a batch size that does.

    Then the network is spoilt: it was trained on nothing, to try.

    Args:
        model: That is trained.
        stage: Trained now.
        shape: (bands, frames) of its images.
        config: Gives the batch size, device and precision.
        reading: Where the data lie.

    Raises:
        DeviceMemoryError: A step does not fit.
    """

    def explain() -> str:
        size = config.batch_size
        found = fitting_batch(model, stage, shape, config)
        step = (
            f"out of memory on {config.device}: a step of {size} clips of {stage.array} "
            f"{shape[0]}×{shape[1]} by {config.arch} in {config.precision}"
        )
        if found is None:
            return f"{step} does not fit, nor does one of {_SMALLEST}; use a smaller --arch"
        room = " (--reading host would leave the data's room, too)" if reading == "device" else ""
        if found == size:
            return (
                f"{step} fits alone, but not beside what was there; train fewer --folds-at-once, "
                f"end other programs, or halve --batch-size{room}"
            )
        return f"{step} does not fit; use --batch-size {found}, which does{room}"

    with told(explain):
        yield


def fitting_batch(
    model: Network, stage: Stage, shape: tuple[int, int], config: RunConfig
) -> int | None:
    """The first of a batch size and its halves whose steps fit; None where not even two clips do.

    Each is tried: a stage of two steps on empty images. The network is spoilt.
    """

    def attempt(size: int) -> None:
        model.zero_grad(set_to_none=True)
        _take_two_steps(model, stage, shape, config, size)

    return fitting_size(config.batch_size, _SMALLEST, attempt)


def _take_two_steps(
    model: Network, stage: Stage, shape: tuple[int, int], config: RunConfig, size: int
) -> None:
    """In the second one the optimiser's own memory is there."""
    device = torch.device(config.device)
    tried = config.model_copy(update={"batch_size": size, "acceleration": "eager"})
    images = torch.zeros(1, 1, *shape, device=device).expand(2 * size, -1, -1, -1)
    labels = torch.zeros(2 * size, dtype=torch.int64, device=device)
    split = Resident(images, labels, 1.0, device)
    trainer = StageTrainer(model, stage, StageData(stage.array, split, split), tried)
    for _ in trainer.steps([Window((), np.arange(2 * size))], 0, Waiting()):
        trainer.take_totals()
