"""Checkpoints: networks with all information needed to identify and use them."""

import io
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from schemas import EpochMetrics, FeatureSpec, RunConfig, RunRecord
from trainer import safefiles
from trainer.errors import CheckpointError, RunDirectoryError, differing, in_a_line

_Kind = TypeVar("_Kind")
MOST_BYTES = 8 << 30
"""Maximum size of a checkpoint file in bytes. States of the largest network have about 500 MB."""


@dataclass(frozen=True)
class Checkpoint:
    """A network after an epoch, with its metadata.

    Args:
        model: State dict, whose tensors are never modified.
        fold: Held-out fold.
        stage: Number of the stage, from 1.
        epoch: Number of the epoch in the whole schedule, from 1.
        array: Key of the array on which the epoch was trained.
        accuracy: `EpochMetrics.score`, in [0, 1]; mean average precision with several labels.
        config: Config of the run.
        fingerprint: Fingerprint of the store.
        class_names: Class names by class_id, one per output of the network.
        features: Spec of its input; None in files of older versions.
        extractor_version: Extractor version of its input; None in files of older versions.
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
    """Write a checkpoint atomically.

    Returns:
        SHA-256 digest (hex) of the file.

    Raises:
        RunDirectoryError: The file cannot be written.
    """
    return save_values(path, to_values(checkpoint))


def load_checkpoint(path: Path, sha256: str | None = None) -> Checkpoint:
    """Read a checkpoint into host memory, without executing code in it.

    Args:
        path: Path of the file.
        sha256: Digest of the file as written; if None, its own digest is checked.

    Raises:
        CheckpointError: The file is missing, damaged, has another digest, or is not a checkpoint
            of ours.
    """
    with _described(path, "is no checkpoint of this program: {}"):
        data = safefiles.read_file(path, MOST_BYTES)
        safefiles.check_digest(
            path, safefiles.file_digest(data) if sha256 else "", sha256, "fold.json"
        )
        return from_values(load_values(data))


@contextmanager
def _described(path: Path, what: str) -> Iterator[None]:
    """Say of a file of networks why it cannot be read."""
    try:
        yield
    except RunDirectoryError as error:
        raise CheckpointError(str(error)) from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: {what.format(in_a_line(error))}") from error


def to_values(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a checkpoint as host tensors and plain values."""
    values = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    values["model"] = {name: value.cpu() for name, value in checkpoint.model.items()}
    for name in ("config", "features"):
        values[name] = values[name].model_dump_json() if values[name] else None
    return values


def from_values(values: Any) -> Checkpoint:  # noqa: ANN401 - a file may hold anything
    """Return the checkpoint from the result of `to_values`."""
    _check_plain(values, dict)
    model = _check_plain(values["model"], dict)
    for tensor in model.values():
        _check_plain(tensor, Tensor)
    features = values.get("features")
    read = {
        "config": RunConfig.model_validate_json(values["config"]),
        "features": FeatureSpec.model_validate_json(features) if features else None,
    }
    return Checkpoint(**{**values, **read})


def _check_plain(value: Any, kind: type[_Kind]) -> _Kind:  # noqa: ANN401 - a file may hold anything
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} in the place of a {kind.__name__}")
    return value


def save_values(path: Path, values: Mapping[str, Any]) -> str:
    """Write tensors and plain values atomically, with their digest.

    Returns:
        SHA-256 digest (hex) of the file.

    Raises:
        RunDirectoryError: The file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(values, buffer)
    data = safefiles.with_comment(buffer)
    safefiles.replace_file(path, data)
    return safefiles.file_digest(data)


def load_values(data: bytes) -> Any:  # noqa: ANN401 - a file may hold anything
    """Read the output of `save_values`, or of an older version without a digest.

    Raises:
        ValueError: It is damaged, or not such a file.
    """
    safefiles.check_comment(data)
    return safefiles.read_tensors(data)


@dataclass(frozen=True)
class StageState:
    """A stage in progress.

    Args:
        step: Number of steps taken in its 1cycle.
        optimizer: State dict of the optimiser, which is never modified.
    """

    step: int
    optimizer: Mapping[str, Any]


@dataclass(frozen=True)
class FoldState:
    """A fold after an epoch.

    Args:
        last: The current network.
        best: Network to report, see `trainer.selection`; None if there is none yet.
        carried: Network from which the next stage starts.
        stage: State of the stage of the last epoch.
        epochs: Metrics of all epochs so far.
        seconds: Seconds spent so far.
        warnings: Warnings so far.
        moments: State of the optimiser after the epoch of `carried`; None if stages start without
            moments.
    """

    last: Checkpoint
    best: Checkpoint | None
    carried: Checkpoint
    stage: StageState
    epochs: tuple[EpochMetrics, ...]
    seconds: float
    warnings: tuple[str, ...] = ()
    moments: Mapping[str, Any] | None = None

    @property
    def state_dicts(self) -> tuple[Mapping[str, Any], ...]:
        """All state dicts of networks and optimisers in the state."""
        networks = tuple(one.model for one in (self.last, self.best, self.carried) if one)
        return (*networks, self.stage.optimizer, self.moments or {})


def save_state(path: Path, state: FoldState) -> None:
    """Write a fold's state atomically.

    Raises:
        RunDirectoryError: The file cannot be written.
    """
    best = to_values(state.best) if state.best and state.best is not state.last else None
    # By name if it is one of the two: networks are what makes this file large.
    names = [name for name in ("last", "best") if getattr(state, name) is state.carried]
    values = {
        "last": to_values(state.last),
        "best": best,
        "has_best": state.best is not None,
        "carried": names[0] if names else to_values(state.carried),
        "step": state.stage.step,
        "optimizer": state.stage.optimizer,
        "moments": state.moments,
        "epochs": json.dumps([epoch.model_dump(mode="json") for epoch in state.epochs]),
        "seconds": state.seconds,
        "warnings": list(state.warnings),
    }
    save_values(path, values)


def load_state(path: Path) -> FoldState:
    """Read a fold's state into host memory, without executing code in it.

    Raises:
        CheckpointError: The file is damaged, or not a state of ours.
    """
    what = "is no state of an unfinished fold, or is damaged ({}); remove it, and it starts over"
    with _described(path, what):
        values: dict[str, Any] = _check_plain(
            load_values(safefiles.read_file(path, MOST_BYTES)), dict
        )
        last = from_values(values["last"])
        best = from_values(values["best"]) if values["best"] else last
        networks = {"last": last, "best": best}
        # Older versions began each stage with the best network, if any was picked.
        carried = values.get("carried", "best" if values["has_best"] else "last")
        epochs = [EpochMetrics.model_validate(epoch) for epoch in json.loads(values["epochs"])]
        return FoldState(
            last=last,
            best=best if values["has_best"] else None,
            carried=networks[carried] if isinstance(carried, str) else from_values(carried),
            stage=StageState(int(values["step"]), _check_plain(values["optimizer"], dict)),
            epochs=tuple(epochs),
            seconds=float(values["seconds"]),
            warnings=tuple(values.get("warnings", ())),
            moments=values.get("moments"),
        )


def check_is_of(path: Path, checkpoint: Checkpoint, record: RunRecord, fold: int) -> None:
    """Check that a network has the given fold, store and config.

    Raises:
        CheckpointError: Fields differ; the message names them.
    """
    names = ["fingerprint", "class_names"]
    if checkpoint.features or checkpoint.extractor_version:  # older versions wrote neither
        names += ["features", "extractor_version"]
    own = {name: getattr(checkpoint, name) for name in ("fold", *names)}
    of_run = {name: getattr(record, name) for name in names} | {"fold": fold}
    if problems := differing(dict(checkpoint.config) | own, dict(record.config) | of_run):
        raise CheckpointError(f"{path}: is not of this run, it differs in: {', '.join(problems)}")


Keys = tuple[Any, ...]
"""Path of keys to a tensor in a state dict."""


class Snapshots:
    """Fast copies of a state dict whose structure is the same at each call.

    After every epoch, the state of network and optimiser is copied, about 600 tensors. Cloning each
    would take a GPU longer than the steps of a short epoch; here one call copies all of a dtype.
    """

    def __init__(self) -> None:
        self._buffers: list[dict[Keys, Tensor]] = []

    def take(self, state: Mapping[Any, Any], in_use: Collection[int] = ()) -> dict[Any, Any]:
        """Return a deep copy of a state dict.

        Args:
            state: Tensors and plain values, possibly in nested dictionaries.
            in_use: `id` of each tensor of earlier copies that is still in use; the memory of the
                others is reused.
        """
        tensors = dict(tensors_in(state))
        for copies in self._buffers:
            free = not any(id(tensor) in in_use for tensor in copies.values())
            if free and copies.keys() == tensors.keys():
                break
        else:
            copies = {path: torch.empty_like(tensor) for path, tensor in tensors.items()}
            self._buffers.append(copies)
        _copy(tensors, copies)
        return _replaced(state, copies)


def tensors_in(state: Mapping[Any, Any], path: Keys = ()) -> Iterator[tuple[Keys, Tensor]]:
    """Yield the tensors of a state dict with their paths."""
    for name, value in state.items():
        if isinstance(value, Tensor):
            yield (*path, name), value
        elif isinstance(value, Mapping):
            yield from tensors_in(value, (*path, name))


@torch.no_grad()
def _copy(tensors: Mapping[Keys, Tensor], to: Mapping[Keys, Tensor]) -> None:
    # In one call if all are of one dtype, else one by one: batch normalisation's counters are
    # whole numbers.
    by_dtype = sorted(tensors, key=lambda path: str(tensors[path].dtype))
    for _, group in groupby(by_dtype, key=lambda path: tensors[path].dtype):
        paths = list(group)
        torch._foreach_copy_([to[p] for p in paths], [tensors[p] for p in paths])


def _replaced(
    state: Mapping[Any, Any], tensors: Mapping[Keys, Tensor], path: Keys = ()
) -> dict[Any, Any]:
    """Return a state dict with other tensors, and copies of all else."""
    copy: dict[Any, Any] = {}
    for name, value in state.items():
        place = (*path, name)
        if place in tensors:
            copy[name] = tensors[place]
        elif isinstance(value, Mapping):
            copy[name] = _replaced(value, tensors, place)
        else:
            copy[name] = deepcopy(value)
    return copy
