"""Logging of runs to MLflow: the only module that imports mlflow.

A thread of its own updates MLflow from the run directory whenever there is more to log. Training
never waits for a server, and what a server missed while it was down is logged at a later epoch or
when the run is resumed, finished or not. (MLflow's own asynchronous logging drops what it cannot
send.)
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from featurestore.text import mask_url, printable
from schemas import RunConfig
from trainer.errors import ConfigError, in_a_line
from trainer.records.rundir import RECORD, RESULT, RunDirectory
from trainer.stats import mean, sample_std
from trainer.training.events import EpochDone, Event, FoldDone, Notify, RunStarted

RETRY_S = 60.0
"""Seconds from a failure to the next attempt."""
PATIENCE_S = 15.0
"""Seconds to wait at the end of the program for data that is not logged yet."""

_KEY = "trainer.run_json_sha256"
"""Tag by which a run is found again, even if its directory has been moved."""
_OF_EPOCH = ("train_loss", "valid_loss", "valid_accuracy", "valid_map", "samples_per_s")
_OF_FOLD = ("best_accuracy", "last_accuracy", "best_map", "last_map")
_BATCH = 100
"""Number of values per request, MLflow's limit for parameters."""
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # read when mlflow is imported
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # repeated here; MLflow's own seven take minutes
}


@contextmanager
def tracking_to(uri: str | None, warn: Callable[[str], None]) -> Iterator["Tracking | None"]:
    """Log to MLflow within the context; without a URI, do nothing.

    Args:
        uri: Tracking URI, such as `http://host:5000` or `sqlite:///mlflow.db`.
        warn: Called once from a thread, with the reason, if logging fails.

    Raises:
        ConfigError: The URI is not valid for MLflow.
        ModuleNotFoundError: mlflow is not installed.
    """
    if uri is None:
        yield None
        return
    absent = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(absent)
    try:
        with closing(Tracking(uri, warn)) as tracking:
            yield tracking
    finally:
        for name in absent:
            os.environ.pop(name, None)


class Tracking:
    """An MLflow server or database, and the thread that writes to it; see `tracking_to`."""

    def __init__(self, uri: str, warn: Callable[[str], None]) -> None:
        from mlflow import MlflowClient

        try:
            self._client = MlflowClient(uri)
        except Exception as error:  # MlflowException, OSError, and any driver's
            raise ConfigError(f"--mlflow {mask_url(uri)}: {_line(error, uri)}") from error
        self._uri, self._warn, self._warned = uri, warn, False
        self._logged: dict[Path, _LoggedRun] = {}
        self._missing: dict[Path, str] = {}
        self._news: SimpleQueue[tuple[Path, str] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def changed(self, out: Path, status: str = "RUNNING") -> None:
        """Log the current contents of a run directory.

        Args:
            out: Run directory.
            status: Status of the run for MLflow; always FINISHED if the run has its result.
        """
        self._news.put((out, status))

    @contextmanager
    def watching(self, out: Path, notify: Notify) -> Iterator[Notify]:
        """Log a run while it trains, and its end; events are passed on to `notify`."""

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

    def close(self) -> None:
        """Wait a while for what is not logged yet, and warn of what is not logged then."""
        self._news.put(None)
        self._thread.join(PATIENCE_S)
        # A thread that still waits for the server has not taken what came last.
        with suppress(Empty):
            while self._thread.is_alive():
                self._missing |= dict(filter(None, [self._news.get_nowait()]))
        self._news.put(None)  # it ends once the server answers
        place = mask_url(self._uri)
        for out in list(self._missing):
            self._warn(
                f"MLflow at {place} has not got all of {out}; "
                f"`trainer run --resume {out} --mlflow {place}` logs the rest"
            )

    def _work(self) -> None:
        retry_at = 0.0
        while news := self._news.get():
            self._missing |= [news]
            if self._news.empty() and time.monotonic() >= retry_at and not self._catch_up():
                retry_at = time.monotonic() + RETRY_S
        self._catch_up()

    def _catch_up(self) -> bool:
        """Log what is missing, run by run; return whether all of it is there now."""
        for out, status in list(self._missing.items()):
            try:
                if out not in self._logged:
                    self._logged[out] = _LoggedRun(self._client, out)
                self._logged[out].catch_up(status)
                del self._missing[out]
            except Exception as error:  # noqa: BLE001  (of a server, a driver, a disk: training continues)
                if not self._warned:
                    self._warn(
                        f"MLflow at {mask_url(self._uri)} cannot be written to, training continues "
                        f"and it will be tried again: {_line(error, self._uri)}"
                    )
                self._warned = True
        return not self._missing


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
        self._known = {
            (point.key, point.step)
            for name in run.data.metrics
            for point in client.get_metric_history(self._id, name)
        }
        self._log("params", [Param(*item) for item in _flat(record.config)])
        client.log_artifact(self._id, str(out / RECORD))

    def catch_up(self, status: str) -> None:
        """Log what is on disk and not there."""
        from mlflow.entities import Metric

        result = self._directory.result()
        now = int(1000 * time.time())
        points = (Metric(name, value, now, step) for name, value, step in _values(self._directory))
        self._log("metrics", [p for p in points if (p.key, p.step) not in self._known])
        if result and self._status != "FINISHED":
            self._client.log_artifact(self._id, str(self._directory.path / RESULT))
        status = "FINISHED" if result else status
        if status != self._status:
            change = self._client.update_run if status == "RUNNING" else self._client.set_terminated
            change(self._id, status)
            self._status = status

    def _log(self, what: str, items: list[Any]) -> None:
        for first in range(0, len(items), _BATCH):
            batch = items[first : first + _BATCH]
            self._client.log_batch(self._id, **{what: batch})
            self._known |= {(item.key, getattr(item, "step", None)) for item in batch}


def _values(directory: RunDirectory) -> Iterator[tuple[str, float, int]]:
    """Yield name, value and step of each metric on disk: of epochs, of folds, over the folds."""
    values: list[tuple[str, float | None, int]] = []
    for fold in directory.record().config.folds:
        folder = directory.fold(fold)
        for row in folder.epochs():
            values += [(f"fold{fold}/{name}", getattr(row, name), row.epoch) for name in _OF_EPOCH]
        if done := folder.result():
            step = done.last_epoch
            values += [(f"fold{fold}/{name}", getattr(done, name), step) for name in _OF_FOLD]
    if result := directory.result():
        step = max(fold.last_epoch for fold in result.folds)
        for name in _OF_FOLD:
            known = [v for fold in result.folds if (v := getattr(fold, name)) is not None]
            values += [(name, mean(known), step)] if known else []
            values += [(f"{name}_std", sample_std(known), step)]
    return ((name, value, step) for name, value, step in values if value is not None)


def _flat(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield params `stages.1.array` and so on; what is None has no param."""
    values: dict[str, object] = dict(config) | {"folds": ", ".join(map(str, config.folds))}
    del values["stages"]
    for number, stage in enumerate(config.stages, start=1):
        values |= {f"stages.{number}.{name}": value for name, value in stage}
    return ((name, str(value)) for name, value in values.items() if value is not None)


def _line(error: Exception, uri: str) -> str:
    """Return one line that repeats no password of the address, as drivers do."""
    return mask_url(in_a_line(error), secrets_of=uri)
