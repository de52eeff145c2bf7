"""Training of a whole run: all held-out folds, and the records on disk; new or resumed."""

import platform
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from featurestore import StoredDataset
from featurestore.text import json_text
from schemas import FoldResult, Placement, RangeTest, RunConfig, RunRecord, RunResult
from trainer.config import ExecutionOptions
from trainer.data.arrays import SharedArrays, choose_placements
from trainer.data.split import FoldSplit, split_fold
from trainer.errors import ResumeError, differing
from trainer.plan import Plan
from trainer.recipes import with_rates
from trainer.records.finished import check_finished, open_finished, plain
from trainer.records.rundir import FOLD_RESULT, RECORD, RESULT, RunDirectory, check_free
from trainer.safefiles import RESTORE, digest_of, sealed
from trainer.threads import computing_threads
from trainer.training import events
from trainer.training.curves import Curves
from trainer.training.device import changes, computing_on, device_title, versions
from trainer.training.fold import Job
from trainer.training.folds import train_folds
from trainer.training.lr_find import NUM_STEPS, measure_rates
from trainer.training.schedule import Sweep
from trainer.weights import InitialWeights, initial_weights

_OF_RESULT = set(RunResult.model_fields)


@dataclass(frozen=True)
class Known:
    """Facts about a run that this process knows already, so that nothing is read or measured twice.

    Args:
        splits: Split by held-out fold.
        weights: Initial weights.
        placements: Placement of each array's data.
    """

    splits: Mapping[int, FoldSplit]
    weights: InitialWeights | None = None
    placements: Mapping[str, Placement] | None = None


def run(
    dataset: StoredDataset,
    plan: Plan,
    out: Path,
    notify: events.Notify = events.ignore,
    execution: ExecutionOptions | None = None,
) -> RunResult:
    """Train all folds of a plan.

    Args:
        dataset: Dataset of the plan.
        plan: Result of `trainer.plan.plan_run`.
        out: Directory of the run, for run.json, TensorBoard events, a directory per fold with
            metrics, networks and predictions, and, at the end, result.json.
        notify: Called with each event.
        execution: Execution options.

    Raises:
        TrainerError: `out` is in use or cannot be written, the initial weights are unavailable, or
            a loss is not finite.
        featurestore.errors.StoreError: The store is damaged.
    """
    known = begin(dataset, plan, out, notify, execution)
    result = resume(dataset, out, notify, execution, known=known)
    assert result is not None, "every fold was trained"  # noqa: S101
    return result


def begin(
    dataset: StoredDataset,
    plan: Plan,
    out: Path,
    notify: events.Notify = events.ignore,
    execution: ExecutionOptions | None = None,
    init_sha256: str | None = None,
) -> Known:
    """Write the record of a run, for training with `resume`; see `run`.

    With `init_sha256`, the file of the initial weights must have this digest.

    Returns:
        Facts to pass to `resume` in this process.
    """
    check_free(out)
    weights = _weights(plan.config.init, plan.config.arch, notify)
    if init_sha256 not in (None, weights.sha256):
        raise ResumeError(
            f"{plan.config.init}: is another file on {platform.node()}: SHA-256 "
            f"{str(weights.sha256)[:12]}, not {str(init_sha256)[:12]}; put the same file there"
        )
    execution, config = execution or ExecutionOptions(), plan.config
    placements = _place_arrays(dataset, config, execution)
    tests: tuple[RangeTest, ...] = ()
    if config.max_lr_from == "measured":
        tests = measure_rates(
            *(dataset, config, weights, placements),
            lambda *done: notify(events.RatesComing(*done)),
            Sweep(NUM_STEPS, end=plan.sweep_end),
        )
        rates = {number: test.max_lr for test in tests for number in test.stages}
        stages = with_rates(config.stages, [rate for _, rate in sorted(rates.items())])
        config = config.model_copy(update={"stages": stages})
    record = RunRecord(
        config=config,
        fingerprint=dataset.fingerprint,
        store=json_text(dataset.path),
        features=dataset.manifest.spec,
        extractor_version=dataset.manifest.extractor_version,
        class_names=dataset.class_names,
        versions=versions(config.arch, dataset.manifest.libraries.items()),
        device_name=device_title(torch.device(config.device)),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        init_used=weights.used,
        init_sha256=weights.sha256,
        warnings=(*plan.warnings, *filter(None, (weights.warning, _frozen_noise(config, weights)))),
        folds_at_once=execution.folds_at_once,
        placements=placements,
        range_tests=tests,
    )
    RunDirectory(out).create_record(record)
    return Known(plan.splits, weights, placements)


def _frozen_noise(config: RunConfig, weights: InitialWeights) -> str | None:
    """Return a warning if a layer that is never trained has random weights."""
    if config.first_conv != "red-frozen" or weights.state is not None:
        return None
    return (
        "the first convolution is frozen (red-frozen) and its weights are random, so it is never "
        "more than noise: give weights with --init, or take --first-conv sum"
    )


def resume(
    dataset: StoredDataset,
    out: Path,
    notify: events.Notify = events.ignore,
    execution: ExecutionOptions | None = None,
    folds: Sequence[int] = (),
    known: Known | None = None,
) -> RunResult | None:
    """Resume a run, however it was stopped; a finished one is not changed.

    On the same device, networks and metrics are bit-identical to those of an uninterrupted run.

    Args:
        dataset: Dataset of the run, whose store may have been moved.
        out: Directory of the run.
        notify: Called with each event.
        execution: Execution options, which may differ from before.
        folds: Folds of the run to train now; all by default.
        known: Result of `begin` in the same process.

    Returns:
        The run's result; None if other folds are not finished.

    Raises:
        ResumeError: The store or the file of the initial weights is not that of the run.
        TrainerError: See `run`; or a record is damaged.
    """
    directory = RunDirectory(out)
    record = directory.record()
    # Also of a finished run: a sweep would report it as one on the store that is given.
    check_store(dataset, out, record)
    if (out / RESULT).exists():
        return open_finished(out).result
    with nullcontext() if folds else directory.locked():
        folds, execution = folds or record.config.folds, execution or ExecutionOptions()
        job = _job(dataset, directory, known, notify, execution, folds)
        return _train(job, directory, execution.folds_at_once, folds)


def check_store(dataset: StoredDataset, out: Path, record: RunRecord) -> None:
    """Check that a dataset is the one that a run is trained on.

    Raises:
        ResumeError: It has other features or clips, or the record is wrong about it.
    """
    if record.fingerprint != dataset.fingerprint:
        raise ResumeError(
            f"{out}: was trained on a store of fingerprint {record.fingerprint[:12]}, and "
            f"{dataset.path} has {dataset.fingerprint[:12]}: other features or clips; give the "
            "run's own store, or start a new run with another --out"
        )
    # What the record says wrongly of its store would be found too late.
    of_store = {
        "features": dataset.manifest.spec,
        "extractor_version": dataset.manifest.extractor_version,
        "class_names": dataset.class_names,
    }
    if problems := differing(of_store, dict(record)):
        raise ResumeError(
            f"{out / RECORD}: is not of the store that it names, which differs in: "
            f"{', '.join(problems)}; {RESTORE}"
        )


def _weights(init: str, arch: str, notify: events.Notify) -> InitialWeights:
    return initial_weights(init, arch, lambda progress: notify(events.WeightsComing(progress)))


def _same_weights(out: Path, record: RunRecord, notify: events.Notify) -> InitialWeights:
    """Return the initial weights that the run was started with."""
    # `imagenet` asks for what timm publishes where the network is timm's.
    init = {"file": record.config.init, "timm": "imagenet"}.get(record.init_used, record.init_used)
    weights = _weights(init, record.config.arch, notify)
    if record.init_sha256 not in (None, weights.sha256):
        raise ResumeError(
            f"{out}: the initial weights ({init}) are not those it started with: SHA-256 "
            f"{str(weights.sha256)[:12]}, not {record.init_sha256[:12]}; put that file back, or "
            "start a new run with another --out"
        )
    return weights


def _job(
    dataset: StoredDataset,
    directory: RunDirectory,
    known: Known | None,
    notify: events.Notify,
    execution: ExecutionOptions,
    folds: Sequence[int],
) -> Job:
    """Return what these folds share; only what is not known is read or measured."""
    record = directory.digested_record()
    splits = known.splits if known else {f: split_fold(dataset, record.config, f) for f in folds}
    weights = (known and known.weights) or _same_weights(directory.path, record, notify)
    placements = (known and known.placements) or _place_arrays(dataset, record.config, execution)
    return Job(
        dataset=dataset,
        record=record.model_copy(update={"placements": dict(placements)}),
        arrays=SharedArrays(dataset, record.config, placements),
        splits=splits,
        body_state=weights.state,
        notify=notify,
        save_every_s=execution.save_every_s,
        warnings=tuple(changes(directory.path, directory.record())),
    )


def _train(
    job: Job, directory: RunDirectory, folds_at_once: int, folds: Sequence[int]
) -> RunResult | None:
    job.notify(events.RunStarted(job.record))
    device, threads = torch.device(job.config.device), job.config.threads
    with Curves(directory.path) as curves, computing_on(device), computing_threads(threads):
        recorded = replace(job, notify=_recording(curves, job.notify))
        train_folds(recorded, directory.fold, folds_at_once, folds)
    return finish(directory, job.record.placements)


def finish(
    directory: RunDirectory, placements: Mapping[str, Placement] | None = None
) -> RunResult | None:
    """Return the result of a run, written first if necessary; None if folds are unfinished.

    Folds may have been trained by different processes; each fold's record has its warnings.

    Args:
        directory: Directory of the run.
        placements: Placement of the data for the last fold; as recorded by default.

    Raises:
        RunDirectoryError: A record is damaged, or a fold was trained for another run.
        TrainedRunError: An existing result contradicts the run.
    """
    if (directory.path / RESULT).exists():
        return open_finished(directory.path).result
    record = directory.digested_record()
    folds: list[FoldResult] = []
    digests = {RECORD: record.sha256}
    for fold in record.config.folds:
        done = directory.fold(fold).result()
        if done is None:
            return None
        folds.append(plain(done))
        name = f"fold{fold}/{FOLD_RESULT}"
        digests[name] = digest_of(directory.path / name, done)
    met = (record.warnings, *(fold.warnings for fold in folds))
    warnings = dict.fromkeys(warning for some in met for warning in some)
    known = record.model_dump(include=_OF_RESULT - {"sha256"})
    known |= {"warnings": tuple(warnings), "digests": digests}
    if placements is not None:
        known |= {"placements": dict(placements)}
    result = sealed(RunResult(folds=tuple(folds), **known))
    check_finished(directory, record, result)
    return directory.write_result(result)


def _recording(curves: Curves, notify: events.Notify) -> events.Notify:
    """Return what draws each epoch's curves, then passes the event on, a warning once.

    Folds in several threads take turns.
    """
    turn, warned = threading.Lock(), set[str]()

    def record(event: events.Event) -> None:
        with turn:
            if isinstance(event, events.EpochDone):
                curves.add(event.metrics)
            if isinstance(event, events.Warned):
                if event.message in warned:
                    return
                warned.add(event.message)
            notify(event)

    return record


def _place_arrays(
    dataset: StoredDataset, config: RunConfig, execution: ExecutionOptions
) -> dict[str, Placement]:
    stages = config.stages
    arrays = dict.fromkeys(a for stage in stages for a in (stage.array, stage.alternate) if a)
    a_fold = 2 if any(stage.alternate for stage in stages) else 1
    held = min(execution.folds_at_once * a_fold, len(arrays))
    device = torch.device(config.device)
    return choose_placements(dataset, tuple(arrays), device, execution.placement, held)
