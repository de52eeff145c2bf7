"""Training of one held-out fold: the whole schedule, from initial weights to the fold's result.

Each random stream has its own seed (`derive_seed`), so folds are independent of each other and of
their order, and a stopped fold resumes as if it had never been stopped. A fold is a generator that
pauses after each step; `trainer.training.folds` decides which one continues.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from featurestore import StoredDataset
from schemas import EpochMetrics, FoldResult, RunConfig, RunRecord, Stage
from trainer.data.arrays import HeldArray, SharedArrays
from trainer.data.order import derive_seed
from trainer.data.source import StageData
from trainer.data.split import FoldSplit
from trainer.errors import diverged
from trainer.model import build_model
from trainer.oom import explain_oom_training
from trainer.records.checkpoint import Checkpoint, FoldState, Snapshots, tensors_in
from trainer.records.finished import plain
from trainer.records.rundir import BEST, LAST, FoldDirectory
from trainer.records.tables import ClipPredictions
from trainer.selection import RULES, carried_epoch, reported_epoch
from trainer.task import TASKS
from trainer.training import events
from trainer.training.stage import EpochResult, Progress, StageTrainer
from trainer.training.step import predict


class StateSaver:
    """Keeps a fold's latest state; a context manager that saves it when interrupted.

    Args:
        directory: Directory of the fold.
        save_every_s: Minimum interval in seconds between saved states.

    Attributes:
        state: The latest state; None before the first epoch.
    """

    def __init__(self, directory: FoldDirectory, save_every_s: float) -> None:
        self.state: FoldState | None = None
        self._directory = directory
        self._save_every_s = save_every_s
        self._saved_at = time.monotonic()
        self._on_disk: FoldState | None = None

    def update(self, state: FoldState) -> None:
        """Replace the state, and save it if the last saved one is old.

        Raises:
            RunDirectoryError: The state cannot be written.
        """
        self.state = state
        if time.monotonic() - self._saved_at >= self._save_every_s:
            self._save()

    def close(self) -> None:
        """Drop the state, which a finished fold does not need."""
        self.state = None

    def _save(self) -> None:
        if self.state is not None and self._on_disk is not self.state:
            self._directory.write_state(self.state)
            self._on_disk = self.state
        self._saved_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and self.state is not None:
            self._save()
            self._directory.write_networks(self.state)


@dataclass(frozen=True)
class Job:
    """Data and settings that every fold of a run shares.

    Args:
        dataset: Dataset to train on.
        record: Record of the run, whose device is available.
        arrays: Arrays to train on.
        splits: Split by held-out fold.
        body_state: Initial weights of the body; None for random ones.
        notify: Called with every event.
        save_every_s: Minimum interval in seconds between saved states.
        warnings: Warnings to record with every fold.
    """

    dataset: StoredDataset
    record: RunRecord
    arrays: SharedArrays
    splits: Mapping[int, FoldSplit]
    body_state: Mapping[str, Tensor] | None
    notify: events.Notify
    save_every_s: float
    warnings: tuple[str, ...] = ()

    @property
    def config(self) -> RunConfig:
        """The run's config."""
        return self.record.config


def train_fold(job: Job, fold: int, directory: FoldDirectory) -> Progress[FoldResult]:
    """Train one held-out fold, resuming it if it was stopped; a finished fold is not changed.

    However it ends, also if the generator is closed, the state and the networks after the last good
    epoch are on disk.

    Raises:
        DivergedError: A loss is not finite.
        DeviceMemoryError: The data or a step does not fit.
        RunDirectoryError: The directory cannot be written.
        CheckpointError: The state on disk is damaged, or of another store or config.
        featurestore.errors.BusyError: Another process trains the fold.
        featurestore.errors.CorruptError: The store is damaged.
    """
    with directory.locked():
        directory.remove_partial()
        if finished := directory.result():
            return _report_finished(job, plain(finished))
        with StateSaver(directory, job.save_every_s) as saver:
            return (yield from _FoldTrainer(job, fold, directory, saver).run())


def _report_finished(job: Job, result: FoldResult) -> FoldResult:
    job.notify(events.FoldStarted(result.fold, result.last_epoch))
    job.notify(events.FoldDone(result))
    return result


class _FoldTrainer:
    """A fold in progress."""

    def __init__(self, job: Job, fold: int, directory: FoldDirectory, saver: StateSaver) -> None:
        self._job, self._fold, self._directory, self._saver = job, fold, directory, saver
        self._config = job.config
        # The layout decides the order of sums: a fold that resumes after its last epoch, with
        # no stage left that would set it, must give the same last bits.
        config, num_classes = self._config, len(job.dataset.class_names)
        # The same initial network for every method.
        seed = derive_seed("init", config.seed, fold)
        model = build_model(config.arch, num_classes, seed, job.body_state, config.first_conv)
        model.to(torch.device(config.device))
        self._model = model.to(memory_format=torch.channels_last)
        self._split = job.splits[fold]
        self._held: dict[str, HeldArray] = {}
        self._saver.state = directory.state(job.record, fold)
        self._epochs = list(self._saver.state.epochs) if self._saver.state else []
        self._seconds = self._saver.state.seconds if self._saver.state else 0.0
        self._warnings = list(self._saver.state.warnings) if self._saver.state else []
        self._started = time.perf_counter()
        self._networks, self._optimizers = Snapshots(), Snapshots()

    def run(self) -> Progress[FoldResult]:
        """Train every stage that is left, in turn."""
        self._directory.write_metrics(self._epochs)
        self._job.notify(events.FoldStarted(self._fold, len(self._epochs)))
        for warning in self._job.warnings:
            self._warn(warning)
        for number, stage in enumerate(self._config.stages, start=1):
            done = sum(epoch.stage == number for epoch in self._epochs)
            if done < stage.epochs:
                yield from self._run_stage(number, stage, done)
        result = self._finish()
        self._job.notify(events.FoldDone(result))
        return result

    def _run_stage(self, number: int, stage: Stage, done: int) -> Progress[None]:
        """Train what is left of a stage."""
        self._job.notify(events.StageStarted(self._fold, number, stage))
        state = self._saver.state
        if state:
            # In the middle of a stage, training resumes from the last network.
            start = state.last if done else state.carried
            self._model.load_state_dict(start.model)
        data, other = yield from self._load(stage)
        trainer = StageTrainer(self._model, stage, data, self._config, self._warn, other)
        if state and done:
            trainer.restore(state.stage)
        elif state and state.moments:
            trainer.take_moments(state.moments)
        for _ in range(done, stage.epochs):
            yield from self._run_epoch(number, stage, trainer)

    def _load(self, stage: Stage) -> Progress[tuple[StageData, StageData | None]]:
        """Return the stage's data and what it alternates with."""
        names = [stage.array, *([stage.alternate] if stage.alternate else [])]
        # Neighbouring stages share an array; one that this stage does not use is let go first, so
        # that its memory is free for the next.
        self._held = {name: held for name, held in self._held.items() if name in names}
        for name in names:
            if name not in self._held:
                loading = self._job.arrays.request(name)
                while not loading.done():
                    yield loading.done
                self._held[name] = loading.result()
        data, *alternates = (self._split.of(self._held[name][self._fold]) for name in names)
        return data, alternates[0] if alternates else None

    def _warn(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.append(message)
        self._job.notify(events.Warned(message))

    def _run_epoch(self, number: int, stage: Stage, trainer: StageTrainer) -> Progress[None]:
        epoch, array = len(self._epochs) + 1, trainer.data.array
        order = self._split.order.windows(epoch)
        seed = derive_seed("dropout", self._config.seed, self._fold, epoch)
        shape, placement = self._job.dataset.shape(array), self._job.arrays.placement(array)
        with explain_oom_training(stage, shape, self._config, placement):
            result = yield from self._announced(trainer.epoch(order, seed))
        if not result.finite:
            # The state before this epoch is still the saver's: that is what stays on disk.
            kept = self._directory.network(LAST) if self._saver.state else None
            raise diverged(self._fold, number, stage, epoch, result.lrs, kept)
        metrics = self._metrics(number, epoch, array, stage, result)
        self._epochs.append(metrics)
        self._directory.append(metrics)
        self._saver.update(self._state(metrics, trainer))
        best = max(e.score for e in self._epochs if e.array == array)
        self._job.notify(events.EpochDone(metrics, best))

    def _metrics(
        self, number: int, epoch: int, array: str, stage: Stage, result: EpochResult
    ) -> EpochMetrics:
        score: dict[str, Any] = {TASKS[self._config.task].score_field: result.score}
        return EpochMetrics(
            fold=self._fold,
            stage=number,
            epoch=epoch,
            array=array,
            max_lr=stage.max_lr,
            train_loss=result.train.loss,
            valid_loss=result.valid.loss,
            seconds=result.seconds,
            samples_per_s=result.samples_per_s,
            wait_share=result.wait_share,
            failed_recordings=result.failed_recordings,
            **score,
        )

    def _announced(self, epoch: Progress[EpochResult]) -> Progress[EpochResult]:
        """Report each step of an epoch."""
        done = events.BatchDone(self._fold)
        with closing(epoch):
            while True:
                try:
                    ready = next(epoch)
                except StopIteration as end:
                    result: EpochResult = end.value
                    return result
                if ready is None:
                    self._job.notify(done)
                yield ready

    def _state(self, metrics: EpochMetrics, trainer: StageTrainer) -> FoldState:
        before = self._saver.state
        # Whatever of it is still needed keeps its memory until the new state has taken its place:
        # an interruption in between finds it whole.
        kept = before.state_dicts if before else ()
        in_use = {id(tensor) for some in kept for _, tensor in tensors_in(some)}
        last = self._checkpoint(metrics, self._networks.take(self._model.state_dict(), in_use))
        stage = trainer.state(partial(self._optimizers.take, in_use=in_use))
        best, carried = (before.best, before.carried) if before else (None, last)
        moments = before.moments if before else None
        if reported_epoch(self._epochs, self._config) is metrics:
            best = last
        if carried_epoch(self._epochs, self._config) is metrics:
            carried = last
            moments = stage.optimizer if self._config.moments == "carried" else None
        return FoldState(
            last=last,
            best=best,
            carried=carried,
            stage=stage,
            epochs=tuple(self._epochs),
            seconds=self._spent(),
            warnings=tuple(self._warnings),
            moments=moments,
        )

    def _spent(self) -> float:
        return self._seconds + time.perf_counter() - self._started

    def _checkpoint(self, metrics: EpochMetrics, model: Mapping[str, Tensor]) -> Checkpoint:
        return Checkpoint(
            model=model,
            fold=self._fold,
            stage=metrics.stage,
            epoch=metrics.epoch,
            array=metrics.array,
            accuracy=metrics.score,
            config=self._config,
            fingerprint=self._job.dataset.fingerprint,
            class_names=self._job.dataset.class_names,
            features=self._job.record.features,
            extractor_version=self._job.record.extractor_version,
        )

    def _finish(self) -> FoldResult:
        """Predict the held-out fold with the networks that count, and write all that is left."""
        state = self._saver.state
        assert state is not None, "a schedule has an epoch"  # noqa: S101
        self._held = {}
        networks = {BEST: state.best, LAST: state.last}
        judged: dict[str, ClipPredictions] = {}
        for name in RULES[self._config.selection].checkpoints:
            network = networks[name]
            assert network is not None, "every stage has its best epoch"  # noqa: S101
            # Predicted once if it is one network.
            known = judged.get(BEST) if network is state.best else None
            judged[name] = known or self._predictions(network)
            self._directory.write_predictions(name, judged[name])
        self._directory.write_networks(state)
        self._directory.write_metrics(self._epochs)
        several = self._config.task == "multilabel"
        field = "scores" if several else "accuracy"
        scores: dict[str, Any] = {"best_accuracy": None, "last_accuracy": None}
        scores |= {f"{name}_{field}": getattr(of, field) for name, of in judged.items()}
        if state.best and self._split.num_valid:
            scores["valid_map" if several else "valid_accuracy"] = state.best.accuracy
        result = FoldResult(
            fold=self._fold,
            num_train=self._split.num_train,
            num_valid=self._split.num_valid,
            num_test=self._split.num_test,
            best_epoch=state.best.epoch if state.best else None,
            best_array=state.best.array if state.best else None,
            last_epoch=state.last.epoch,
            seconds=self._spent(),
            warnings=tuple(self._warnings),
            **scores,
        )
        self._directory.finish(result, self._job.record.sha256)
        self._saver.close()
        return result

    def _predictions(self, checkpoint: Checkpoint) -> ClipPredictions:
        dataset, array = self._job.dataset, checkpoint.array
        self._model.load_state_dict(checkpoint.model)
        source = self._job.arrays.held_out(array, self._fold)
        clips = dataset.clips([self._fold])
        return ClipPredictions(
            clip_ids=tuple(clips.clip_id),
            labels=dataset.all_labels([self._fold]),
            probabilities=predict(self._model, source, self._config),
            class_names=dataset.class_names,
        )
