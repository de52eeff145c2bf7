"""A network on disk, with what is needed to know what it is and to use it."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schemas import RunConfig
from trainer.errors import CheckpointError
from trainer.files import read_tensors, replace_file


@dataclass(frozen=True)
class Checkpoint:
    """A network after an epoch.

    Args:
        model: Its state dict; the tensors are never changed again.
        fold: The held-out fold.
        stage: From 1.
        epoch: From 1 over the whole schedule.
        array: `resolution/variant` that the epoch trained on.
        accuracy: That `EpochMetrics.valid_accuracy` has, in [0, 1].
        config: The run's.
        fingerprint: The store's.
        class_names: By class_id, as many as the network has outputs.
    """

    model: Mapping[str, Tensor]
    fold: int
    stage: int
    epoch: int
    array: str
    accuracy: float
    config: RunConfig
    fingerprint: str
    class_names: tuple[str, ...]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    save_values(path, to_values(checkpoint))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the host, without running code in it.

    Raises:
        CheckpointError: It is absent, damaged, or no checkpoint of ours.
    """
    try:
        return from_values(read_tensors(path))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is no checkpoint of this program: {error}") from error


def to_values(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint as tensors of the host and plain values."""
    values = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    values["model"] = {name: value.cpu() for name, value in checkpoint.model.items()}
    return values | {"config": checkpoint.config.model_dump_json()}


def from_values(values: Any) -> Checkpoint:  # noqa: ANN401 - a file may hold anything
    """The checkpoint that `to_values` took apart."""
    return Checkpoint(**{**values, "config": RunConfig.model_validate_json(values["config"])})


def save_values(path: Path, values: Mapping[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(values, buffer)
    replace_file(path, buffer.getbuffer())
