"""A network on disk, with what is needed to know what it is and to use it."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schemas import FeatureSpec, RunConfig
from trainer.errors import CheckpointError, RunDirectoryError
from trainer.files import read_file, read_tensors, replace_file
from trainer.problems import in_a_line
from trainer.records.sealing import check_comment, check_digest, file_digest, with_comment

MOST_BYTES = 8 << 30
"""Largest file of networks in bytes. A state of the largest has some 500 MB."""


@dataclass(frozen=True)
class Checkpoint:
    """A network after an epoch.

    Args:
        model: Its state dict; the tensors are never changed again.
        fold: The held-out fold.
        stage: From 1.
        epoch: From 1 over the whole schedule.
        array: `resolution/variant` that the epoch trained on.
        accuracy: Its `EpochMetrics.valid_accuracy`, in [0, 1].
        config: The run's.
        fingerprint: The store's.
        class_names: By class_id, as many as the network has outputs.
        features: What it sees; None in files of older versions.
        extractor_version: Extractor version of what it sees; None in files of older versions.
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
    features: FeatureSpec | None = None
    extractor_version: int | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> str:
    """Write a checkpoint, whole or not at all.

    Returns:
        SHA-256 of the file.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    return save_values(path, to_values(checkpoint))


def load_checkpoint(path: Path, sha256: str | None = None) -> Checkpoint:
    """Read a checkpoint to the host, without running code in it.

    Args:
        path: Path of the file.
        sha256: Digest of the file as written; None if that is not known: then what it says of
            itself is checked.

    Raises:
        CheckpointError: It is absent, damaged, not the one of that digest, or no checkpoint of
            ours.
    """
    try:
        data = read_file(path, MOST_BYTES)
        check_digest(path, file_digest(data) if sha256 else "", sha256, "fold.json")
    except RunDirectoryError as error:
        raise CheckpointError(str(error)) from error
    try:
        return from_values(load_values(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: is no checkpoint of this program: {in_a_line(error)}"
        ) from error


def to_values(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a checkpoint as tensors of the host and plain values."""
    values = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    values["model"] = {name: value.cpu() for name, value in checkpoint.model.items()}
    for name in ("config", "features"):
        values[name] = values[name].model_dump_json() if values[name] else None
    return values


def from_values(values: Any) -> Checkpoint:  # noqa: ANN401 - a file may hold anything
    """Return the checkpoint that `to_values` took apart."""
    features = values.get("features")
    read = {
        "config": RunConfig.model_validate_json(values["config"]),
        "features": FeatureSpec.model_validate_json(features) if features else None,
    }
    return Checkpoint(**{**values, **read})


def save_values(path: Path, values: Mapping[str, Any]) -> str:
    """Write tensors and plain values, whole or not at all, with their digest.

    Returns:
        SHA-256 of the file.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(values, buffer)
    data = with_comment(buffer)
    replace_file(path, data)
    return file_digest(data)


def load_values(data: bytes) -> Any:  # noqa: ANN401 - a file may hold anything
    """Read what `save_values` wrote, or an older version without a digest.

    Raises:
        ValueError: It is damaged, or no such file.
    """
    check_comment(data)
    return read_tensors(io.BytesIO(data))
