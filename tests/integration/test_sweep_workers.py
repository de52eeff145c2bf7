"""Tasks for a cluster's workers, who may have other files of the same names."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from distributed import Client

from featurestore import open_store
from featurestore.errors import UnfitWorkerError
from schemas import RunRecord
from tests.integration.test_cluster import scheduler, worker  # noqa: F401
from tests.integration.test_sweep import QUICK, same_networks, sweep
from tests.integration.trainer_store import TINY, tiny_store
from trainer.cluster import Failed, Work, begin_run, check_shared, train_one_fold
from trainer.config import ExecutionOptions, TrainingOptions
from trainer.errors import ClusterError
from trainer.records.rundir import RunDirectory
from trainer.sweep import SweepRun, plan_sweep

METHOD = "mine:\n- {{array: R1/mel, epochs: 1, max_lr: {rate}}}\n"
OPTIONS = TrainingOptions(
    method="mine",
    folds=(1,),
    init="random",
    batch_size=48,
    arch=TINY,
    device="cpu",
    precision="float32",
    threads=1,
)
NOWHERE = "--scheduler tcp://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def other_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Go where other files have the same names."""
    (tmp_path / "elsewhere").mkdir(exist_ok=True)  # that of the scheduler, if there is one
    monkeypatch.chdir(tmp_path / "elsewhere")


def work(out: Path, store: Path | None = None) -> Work:
    dataset = open_store(tiny_store())
    at = store or tiny_store()
    return Work(str(at), dataset.name, dataset.fingerprint, out.absolute(), ExecutionOptions())


def test_a_method_of_a_file_is_the_users_wherever_it_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("methods.yaml").write_text(METHOD.format(rate=0.25))
    runs = [SweepRun("a", replace(OPTIONS, methods_file="methods.yaml"))]
    sent = pickle.dumps(
        (
            work(Path("s")),
            *(r for r, _ in plan_sweep(open_store(tiny_store()), runs, ExecutionOptions())),
        )
    )
    other_machine(monkeypatch, tmp_path)
    Path("methods.yaml").write_text(METHOD.format(rate=0.5))
    begun = begin_run(*pickle.loads(sent))  # noqa: S301 - our own bytes
    assert isinstance(begun, RunRecord)
    assert [stage.max_lr for stage in begun.config.stages] == [0.25]
    assert RunDirectory(tmp_path / "s/runs/a").record().config == begun.config


def test_initial_weights_are_the_users_file_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("methods.yaml").write_text(METHOD.format(rate=0.25))
    torch.save(torchvision.models.resnet18().state_dict(), "w.pth")
    options = replace(OPTIONS, methods_file="methods.yaml", arch="resnet18", init="w.pth")
    ((run, _),) = plan_sweep(open_store(tiny_store()), [SweepRun("a", options)], ExecutionOptions())
    place = work(Path("s"))
    other_machine(monkeypatch, tmp_path)
    torch.save(torchvision.models.resnet18().state_dict(), "w.pth")
    begun = begin_run(place, run)
    assert isinstance(begun, RunRecord)
    assert begun.config.init == str(tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes(Path("w.pth").read_bytes())
    found = begin_run(place, replace(run, name="b"))
    assert isinstance(found, Failed)
    assert "w.pth: is another file on " in found.reason


def test_a_fold_whose_first_worker_was_thought_lost_is_waited_for_and_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("methods.yaml").write_text(METHOD.format(rate=0.25))
    monkeypatch.setattr("trainer.cluster._BUSY_S", 0.05)
    run = SweepRun("a", replace(OPTIONS, methods_file="methods.yaml"))
    begun = begin_run(work(Path("s")), run)
    assert isinstance(begun, RunRecord)
    fold = RunDirectory(tmp_path / "s/runs/a").fold(1)
    with ThreadPoolExecutor(1) as pool:
        with fold.locked():
            second = pool.submit(train_one_fold, work(Path("s")), ("a", begun.sha256, 1))
            with pytest.raises(TimeoutError):
                second.result(timeout=1)
        outcome = second.result()
    assert outcome == fold.result()


def test_a_worker_with_another_store_or_another_run_at_that_place_says_so(tmp_path: Path) -> None:
    Path("methods.yaml").write_text(METHOD.format(rate=0.25))
    run = SweepRun("a", replace(OPTIONS, methods_file="methods.yaml"))
    with pytest.raises(UnfitWorkerError, match=r"uint8\.zarr: is another store on "):
        begin_run(work(Path("s"), tiny_store("uint8")), run)
    with pytest.raises(UnfitWorkerError, match=r"absent\.zarr"):
        begin_run(work(Path("s"), tmp_path / "absent.zarr"), run)
    assert not Path("s").exists()
    begun = begin_run(work(Path("s")), run)
    assert isinstance(begun, RunRecord)
    check_shared(tmp_path / "s/runs/a", begun.sha256)
    with pytest.raises(ClusterError, match=r"run\.json: is another one on .*share"):
        check_shared(tmp_path / "s/runs/a", "0" * 64)
    failed = train_one_fold(work(Path("s")), ("a", "0" * 64, 1))
    assert isinstance(failed, Failed)
    assert not (tmp_path / "s/runs/a/fold1").exists()


def test_an_out_that_is_not_shared_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.cluster._SHOWN_AFTER_S", 0.0)
    with pytest.raises(ClusterError, match=r"sees no run\.json; give an --out"):
        check_shared(tmp_path / "absent", "0" * 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("--set batch_size=48,1", "batch_size 1"),
        ("--set methods_file=m.yaml --method absent", "no method 'absent'"),
        ("--set init=random,absent.pth", "absent.pth: cannot be used as initial weights"),
        ("--set precision=float32,float33", "precision 'float33'"),
        ("--set acceleration=warp", "acceleration 'warp'"),
        ("--set device=tpu", "no device 'tpu'"),
    ],
)
def test_a_mistake_in_the_last_run_is_told_before_a_scheduler_is_asked(
    settings: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("m.yaml").write_text(METHOD.format(rate=0.25))
    assert sweep(f"--out s --method mel {settings} {NOWHERE}") == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("s").exists()


@pytest.mark.slow
def test_workers_with_other_files_of_the_same_names_train_what_the_client_has(
    scheduler: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("methods.yaml").write_text(METHOD.format(rate=0.25))
    torch.save(torchvision.models.resnet18().state_dict(), "w.pth")
    own = "--set methods_file=methods.yaml --set init=w.pth"
    quick = QUICK.replace("--set init=random", own).replace(TINY, "resnet18")  # as the weights
    command = f"--method mine --fold 1 --fold 2 {quick}"
    other_machine(monkeypatch, tmp_path)
    Path("methods.yaml").write_text(METHOD.format(rate=0.5))
    torch.save(torchvision.models.resnet18().state_dict(), "w.pth")
    with worker(scheduler, tmp_path), worker(scheduler, tmp_path), Client(scheduler) as client:
        client.wait_for_workers(2, timeout=120)
        monkeypatch.chdir(tmp_path)
        assert sweep(f"--out there {command} --scheduler {scheduler}") == 0, capsys.readouterr()
    assert sweep(f"--out here {command}") == 0
    assert same_networks(Path("there/runs"), Path("here/runs"))
    (place,) = Path("there/runs").iterdir()
    config = RunDirectory(place).record().config
    assert [stage.max_lr for stage in config.stages] == [0.25]
