"""Runs and predictions as functions: what `trainer run` and `trainer predict` do.

The commands and the functions share every step, so both give bit-identical runs. Options are
declared in `trainer.config`, once for both.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from featurestore import StoredDataset, open_store
from featurestore.arguments import typed
from featurestore.bars import SilentTerminal, progress_bars
from featurestore.terminal import Label, Terminal
from featurestore.text import from_json_text, json_text
from schemas import CheckpointName, Prediction, Predictions, RunResult, UnusedFile
from trainer.config import (
    ExecutionOptions,
    Place,
    ResumeOptions,
    RunOptions,
    TrainingOptions,
    checked,
    part,
    taking,
)
from trainer.console import ProgressView, print_plan, print_result
from trainer.data.split import split_folds
from trainer.errors import ConfigError, TrainerWarning
from trainer.inference.predict import audio_files, load_network, open_run
from trainer.inference.predict import predict as predict_files
from trainer.plan import Plan, plan_run
from trainer.records.finished import FinishedRun, open_finished
from trainer.records.rundir import RESULT, RunDirectory, check_free, default_out
from trainer.run import Known, begin, check_store
from trainer.run import resume as carry_on
from trainer.selection import other_images
from trainer.tracking import Tracking, tracking_to
from trainer.training.device import computing_on, resolve_device
from trainer.training.events import Notify

_THRESHOLD = 0.5


@taking(RunOptions)
@typed
def train(store: StoredDataset | Place, **settings: Any) -> FinishedRun:  # noqa: ANN401
    """Train a method's whole schedule for each held-out fold, as `trainer run` does.

    Args:
        store: A dataset from `featurestore.open_store`, or path or URL of a store.
        settings: OPTIONS

    Returns:
        The finished run: `accuracies`, `mean`, `std`, `path`, `to_pandas()`.

    Raises:
        ConfigError: An option is invalid, or the device is not available.
        DataError: The store's clips cannot be split into training and test sets.
        TrainerError: See `trainer.errors`: the directory is in use, a loss is not finite, …
        featurestore.errors.StoreError: The store is unfinished, damaged, or lacks an array.
        KeyboardInterrupt: The run was stopped; `resume` continues from its last epoch.
    """
    options = checked(RunOptions, "train", settings)
    training, execution = part(TrainingOptions, options), part(ExecutionOptions, options)
    stored = _opened(store, options.dataset)
    planned = plan_new(stored, training, execution, options.out)
    return train_new(_console(options.progress), stored, *planned, options.mlflow)


@taking(ResumeOptions)
@typed
def resume(run: Place, **settings: Any) -> FinishedRun:  # noqa: ANN401
    """Resume a stopped run with its own settings, as `trainer run --resume` does.

    A finished run is verified and returned. On the same device, networks and metrics are
    bit-identical to those of a run that was never stopped.

    Args:
        run: Directory of the run.
        settings: OPTIONS

    Raises:
        ResumeError: The store or the file of the initial weights is not that of the run.
        TrainerError: See `train`; or a record is damaged.
    """
    options = checked(ResumeOptions, "resume", settings)
    console, execution = _console(options.progress), part(ExecutionOptions, options)
    return train_rest(console, Path(run), options.store, execution, options.mlflow)


@typed
def predict(
    run: FinishedRun | Place,
    files: Place | Iterable[Place],
    *,
    folds: Sequence[int] = (),
    checkpoint: CheckpointName | None = None,
    device: str = "auto",
    progress: bool = True,
    threshold: float | None = None,
) -> Predictions:
    """Classify audio files with a run's trained networks, as `trainer predict` does.

    Args:
        run: A finished run, or its directory.
        files: Audio files, or directories of them.
        folds: Use the networks that held these folds out, and average their probabilities. Default:
            all networks of the run.
        checkpoint: `best` or `last`: networks of the best or of the last epoch. Default: best, or
            last if none was picked.
        device: auto, cpu, cuda or cuda:N.
        progress: Whether to show a bar, and unusable files. If False, a warning is issued for each
            unusable file.
        threshold: Minimum probability of a label, in [0, 1], if clips may have several labels; 0.5
            by default.

    Returns:
        `predictions`, in the order of the files, and `unused`: the unusable files, with reasons.

    Raises:
        ConfigError: The threshold is out of range, or clips have one class each.
        TrainedRunError: The run is unfinished or damaged, or its features are those of another
            version.
        CheckpointError: A network is missing or damaged.
        AudioInputError: A directory contains no audio.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(f"threshold {threshold}: expected a number from 0 to 1")
    trained = open_run(Path(run.path if isinstance(run, FinishedRun) else run))
    paths = [files] if isinstance(files, str | os.PathLike) else files
    sounds = list(map(Path, paths))
    return classify(_console(progress), trained, sounds, folds, checkpoint, device, threshold)


def classify(
    console: Terminal,
    trained: FinishedRun,
    paths: Sequence[Path],
    folds: Sequence[int],
    checkpoint: CheckpointName | None,
    device: str,
    threshold: float | None,
) -> Predictions:
    """Return a run's predictions for audio files, and show a bar and unusable files.

    See `predict`; `console` is for the bar.
    """
    several = trained.config.task == "multilabel"
    if threshold is not None and not several:
        raise ConfigError(
            f"threshold {threshold:g}: clips of {trained.path} have one class each, and the "
            "likeliest one is predicted; leave --threshold out"
        )
    least = _THRESHOLD if threshold is None else threshold
    chosen, on = trained.chosen(folds), resolve_device(device)
    checkpoint = checkpoint or trained.checkpoints[0]
    unlike = other_images(trained.result, checkpoint, chosen)
    warnings = tuple(filter(None, (trained.warning, unlike)))
    for warning in warnings:
        console.warn(warning)
    files = audio_files(paths, console.say)
    with computing_on(on):
        networks = [load_network(trained, fold, checkpoint, on) for fold in chosen]
    columns = Label(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    results = []
    with computing_on(on), progress_bars(console, *columns, transient=True) as bars:
        task = bars.add_task("predicting", total=len(files))
        for result in predict_files(trained.record, networks, files, least):
            if isinstance(result, UnusedFile):
                console.warn(f"{result.path}: {result.reason}")
            results.append(result)
            bars.advance(task)
    return Predictions(
        run=json_text(trained.path),
        fingerprint=trained.record.fingerprint,
        checkpoint=checkpoint,
        folds=chosen,
        predictions=tuple(r for r in results if isinstance(r, Prediction)),
        unused=tuple(r for r in results if isinstance(r, UnusedFile)),
        threshold=least if several else None,
        warnings=warnings,
    )


def plan_new(
    stored: StoredDataset, training: TrainingOptions, execution: ExecutionOptions, out: Place | None
) -> tuple[Plan, Path, ExecutionOptions]:
    """Return plan, directory and execution options of a new run, without writing anything.

    Raises:
        TrainerError: The run is not possible, or the directory is in use.
    """
    plan = plan_run(stored, training, execution.folds_at_once)
    place = default_out(plan.config) if out is None else Path(out)
    check_free(place)
    return plan, place, execution.for_folds(len(plan.config.folds))


def train_new(
    console: Terminal,
    stored: StoredDataset,
    plan: Plan,
    out: Path,
    execution: ExecutionOptions,
    mlflow: str | None,
) -> FinishedRun:
    """Train a run planned by `plan_new`."""
    with tracking_to(mlflow, console.warn) as tracking:
        print_plan(console, stored, plan.config, execution.folds_at_once)
        carry_out(
            *(console, stored, plan, out, execution, tracking),
            start=lambda notify: begin(stored, plan, out, notify, execution),
        )
    return open_finished(out)


def train_rest(
    console: Terminal,
    out: Path,
    store: Place | None,
    execution: ExecutionOptions,
    mlflow: str | None,
) -> FinishedRun:
    """Train the rest of a run with its own settings; see `resume`."""
    with tracking_to(mlflow, console.warn) as tracking:
        if not (out / RESULT).exists():
            record = RunDirectory(out).record()
            resolve_device(record.config.device)  # which may be absent here
            place = from_json_text(record.store) if store is None else os.fspath(store)
            stored = open_store(place, record.config.dataset)
            plan = Plan(record.config, split_folds(stored, record.config))
            print_plan(console, stored, plan.config, execution.folds_at_once, started=True)
            carry_out(console, stored, plan, out, execution, tracking)
            return open_finished(out)
        finished = open_finished(out)
        finished.verify()
        if store is not None:
            stored = open_store(os.fspath(store), finished.config.dataset)
            check_store(stored, out, finished.record)
        for text in filter(None, (finished.warning, *finished.partial)):
            console.warn(text)
        console.say(f"{out} is finished")
        print_result(console, finished.result)
        if tracking:
            tracking.changed(out)
    return finished


def carry_out(
    console: Terminal,
    stored: StoredDataset,
    plan: Plan,
    out: Path,
    execution: ExecutionOptions,
    tracking: Tracking | None = None,
    *,
    start: Callable[[Notify], Known] | None = None,
) -> RunResult | None:
    """Train the rest of a run with progress and logging; `start` creates it first if it is new."""
    shapes = {stage.array: stored.shape(stage.array) for stage in plan.config.stages}
    points = {array: bands * frames for array, (bands, frames) in shapes.items()}
    view: AbstractContextManager[Notify]
    view = ProgressView(console, plan.config, plan.num_train, plan.num_valid, points)
    try:
        with view as notify:
            # Before a first run the initial weights are downloaded: the view shows that, too.
            known = start(notify) if start else Known(plan.splits)
            watching = tracking.watching(out, notify) if tracking else nullcontext(notify)
            with watching as watcher:
                result = carry_on(stored, out, watcher, execution, known=known)
    except KeyboardInterrupt as stop:
        if RunDirectory(out).started:
            stop.add_note(
                f"{out} keeps the epochs and networks so far; --resume {out} resumes it, and so "
                f"does trainer.resume({str(out)!r})"
            )
        raise
    if result:
        print_result(console, result)
    console.say(f"Run: {out}")
    return result


def _console(progress: bool) -> Terminal:
    return Terminal(stderr=True) if progress else SilentTerminal(TrainerWarning)


def _opened(store: StoredDataset | Place, dataset: str | None) -> StoredDataset:
    if not isinstance(store, StoredDataset):
        return open_store(os.fspath(store), dataset)
    if dataset not in (None, store.name):
        raise ConfigError(f"dataset {dataset!r}: the store that is given is open for {store.name}")
    if store.manifest.state != "complete":  # it may be by now; else this says what to do
        return open_store(store.path, store.name)
    return store
