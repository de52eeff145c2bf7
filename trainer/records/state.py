"""All that the rest of a fold's schedule depends on, after an epoch: what resuming needs.

Random streams and the order of the data are functions of the seed, the fold and the epoch
(`trainer.seeds`), so the epoch's number is their state.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from schemas import EpochMetrics, RunRecord
from trainer.errors import CheckpointError, RunDirectoryError
from trainer.files import read_file
from trainer.problems import differing, in_a_line
from trainer.records.checkpoint import (
    MOST_BYTES,
    Checkpoint,
    from_values,
    load_values,
    save_values,
    to_values,
)


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
        best: The one that each stage begins with; None if none is picked.
        stage: The stage of the last epoch.
        epochs: All so far.
        seconds: Spent so far.
        warnings: Met so far.
    """

    last: Checkpoint
    best: Checkpoint | None
    stage: StageState
    epochs: tuple[EpochMetrics, ...]
    seconds: float
    warnings: tuple[str, ...] = ()


def save_state(path: Path, state: FoldState) -> None:
    """Write a fold's state, whole or not at all.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    best = to_values(state.best) if state.best and state.best is not state.last else None
    values = {
        "last": to_values(state.last),
        "best": best,
        "has_best": state.best is not None,
        "step": state.stage.step,
        "optimizer": state.stage.optimizer,
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
    try:
        values = cast("dict[str, Any]", load_values(read_file(path, MOST_BYTES)))
        last = from_values(values["last"])
        best = from_values(values["best"]) if values["best"] else last
        epochs = [EpochMetrics.model_validate(epoch) for epoch in json.loads(values["epochs"])]
        return FoldState(
            last=last,
            best=best if values["has_best"] else None,
            stage=StageState(values["step"], values["optimizer"]),
            epochs=tuple(epochs),
            seconds=values["seconds"],
            warnings=tuple(values.get("warnings", ())),
        )
    except RunDirectoryError as error:
        raise CheckpointError(str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: is no state of an unfinished fold, or is damaged ({in_a_line(error)}); "
            "remove it, and the fold starts over"
        ) from error


def check_is_of(path: Path, checkpoint: Checkpoint, record: RunRecord, fold: int) -> None:
    """Refuse a network of another fold, store or config.

    Raises:
        CheckpointError: With every field that differs.
    """
    found = _identity(checkpoint.config, checkpoint.fingerprint, checkpoint.class_names)
    wanted = _identity(record.config, record.fingerprint, record.class_names)
    found["fold"], wanted["fold"] = checkpoint.fold, fold
    for name in ("features", "extractor_version"):  # which older versions did not write
        if (value := getattr(checkpoint, name)) is not None:
            found[name], wanted[name] = value, getattr(record, name)
    if problems := differing(found, wanted):
        raise CheckpointError(f"{path}: is not of this run, it differs in: {', '.join(problems)}")


def _identity(config: Any, fingerprint: str, class_names: tuple[str, ...]) -> dict[str, object]:  # noqa: ANN401
    return {**vars(config), "fingerprint": fingerprint, "class_names": class_names}
