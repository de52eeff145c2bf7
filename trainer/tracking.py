"""Runs in MLflow, next to their directories: the only module that imports mlflow.

A thread of its own brings MLflow to what a run's directory holds, whenever there is more. Training
never waits for a server, and what one that was away has missed is made good, at a later epoch or
by resuming the run, finished or not. (MLflow's own asynchronous logging drops what it cannot send.)
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from featurestore.text import mask_url, printable
from schemas import RunConfig
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
_OF_EPOCH = ("train_loss", "valid_loss", "valid_accuracy", "valid_map", "samples_per_s")
_OF_FOLD = ("best_accuracy", "last_accuracy", "best_map", "last_map")
_BATCH = 100
"""Values per request: MLflow's limit for params."""
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # read when mlflow is imported
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # repeated here; MLflow's own seven take minutes
}

Value = tuple[str, float, int]
"""Name, value and step of a metric."""


@contextmanager
def _environment() -> Iterator[None]:
    """Set what the user has not set, for as long as it is needed."""
    absent = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(absent)
    try:
        yield
    finally:
        for name in absent:
            os.environ.pop(name, None)


def tracking_to(
    uri: str | None, warn: Callable[[str], None]
) -> "AbstractContextManager[Tracking | None]":
    """Log to MLflow while the context lasts; without a URI, do nothing.

    Raises:
        ConfigError: MLflow cannot be at such a URI.
    """
    return nullcontext() if uri is None else Tracking(uri, warn)


class Tracking:
    """An MLflow server or database, and the thread that writes to it; a context manager.

    Args:
        uri: Such as `http://host:5000` or `sqlite:///mlflow.db`.
        warn: Called once, from that thread, if it cannot be written to, with the reason.

    Raises:
        ConfigError: MLflow cannot be at such a URI.
        ModuleNotFoundError: mlflow is not installed.
    """

    def __init__(self, uri: str, warn: Callable[[str], None]) -> None:
        with _environment():
            from mlflow import MlflowClient

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
        self._open = ExitStack()

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

        def logged(event: Event) -> None:
            notify(event)
            if isinstance(event, RunStarted | EpochDone | FoldDone):
                self.changed(out)

        try:
            yield logged
        except BaseException as error:
            self.changed(out, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        self.changed(out)

    def __enter__(self) -> Self:
        self._open.enter_context(_environment())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._open:
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

    def __init__(self, client: Any, out: Path) -> None:  # noqa: ANN401  (imported with a client)
        from mlflow.entities import Param

        self._client, self._directory = client, RunDirectory(out)
        record = self._directory.record()
        key = hashlib.sha256((out / RECORD).read_bytes()).hexdigest()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or record.config.dataset
        known = client.get_experiment_by_name(name)
        experiment = str(known.experiment_id if known else client.create_experiment(name))
        logged = client.search_runs([experiment], f"tags.`{_KEY}` = '{key}'", max_results=1)
        started = int(1000 * datetime.fromisoformat(record.started).timestamp())
        tags = {"fingerprint": record.fingerprint, "store": record.store}
        tags |= {_KEY: key, "device": record.device_name}
        title = printable(out.absolute().name)
        run = logged[0] if logged else client.create_run(experiment, started, tags, title)
        self._id, self._status = run.info.run_id, run.info.status
        self._folds = record.config.folds
        self._known = {
            (point.key, point.step)
            for name in run.data.metrics
            for point in client.get_metric_history(self._id, name)
        }
        params = [Param(*item) for item in _flat(record.config) if item[0] not in run.data.params]
        for first in range(0, len(params), _BATCH):
            client.log_batch(self._id, params=params[first : first + _BATCH])
        client.log_artifact(self._id, str(out / RECORD))

    def catch_up(self, status: str) -> None:
        """Log what is on disk and not there."""
        from mlflow.entities import Metric

        result = self._directory.result()
        now = int(1000 * time.time())
        values = [value for value in self._values() if (value[0], value[2]) not in self._known]
        for first in range(0, len(values), _BATCH):
            batch = values[first : first + _BATCH]
            metrics = [Metric(name, value, now, step) for name, value, step in batch]
            self._client.log_batch(self._id, metrics=metrics)
            self._known |= {(name, step) for name, _, step in batch}
        if result and self._status != "FINISHED":
            self._client.log_artifact(self._id, str(self._directory.path / RESULT))
        status = "FINISHED" if result else status
        if status != self._status:
            change = self._client.update_run if status == "RUNNING" else self._client.set_terminated
            change(self._id, status)
            self._status = status

    def _values(self) -> Iterator[Value]:
        """Yield the metrics on disk: of each epoch, of each fold, and over the folds."""
        for fold in self._folds:
            folder = self._directory.fold(fold)
            for epoch in folder.epochs():
                values = ((f"fold{fold}/{n}", getattr(epoch, n), epoch.epoch) for n in _OF_EPOCH)
                yield from (value for value in values if value[1] is not None)
            if done := folder.result():
                values = ((f"fold{fold}/{n}", getattr(done, n), done.last_epoch) for n in _OF_FOLD)
                yield from (value for value in values if value[1] is not None)
        if result := self._directory.result():
            step = max(fold.last_epoch for fold in result.folds)
            for name in _OF_FOLD:
                known = [v for fold in result.folds if (v := getattr(fold, name)) is not None]
                means = {name: mean(known) if known else None, f"{name}_std": sample_std(known)}
                yield from ((n, value, step) for n, value in means.items() if value is not None)


def _flat(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield params `stages.1.array` and so on; what is None has no param."""
    values: dict[str, object] = dict(config) | {"folds": ", ".join(map(str, config.folds))}
    del values["stages"]
    for number, stage in enumerate(config.stages, start=1):
        values |= {f"stages.{number}.{name}": value for name, value in stage}
    return ((name, str(value)) for name, value in values.items() if value is not None)


def _line(error: Exception, uri: str) -> str:
    """Return one line that repeats no password of the address, as drivers do."""
    return mask_url(" ".join(str(error).split()), secrets_of=uri) or type(error).__name__
