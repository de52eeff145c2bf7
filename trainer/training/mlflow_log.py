"""Runs in MLflow, next to their directories: the only module that imports mlflow.

A thread of its own brings MLflow to what a run's directory holds, whenever there is more. Training
never waits for a server, and what one that was away has missed is made good, at a later epoch or
by resuming the run, finished or not.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Self

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from featurestore.text import mask_url, printable
from schemas import EpochMetrics, FoldResult, RunConfig, RunResult
from trainer.errors import ConfigError
from trainer.records.rundir import RECORD, RESULT, RunDirectory
from trainer.stats import mean, sample_std
from trainer.training.events import EpochDone, Event, FoldDone, Notify, RunStarted

RETRY_S = 60.0
"""Seconds from a failure to the next attempt."""
PATIENCE_S = 15.0
"""Seconds that the end of the program waits for what is not logged yet."""

_KEY = "trainer.run_json_sha256"
"""The tag that finds a run again, wherever its directory is moved."""
_OF_EPOCH = ("train_loss", "valid_loss", "valid_accuracy", "samples_per_s")
_OF_FOLD = ("best_accuracy", "last_accuracy")
_BATCH = 100
"""Values per request: MLflow's limit for params."""


class Tracking:
    """An MLflow server or database, and the thread that writes to it; a context manager.

    Args:
        uri: Such as `http://host:5000` or `sqlite:///mlflow.db`.
        warn: Called once, from that thread, if it cannot be written to, with the reason.

    Raises:
        ConfigError: MLflow cannot be at such a URI.
    """

    def __init__(self, uri: str, warn: Callable[[str], None]) -> None:
        # Attempts are repeated here; MLflow's own seven take minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        try:
            self._client = MlflowClient(uri)
        except Exception as error:  # MlflowException, OSError, and any driver's
            raise ConfigError(f"--mlflow {mask_url(uri)}: {_line(error, uri)}") from error
        self._uri, self._shown = uri, mask_url(uri)
        self._warn, self._warned = warn, False
        self._logged: dict[Path, _LoggedRun] = {}
        self._pending: dict[Path, str] = {}
        self._taken: dict[Path, str] = {}
        self._closing = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def changed(self, out: Path, status: str = "RUNNING") -> None:
        """Let MLflow have what a run's directory holds by now.

        Args:
            out: The directory.
            status: Status of MLflow; a run that has its result is FINISHED whatever is said.
        """
        with self._news:
            self._pending[out] = status
            self._news.notify()

    @contextmanager
    def watching(self, out: Path, notify: Notify) -> Iterator[Notify]:
        """Log a run while it trains, and how it ends; its events are passed on."""

        def told(event: Event) -> None:
            notify(event)
            if isinstance(event, RunStarted | EpochDone | FoldDone):
                self.changed(out)

        try:
            yield told
        except BaseException as error:
            self.changed(out, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        self.changed(out)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join(PATIENCE_S)
        with self._news:
            missing = self._taken | self._pending
        for out in missing:
            self._warn(
                f"MLflow at {self._shown} has not got all of {out}; "
                f"`trainer run --resume {out} --mlflow {self._shown}` logs the rest"
            )

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._pending or self._closing)
                last = self._closing
                self._taken, self._pending = self._pending, {}
            failed = {o: status for o, status in self._taken.items() if not self._try(o, status)}
            with self._news:
                self._taken, self._pending = {}, failed | self._pending
                if last:
                    return
                if failed:
                    self._news.wait_for(lambda: self._closing, RETRY_S)

    def _try(self, out: Path, status: str) -> bool:
        try:
            if out not in self._logged:
                self._logged[out] = _LoggedRun(self._client, out)
            self._logged[out].catch_up(status)
        except Exception as error:  # noqa: BLE001  (of a server, a driver, a disk: training continues)
            if not self._warned:
                self._warn(
                    f"MLflow at {self._shown} cannot be written to, training continues and it will "
                    f"be tried again: {_line(error, self._uri)}"
                )
            self._warned = True
            return False
        return True


class _LoggedRun:
    """A run's directory, and how much of it is in MLflow."""

    def __init__(self, client: MlflowClient, out: Path) -> None:
        self._client, self._directory = client, RunDirectory(out)
        self._record = self._directory.record()
        run = self._find() or self._create()
        self._id: str = run.info.run_id
        self._status: str = run.info.status
        self._names = set(run.data.metrics)
        self._epochs = {fold: self._steps(fold) for fold in self._record.config.folds}
        self._log_config(run)

    def _find(self) -> Run | None:
        found = self._client.search_runs(
            [self._experiment()], f"tags.`{_KEY}` = '{self._key()}'", max_results=1
        )
        return found[0] if found else None

    def _create(self) -> Run:
        started = datetime.fromisoformat(self._record.started).timestamp()
        name = printable(self._directory.path.absolute().name)
        tags = {
            _KEY: self._key(),
            "fingerprint": self._record.fingerprint,
            "store": self._record.store,
            "device": self._record.device_name,
        }
        return self._client.create_run(self._experiment(), int(1000 * started), tags, name)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self._record.config.dataset
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _key(self) -> str:
        return hashlib.sha256((self._directory.path / RECORD).read_bytes()).hexdigest()

    def _steps(self, fold: int) -> set[int]:
        """Return the epochs that are there."""
        name = f"fold{fold}/{_OF_EPOCH[-1]}"
        known = name in self._names
        return {m.step for m in self._client.get_metric_history(self._id, name)} if known else set()

    def _log_config(self, run: Run) -> None:
        params = _flat(self._record.config).items()
        missing = [Param(name, value) for name, value in params if name not in run.data.params]
        for first in range(0, len(missing), _BATCH):
            self._client.log_batch(self._id, params=missing[first : first + _BATCH])
        self._client.log_artifact(self._id, str(self._directory.path / RECORD))

    def catch_up(self, status: str) -> None:
        """Log what is on disk and not there."""
        for fold in self._record.config.folds:
            folder = self._directory.fold(fold)
            for epoch in folder.epochs():
                if epoch.epoch not in self._epochs[fold]:
                    self._log(_epoch_metrics(epoch), epoch.epoch)
                    self._epochs[fold].add(epoch.epoch)
            if done := folder.result():
                self._log_once(_fold_metrics(done), done.last_epoch)
        if result := self._directory.result():
            self._log_once(_run_metrics(result), max(fold.last_epoch for fold in result.folds))
            if self._status != "FINISHED":
                self._client.log_artifact(self._id, str(self._directory.path / RESULT))
            status = "FINISHED"
        self._set_status(status)

    def _log_once(self, values: Mapping[str, float], step: int) -> None:
        self._log({n: value for n, value in values.items() if n not in self._names}, step)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        if metrics:
            self._client.log_batch(self._id, metrics=metrics)
            self._names |= set(values)

    def _set_status(self, status: str) -> None:
        if status == self._status:
            return
        if status == "RUNNING":
            self._client.update_run(self._id, status)
        else:
            self._client.set_terminated(self._id, status)
        self._status = status


def _flat(config: RunConfig) -> dict[str, str]:
    """Return `stages.1.array` and so on; what is None has no param."""
    values: dict[str, object] = dict(config)
    values["folds"] = ", ".join(map(str, config.folds))
    del values["stages"]
    for number, stage in enumerate(config.stages, start=1):
        values |= {f"stages.{number}.{name}": value for name, value in stage}
    return {name: str(value) for name, value in values.items() if value is not None}


def _epoch_metrics(epoch: EpochMetrics) -> dict[str, float]:
    return {f"fold{epoch.fold}/{name}": getattr(epoch, name) for name in _OF_EPOCH}


def _fold_metrics(result: FoldResult) -> dict[str, float]:
    values = {name: getattr(result, name) for name in _OF_FOLD}
    return {f"fold{result.fold}/{n}": value for n, value in values.items() if value is not None}


def _run_metrics(result: RunResult) -> dict[str, float]:
    """Return means over folds, and their sample standard deviation."""
    values = {}
    for name in _OF_FOLD:
        found = [value for fold in result.folds if (value := getattr(fold, name)) is not None]
        if found:
            values[name] = mean(found)
        if (std := sample_std(found)) is not None:
            values[f"{name}_std"] = std
    return values


def _line(error: Exception, uri: str) -> str:
    """Return one line that repeats no password of the address, as drivers do."""
    return mask_url(" ".join(str(error).split()), secrets_of=uri) or type(error).__name__
