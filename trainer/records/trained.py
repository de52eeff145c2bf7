"""A finished run's networks, ready to be asked: what they are, and the images they want."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore import EXTRACTOR_VERSION
from schemas import CheckpointName
from trainer.errors import CheckpointError, TrainedRunError
from trainer.model import Network, build_model
from trainer.oom import explain_oom
from trainer.records.checkpoint import Checkpoint
from trainer.records.finished import FinishedRun, open_finished
from trainer.records.rundir import RunDirectory

LESS = "take one network (--fold, or --network of `evaluate`), --device cpu, or end other programs"
"""Advice if a network, or what it makes of a clip, does not fit."""
_NEVER = {("last", "best"): "a run with --selection last picks none; take --checkpoint last"}


@dataclass(frozen=True)
class TrainedNetwork:
    """One network of a run.

    Args:
        model: In eval mode, on its device, in float32.
        fold: Fold that it held out in training.
        array: `resolution/variant` of the images it saw last, and wants.
        checkpoint: Where it comes from.
    """

    model: Network
    fold: int
    array: str
    checkpoint: Checkpoint

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> NDArray[np.float64]:
        """Return (b, classes), rows of sum 1, of images (b, 1, bands, frames) float32 in [0, 1]."""
        return torch.softmax(self.model(images).double(), dim=1).cpu().numpy()


def open_run(path: Path) -> FinishedRun:
    """Open a finished run whose networks this program can use.

    Raises:
        TrainedRunError: There is none at `path`, or it is unfinished, damaged, or of a program
            whose features are others.
    """
    run = open_finished(path)
    record = run.record
    if record.extractor_version != EXTRACTOR_VERSION:
        raise TrainedRunError(
            f"{path}: trained on features of extractor version {record.extractor_version}, and "
            f"this program's is {EXTRACTOR_VERSION}; use featurestore "
            f"{record.versions.get('featurestore', 'as it was then')}, or train again"
        )
    return run


def load_network(
    run: FinishedRun, fold: int, name: CheckpointName, device: torch.device
) -> TrainedNetwork:
    """Load one of a run's networks.

    Args:
        run: From `open_run`.
        fold: One of the run's.
        name: Which of the fold's networks.
        device: Where it is wanted.

    Raises:
        CheckpointError: It is absent, damaged, or another run's.
        DeviceMemoryError: It does not fit.
    """
    path = RunDirectory(run.path).fold(fold).network(name)
    if not path.exists() and (note := _NEVER.get((run.config.selection, name))):
        raise CheckpointError(f"{path}: does not exist: {note}")
    with explain_oom(lambda: f"out of memory on {device}: {path} does not fit in addition; {LESS}"):
        return _loaded(run, fold, name, path, device)


def _loaded(
    run: FinishedRun, fold: int, name: CheckpointName, path: Path, device: torch.device
) -> TrainedNetwork:
    checkpoint = run.checkpoint(fold, name)
    model = build_model(run.config.arch, len(checkpoint.class_names), seed=0)
    try:
        model.load_state_dict(checkpoint.model)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: is not a {run.config.arch}: {reason}") from error
    model.eval().to(device).to(memory_format=torch.channels_last)
    return TrainedNetwork(model, fold, checkpoint.array, checkpoint)
