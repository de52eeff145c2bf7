import itertools
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from schemas import RunResult
from tests.integration.trainer_runs import finished_run
from tests.integration.trainer_store import TINY, tiny_plan, tiny_store
from tests.once import made_once
from trainer.cli import main
from trainer.errors import ConfigError, DataError
from trainer.records.rundir import RunDirectory
from trainer.run import begin, resume
from trainer.tracking import tracking_to
from trainer.training.events import Event, StageStarted, ignore

# Imported by the tests that need it: it takes each process of a test run more than a second.
if find_spec("mlflow") is None:
    pytest.skip("mlflow is not installed", allow_module_level=True)
if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.filterwarnings("default")  # of MLflow's own
OF_FOLD = {"train_loss", "valid_loss", "valid_accuracy", "samples_per_s"}


@pytest.fixture(scope="session")
def empty_database() -> Path:
    """Making its tables takes seconds."""
    from mlflow import MlflowClient

    return made_once("mlflow.db", lambda file: MlflowClient(f"sqlite:///{file}"))


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts
    shutil.copy(empty_database, tmp_path / "runs.db")
    return f"sqlite:///{tmp_path}/runs.db"


def the_run(uri: str) -> "tuple[MlflowClient, object]":
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiments = [str(found.experiment_id) for found in client.search_experiments()]
    [run] = client.search_runs(experiments)
    return client, run


def steps(client: "MlflowClient", run: object, name: str) -> list[int]:
    return [point.step for point in client.get_metric_history(run.info.run_id, name)]


def complain(line: str) -> None:
    raise AssertionError(line)


def log(uri: str, out: Path) -> None:
    """Log what the directory holds, and no more."""
    with tracking_to(uri, complain) as tracking:
        tracking.changed(out)


def test_a_finished_run_is_there_with_its_config_epochs_outcome_and_records(uri: str) -> None:
    out = finished_run()
    log(uri, out)
    client, run = the_run(uri)
    record, result = RunDirectory(out).record(), RunDirectory(out).result()
    assert result is not None
    assert client.get_experiment(run.info.experiment_id).name == "synthetic"
    assert run.info.run_name == out.name
    assert run.info.status == "FINISHED"
    assert run.data.params["method"] == "resize"
    assert run.data.params["folds"] == "1, 2"
    assert run.data.params["stages.2.array"] == "R3/full"
    assert run.data.params["stages.2.max_lr"] == str(record.config.stages[1].max_lr)
    assert run.data.tags["fingerprint"] == record.fingerprint
    assert run.data.tags["store"] == record.store
    assert run.data.tags["device"] == record.device_name
    for fold in result.folds:
        for epoch in RunDirectory(out).fold(fold.fold).epochs():
            for name in OF_FOLD:
                history = client.get_metric_history(run.info.run_id, f"fold{fold.fold}/{name}")
                assert [p.value for p in history if p.step == epoch.epoch] == [getattr(epoch, name)]
        assert run.data.metrics[f"fold{fold.fold}/best_accuracy"] == fold.best_accuracy
        assert run.data.metrics[f"fold{fold.fold}/last_accuracy"] == fold.last_accuracy
    accuracies = [fold.last_accuracy for fold in result.folds]
    assert run.data.metrics["last_accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert {"best_accuracy", "best_accuracy_std", "last_accuracy_std"} <= set(run.data.metrics)
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"run.json", "result.json"}
    logged = Path(client.download_artifacts(run.info.run_id, "result.json")).read_bytes()
    assert RunResult.model_validate_json(logged) == result


@pytest.mark.slow
def test_a_run_stopped_moved_and_ended_while_the_server_is_away_is_one_run_with_each_epoch_once(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, plan = tiny_plan(device="cpu")
    stages = plan.config.stages[::4]
    out = tmp_path / "run"
    begin(dataset, replace(plan, config=plan.config.model_copy(update={"stages": stages})), out)

    def stop_after_an_epoch(event: Event) -> None:
        if isinstance(event, StageStarted) and event.number == 2:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        tracking_to(uri, complain) as tracking,
        tracking.watching(out, stop_after_an_epoch) as notify,
    ):
        resume(dataset, out, notify)
    client, run = the_run(uri)
    assert run.info.status == "KILLED"
    assert steps(client, run, "fold1/valid_loss") == [1]

    moved = str(out.rename(tmp_path / "moved"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("trainer.tracking.RETRY_S", 0.1)
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert main(["run", "--resume", moved, "--mlflow", away]) == 0
    text = capsys.readouterr().out
    assert text.count("cannot be written to") == 1
    assert f"`trainer run --resume {moved} --mlflow {away}` logs the rest" in text

    assert main(["run", "--resume", moved, "--mlflow", uri]) == 0
    client, run = the_run(uri)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    for name in OF_FOLD:
        assert steps(client, run, f"fold1/{name}") == [1, 2]


@pytest.mark.slow
def test_each_run_of_a_sweep_is_a_run_there(uri: str) -> None:
    from mlflow import MlflowClient

    asked = f"sweep --store {tiny_store()} --out swept --method baseline --method control --fold 1"
    small = f"arch={TINY} init=random batch-size=48 threads=1 epochs-scale=0.01 device=cpu"
    settings = [word for setting in small.split() for word in ("--set", setting)]
    assert main([*asked.split(), *settings, "--mlflow", uri]) == 0
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("synthetic")
    found = client.search_runs([str(experiment.experiment_id)])
    names = {run.info.run_name.split("-seed0")[0] for run in found}
    assert names == {"baseline", "control"}
    assert {run.info.status for run in found} == {"FINISHED"}


def test_a_run_that_cannot_be_logged_keeps_no_other_out(uri: str, tmp_path: Path) -> None:
    lines: list[str] = []
    with tracking_to(uri, lines.append) as tracking:
        tracking.changed(tmp_path / "absent")
        tracking.changed(finished_run())
    assert the_run(uri)[1].info.status == "FINISHED"
    assert len(lines) == 2
    assert all(str(tmp_path / "absent") in line for line in lines)


def test_a_batch_that_the_server_has_is_not_logged_again_after_one_that_failed(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setattr("trainer.tracking._BATCH", 3)
    log_batch, calls, refused = MlflowClient.log_batch, itertools.count(), threading.Event()

    def fail_once(self: MlflowClient, *args: object, **values: object) -> None:
        if "metrics" in values and next(calls) == 1:
            refused.set()
            raise OSError("the connection was lost")
        log_batch(self, *args, **values)

    monkeypatch.setattr(MlflowClient, "log_batch", fail_once)
    with tracking_to(uri, [].append) as tracking:
        tracking.changed(finished_run())
        assert refused.wait(60)
    client, run = the_run(uri)
    assert run.info.status == "FINISHED"
    for name in run.data.metrics:
        points = steps(client, run, name)
        assert len(points) == len(set(points)), name


def test_a_thread_that_the_end_does_not_wait_for_ends_once_the_server_answers(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    log_batch, asked, answered = MlflowClient.log_batch, threading.Event(), threading.Event()

    def late(self: MlflowClient, *args: object, **values: object) -> None:
        asked.set()
        assert answered.wait(60)
        log_batch(self, *args, **values)

    monkeypatch.setattr(MlflowClient, "log_batch", late)
    monkeypatch.setattr("trainer.tracking.PATIENCE_S", 0.1)
    lines: list[str] = []
    with tracking_to(uri, lines.append) as tracking:
        tracking.changed(finished_run())
        assert asked.wait(60)
    assert "has not got all of" in lines[0]
    (thread,) = (one for one in threading.enumerate() if one.name == "mlflow")
    answered.set()
    thread.join(60)
    assert not thread.is_alive()
    assert the_run(uri)[1].info.status == "FINISHED"


def test_variables_for_mlflow_do_not_outlive_the_call(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    before = dict(os.environ)
    with tracking_to(uri, complain):
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    assert dict(os.environ) == before
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    with tracking_to(uri, complain):
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5", "the user's own holds"


def test_a_run_that_fails_is_failed_there_too(uri: str, tmp_path: Path) -> None:
    dataset, plan = tiny_plan()
    begin(dataset, plan, tmp_path / "run")
    with (
        pytest.raises(DataError, match="broken"),
        tracking_to(uri, complain) as tracking,
        tracking.watching(tmp_path / "run", ignore),
    ):
        raise DataError("broken")
    assert the_run(uri)[1].info.status == "FAILED"


@pytest.mark.parametrize(
    "uri", ["htp://host", pytest.param("sqlite:////dev/null/runs.db", marks=pytest.mark.slow)]
)
def test_a_wrong_place_is_one_clear_error(uri: str) -> None:
    with pytest.raises(ConfigError, match=f"--mlflow {uri}: ") as error:
        tracking_to(uri, complain).__enter__()
    assert "\n" not in str(error.value)
