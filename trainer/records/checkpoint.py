"""A network in copies and on disk, with what is needed to know what it is and to use it."""

import io
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from schemas import EpochMetrics, FeatureSpec, RunConfig, RunRecord
from trainer import safefiles
from trainer.errors import CheckpointError, RunDirectoryError, differing, in_a_line

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
        accuracy: Its `EpochMetrics.score`, in [0, 1]; mean average precision with several labels.
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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {what.format(in_a_line(error))}") from error


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
    data = safefiles.with_comment(buffer)
    safefiles.replace_file(path, data)
    return safefiles.file_digest(data)


def load_values(data: bytes) -> Any:  # noqa: ANN401 - a file may hold anything
    """Read what `save_values` wrote, or an older version without a digest.

    Raises:
        ValueError: It is damaged, or no such file.
    """
    safefiles.check_comment(data)
    return safefiles.read_tensors(data)


@dataclass(frozen=True)
class StageState:
    """A stage in progress.

    Args:
        step: Steps taken of its 1cycle.
        optimizer: The optimiser's state dict; never changed again.
    """

    step: int
    optimizer: Mapping[str, Any]


@dataclass(frozen=True)
class FoldState:
    """A fold after an epoch.

    Args:
        last: The network now.
        best: The one that is reported, see `trainer.selection`; None if there is none yet.
        carried: The one that the next stage starts from; this or one of the others.
        stage: The stage of the last epoch.
        epochs: All so far.
        seconds: Spent so far.
        warnings: Met so far.
        moments: The optimiser's state after the epoch of `carried`; None if stages start without.
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
        """All state dicts of networks and optimisers in it."""
        networks = tuple(one.model for one in (self.last, self.best, self.carried) if one)
        return (*networks, self.stage.optimizer, self.moments or {})


def save_state(path: Path, state: FoldState) -> None:
    """Write a fold's state, whole or not at all.

    Raises:
        RunDirectoryError: It cannot be written.
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
    """Read a fold's state to the host, without running code in it.

    Raises:
        CheckpointError: It is damaged, or no state of ours.
    """
    what = "is no state of an unfinished fold, or is damaged ({}); remove it, and it starts over"
    with _described(path, what):
        values = cast("dict[str, Any]", load_values(safefiles.read_file(path, MOST_BYTES)))
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
            stage=StageState(values["step"], values["optimizer"]),
            epochs=tuple(epochs),
            seconds=values["seconds"],
            warnings=tuple(values.get("warnings", ())),
            moments=values.get("moments"),
        )


def check_is_of(path: Path, checkpoint: Checkpoint, record: RunRecord, fold: int) -> None:
    """Refuse a network of another fold, store or config.

    Raises:
        CheckpointError: With every field that differs.
    """
    names = ("fingerprint", "class_names", "features", "extractor_version")
    own = {name: getattr(checkpoint, name) for name in ("fold", *names)}
    # Older versions did not write the features and the extractor.
    own = {name: value for name, value in own.items() if value is not None}
    of_run = {name: getattr(record, name) for name in names} | {"fold": fold}
    if problems := differing(dict(checkpoint.config) | own, dict(record.config) | of_run):
        raise CheckpointError(f"{path}: is not of this run, it differs in: {', '.join(problems)}")


Keys = tuple[Any, ...]
"""Keys that lead to a tensor in a state dict."""


class Snapshots:
    """Copies of a state dict, which is the same at each call but for what its tensors hold.

    After every epoch the network and the optimiser's state are copied, some 600 tensors. A clone of
    each would take a GPU longer than a short epoch's steps; here one call copies all of a dtype.
    """

    def __init__(self) -> None:
        self._buffers: list[dict[Keys, Tensor]] = []

    def take(self, state: Mapping[Any, Any], in_use: Collection[int] = ()) -> dict[Any, Any]:
        """Return a deep copy of a state dict.

        Args:
            state: Tensors and plain values, also in dictionaries within.
            in_use: `id` of each tensor of earlier copies that must stay as it is; the memory of
                others is used again.
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
