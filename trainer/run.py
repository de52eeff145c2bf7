"""A whole run: every held-out fold, and its records on disk. New, or from where it stopped."""

import platform
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from featurestore import StoredDataset
from schemas import FoldResult, Reading, RunRecord, RunResult
from trainer.data.arrays import SharedArrays
from trainer.data.placement import PlacementChoice, choose_placements
from trainer.errors import ResumeError
from trainer.plan import Plan
from trainer.records.rundir import RunDirectory, check_free, place
from trainer.threads import computing_threads
from trainer.training.curves import Curves
from trainer.training.device import device_title, repeatable
from trainer.training.events import (
    EpochDone,
    Event,
    Notify,
    RunStarted,
    Warned,
    WeightsComing,
    ignore,
)
from trainer.training.fold import Job
from trainer.training.folds import train_folds
from trainer.training.state_saver import SAVE_EVERY_S
from trainer.weights import InitialWeights, initial_weights

_OF_RESULT = set(RunResult.model_fields)
_LIBRARIES = ("featurestore", "numpy", "torch", "torchvision")


@dataclass(frozen=True)
class Manner:
    """How a run is carried out; it changes no number.

    Args:
        reading: Where the data shall lie.
        folds_at_once: How many train at a time.
        save_every_s: Seconds between two states of a fold on disk.
    """

    reading: PlacementChoice = "auto"
    folds_at_once: int = 1
    save_every_s: float = SAVE_EVERY_S

    def for_folds(self, num_folds: int) -> "Manner":
        """The same with no more folds at once than there are."""
        return replace(self, folds_at_once=min(self.folds_at_once, num_folds))


def run(
    dataset: StoredDataset,
    plan: Plan,
    out: Path,
    notify: Notify = ignore,
    manner: Manner | None = None,
) -> RunResult:
    """Train for every fold of the plan.

    Args:
        dataset: What the plan was made for.
        plan: From `trainer.plan.plan_run`.
        out: The run's directory: run.json, TensorBoard events, a directory a fold with its
            metrics, networks and answers, and, at the end, result.json.
        notify: Told what happens.
        manner: How to go about it.

    Raises:
        TrainerError: `out` is taken or cannot be written, the initial weights cannot be had, or
            a loss is not finite.
        featurestore.errors.StoreError: The store is damaged.
    """
    begin(dataset, plan, out, notify, manner)
    result = resume(dataset, out, notify, manner)
    assert result is not None, "every fold was trained"  # noqa: S101
    return result


def begin(
    dataset: StoredDataset,
    plan: Plan,
    out: Path,
    notify: Notify = ignore,
    manner: Manner | None = None,
) -> None:
    """Write the record of a run, which `resume` then carries out; see `run`."""
    check_free(out)
    weights = _weights(plan.config.init, plan.config.arch, notify)
    record = _record(dataset, plan, weights, manner or Manner())
    RunDirectory(out).write_record(record)


def resume(
    dataset: StoredDataset,
    out: Path,
    notify: Notify = ignore,
    manner: Manner | None = None,
    folds: Sequence[int] = (),
) -> RunResult | None:
    """Go on with a run that was stopped in whatever way; one that is finished is left as it is.

    On the same device the networks and metrics are, to the bit, those of a run never stopped.

    Args:
        dataset: The run's, wherever its store lies now.
        out: The run's directory.
        notify: Told what happens.
        manner: How to go about it; may be another than before.
        folds: To be trained for now, some of the run's; all by default.

    Returns:
        The run's outcome; None where other folds of it are not finished.

    Raises:
        ResumeError: The store is another one, or the file of the initial weights is.
        TrainerError: See `run`; or a record is damaged.
    """
    directory = RunDirectory(out)
    if result := directory.result():
        return result
    record = directory.record()
    if record.fingerprint != dataset.fingerprint:
        raise ResumeError(
            f"{out}: was trained on a store of fingerprint {record.fingerprint[:12]}, and "
            f"{dataset.path} has {dataset.fingerprint[:12]}: other features or clips; give the "
            "run's own store, or train anew with another --out"
        )
    weights = _same_weights(out, record, notify)
    return _train(dataset, record, weights, directory, notify, manner or Manner(), folds)


def _weights(init: str, arch: str, notify: Notify) -> InitialWeights:
    return initial_weights(init, arch, lambda progress: notify(WeightsComing(progress)))


def _same_weights(out: Path, record: RunRecord, notify: Notify) -> InitialWeights:
    """The initial weights that the run was begun with."""
    init = record.config.init if record.init_used == "file" else record.init_used
    weights = _weights(init, record.config.arch, notify)
    if record.init_sha256 not in (None, weights.sha256):
        raise ResumeError(
            f"{out}: the initial weights ({init}) are not those it was begun with: SHA-256 "
            f"{str(weights.sha256)[:12]}, not {record.init_sha256[:12]}; put that file back, or "
            "train anew with another --out"
        )
    return weights


def _train(
    dataset: StoredDataset,
    record: RunRecord,
    weights: InitialWeights,
    directory: RunDirectory,
    notify: Notify,
    manner: Manner,
    folds: Sequence[int] = (),
) -> RunResult | None:
    readings = _readings(dataset, record, manner)
    notify(RunStarted(record.model_copy(update={"readings": readings})))
    device, threads = torch.device(record.config.device), record.config.threads
    with Curves(directory.path) as curves, repeatable(device), computing_threads(threads):
        arrays = SharedArrays(dataset, record.config, readings)
        job = Job(
            dataset,
            record,
            arrays,
            weights.state,
            _Recorder(curves, notify),
            manner.save_every_s,
            tuple(_changes(record)),
        )
        train_folds(job, directory.fold, manner.folds_at_once, folds or record.config.folds)
    return finish(directory)


def finish(directory: RunDirectory) -> RunResult | None:
    """The result of a run whose folds are all finished, written if it was not; else None.

    Whichever processes trained them: each fold has the warnings that were met for it.
    """
    if result := directory.result():
        return result
    record = directory.record()
    folds: list[FoldResult] = []
    for fold in record.config.folds:
        found = directory.fold(fold).result()
        if found is None:
            return None
        folds.append(found)
    met = (record.warnings, *(fold.warnings for fold in folds))
    warnings = dict.fromkeys(warning for some in met for warning in some)
    known = record.model_dump(include=_OF_RESULT) | {"warnings": tuple(warnings)}
    result = RunResult(folds=tuple(folds), **known)
    directory.write_result(result)
    return result


class _Recorder:
    """Draws each epoch's curves, then passes the event on, a warning once.

    Folds in several threads take turns.
    """

    def __init__(self, curves: Curves, notify: Notify) -> None:
        self._warnings: set[str] = set()
        self._curves, self._notify = curves, notify
        self._turn = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._turn:
            match event:
                case EpochDone(metrics):
                    self._curves.add(metrics)
                case Warned(message):
                    if message in self._warnings:
                        return
                    self._warnings.add(message)
            self._notify(event)


def _record(
    dataset: StoredDataset, plan: Plan, weights: InitialWeights, manner: Manner
) -> RunRecord:
    record = RunRecord(
        config=plan.config,
        fingerprint=dataset.fingerprint,
        store=place(dataset),
        features=dataset.manifest.spec,
        extractor_version=dataset.manifest.extractor_version,
        class_names=dataset.class_names,
        versions=_versions(),
        device_name=device_title(torch.device(plan.config.device)),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        init_used=weights.used,
        init_sha256=weights.sha256,
        warnings=(*plan.warnings, *([weights.warning] if weights.warning else [])),
        folds_at_once=manner.folds_at_once,
    )
    return record.model_copy(update={"readings": _readings(dataset, record, manner)})


def _changes(record: RunRecord) -> Iterator[str]:
    """What is not as it was when the run was begun, and may change the last bits."""
    now = _versions() | {"device": device_title(torch.device(record.config.device))}
    before = record.versions | {"device": record.device_name}
    found = [f"{n} {now[n]} ({before[n]} then)" for n in now if before.get(n, now[n]) != now[n]]
    if found:
        yield (
            f"this run was begun otherwise, and may not end with the same bits: {', '.join(found)}"
        )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: _version(name) for name in _LIBRARIES}


def _readings(dataset: StoredDataset, record: RunRecord, manner: Manner) -> dict[str, Reading]:
    stages = record.config.stages
    arrays = dict.fromkeys(a for stage in stages for a in (stage.array, stage.alternate) if a)
    a_fold = 2 if any(stage.alternate for stage in stages) else 1
    held = min(manner.folds_at_once * a_fold, len(arrays))
    device = torch.device(record.config.device)
    return choose_placements(dataset, tuple(arrays), device, manner.reading, held)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # run from a checkout
        return "not installed"
