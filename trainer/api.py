"""Runs and predictions as functions: what `trainer run` and `trainer predict` do.

The commands and the functions share each step, so a run is the same to the bit whichever started
it. Options are declared in `trainer.config`, once for both.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from trainer.run import Known, begin
from trainer.run import resume as carry_on
from trainer.tracking import Tracking, tracking_to
from trainer.training.device import repeatable, resolve_device
from trainer.training.events import Notify


@taking(RunOptions)
@typed
def train(store: StoredDataset | Place, **settings: Any) -> FinishedRun:  # noqa: ANN401
    """Train a method's whole schedule for each held-out fold; the same as `trainer run`.

    Args:
        store: A store, or its path or URL.
        settings: OPTIONS

    Returns:
        The finished run: `accuracies`, `mean`, `std`, `path`, `to_pandas()`.

    Raises:
        ConfigError: An option is impossible, or the device is absent.
        DataError: The store's clips do not make training and test sets.
        TrainerError: See `trainer.errors`: the directory is taken, a loss is not finite, …
        featurestore.errors.StoreError: The store is unfinished, damaged, or lacks an array.
        KeyboardInterrupt: As usual; `resume` resumes the run from its last epoch.
    """
    options = checked(RunOptions, "train", settings)
    training, execution = part(TrainingOptions, options), part(ExecutionOptions, options)
    stored = _opened(store, options.dataset)
    planned = plan_new(stored, training, execution, options.out)
    return train_new(_console(options.progress), stored, *planned, options.mlflow)


@taking(ResumeOptions)
@typed
def resume(run: Place, **settings: Any) -> FinishedRun:  # noqa: ANN401
    """Resume a run that was stopped, with its own settings; the same as `trainer run --resume`.

    A run that is finished is verified and returned. On the same device the networks and metrics
    are, to the bit, those of a run that was never stopped.

    Args:
        run: Directory of the run.
        settings: OPTIONS

    Raises:
        ResumeError: The store is another one, or the file of the initial weights is.
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
    checkpoint: CheckpointName = "best",
    device: str = "auto",
    progress: bool = True,
    threshold: float = 0.5,
) -> Predictions:
    """Classify sound files with a run's trained networks; the same as `trainer predict`.

    Args:
        run: A finished run, or its directory.
        files: Sound files, or directories of them.
        folds: Use the networks that held these folds out; all of the run's by default. Their
            probabilities are averaged.
        checkpoint: Networks of the best epoch, or of the last one.
        device: auto, cpu, cuda or cuda:N.
        progress: Show a bar, and each file that cannot be used. Without, they are warned of.
        threshold: Least probability of a label, where sounds may have several.

    Returns:
        `predictions`, in the order of the files, and `unused`: the files that could not be used,
        each with the reason.

    Raises:
        ConfigError: The threshold is out of range.
        TrainedRunError: The run is unfinished, damaged, or of other features than this version's.
        CheckpointError: A network is absent or damaged.
        AudioInputError: There is no audio in a directory.
    """
    if not 0 <= threshold <= 1:
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
    checkpoint: CheckpointName,
    device: str,
    threshold: float,
) -> Predictions:
    """Return a run's predictions for sound files, showing a bar and what is unusable.

    See `predict`; `console` is where it is shown.
    """
    if trained.warning:
        console.warn(trained.warning)
    chosen, on = trained.chosen(folds), resolve_device(device)
    files = audio_files(paths, console.say)
    networks = [load_network(trained, fold, checkpoint, on) for fold in chosen]
    columns = Label(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    results = []
    with repeatable(on), progress_bars(console, *columns, transient=True) as bars:
        task = bars.add_task("predicting", total=len(files))
        for result in predict_files(trained.record, networks, files, threshold):
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
        threshold=threshold if trained.config.task == "multilabel" else None,
        warnings=(trained.warning,) if trained.warning else (),
    )


def plan_new(
    stored: StoredDataset, training: TrainingOptions, execution: ExecutionOptions, out: Place | None
) -> tuple[Plan, Path, ExecutionOptions]:
    """Return what a new run trains, where to, and how; nothing is written.

    Raises:
        TrainerError: It is impossible, or the directory is taken.
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
    """Train what `plan_new` has returned."""
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
    """Train what is left of a run, with its own settings; see `resume`."""
    with tracking_to(mlflow, console.warn) as tracking:
        if not (out / RESULT).exists():
            stored, plan = stopped_run(out, store)
            print_plan(console, stored, plan.config, execution.folds_at_once, started=True)
            carry_out(console, stored, plan, out, execution, tracking)
            return open_finished(out)
        finished = open_finished(out)
        finished.verify()
        for text in filter(None, (finished.warning, *finished.partial)):
            console.warn(text)
        console.say(f"{out} is finished")
        print_result(console, finished.result)
        if tracking:
            tracking.changed(out)
    return finished


def stopped_run(out: Path, store: Place | None = None) -> tuple[StoredDataset, Plan]:
    """Return the store of a stopped run, and what it trains.

    Args:
        out: Directory of the run.
        store: Where the store is now; where it was by default.

    Raises:
        RunDirectoryError: There is no run, or its record is damaged.
        DeviceError: Its device is absent.
    """
    record = RunDirectory(out).record()
    resolve_device(record.config.device)
    place = from_json_text(record.store) if store is None else os.fspath(store)
    stored = open_store(place, record.config.dataset)
    return stored, Plan(record.config, split_folds(stored, record.config))


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
    """Train what is left of a run, showing and logging it; `start` begins one, if it is new."""
    shapes = {stage.array: stored.shape(stage.array) for stage in plan.config.stages}
    points = {array: bands * frames for array, (bands, frames) in shapes.items()}
    view: AbstractContextManager[Notify]
    view = ProgressView(console, plan.config, plan.num_train, plan.num_valid, points)
    with _resumable(out), view as notify:
        # Before a first run the initial weights are downloaded: the view shows that, too.
        known = start(notify) if start else Known(plan.splits)
        watching = tracking.watching(out, notify) if tracking else nullcontext(notify)
        with watching as watcher:
            result = carry_on(stored, out, watcher, execution, known=known)
    if result:
        print_result(console, result)
    console.say(f"Run: {out}")
    return result


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Add to an interrupt how to resume the run, if it has begun."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if RunDirectory(out).begun:
            stop.add_note(
                f"{out} keeps the epochs and networks so far; --resume {out} resumes it, and so "
                f"does trainer.resume({str(out)!r})"
            )
        raise


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
