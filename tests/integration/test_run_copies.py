"""Files of a run that are whole, but another run's or another fold's, are refused in its place."""

import itertools
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.integration.test_resume import OFTEN, short_plan, stop_at
from tests.integration.test_run_vouches import everything
from tests.integration.trainer_runs import copied, finished_run, rewrite
from tests.integration.trainer_store import place, tiny_plan
from trainer.cli import main
from trainer.errors import TrainerError
from trainer.run import begin, resume, run
from trainer.training.events import EpochDone

IN_FOLD = ("fold.json", "metrics.csv", "best.csv", "last.csv", "best.pt", "last.pt")


@cache
def other_run() -> Path:
    """A run of the same store, method and schedule with another seed; not to be changed."""
    out = Path(tempfile.mkdtemp(dir=place())) / "run"
    dataset, plan = tiny_plan(folds=(1, 2))
    stages = plan.config.stages[::4]
    config = plan.config.model_copy(update={"stages": stages, "seed": 9})
    run(dataset, replace(plan, config=config), out)
    return out


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return copied(finished_run(), tmp_path / "run")


def refused(path: Path, what: object) -> None:
    said = everything(path, networks=True)
    assert said.startswith(str(path)), what
    assert "\n" not in said


def put(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target)
        shutil.copytree(source, target)
    else:
        rewrite(target, source.read_bytes())


@pytest.mark.parametrize("name", IN_FOLD)
def test_a_file_of_another_fold_or_of_another_kind_is_refused(ours: Path, name: str) -> None:
    suffix = Path(name).suffix
    sources = [f"fold2/{name}", *(f"fold1/{n}" for n in IN_FOLD if n.endswith(suffix))]
    for source in sources:
        whole, other = (ours / f"fold1/{name}").read_bytes(), (ours / source).read_bytes()
        if other != whole:
            rewrite(ours / f"fold1/{name}", other)
            refused(ours, source)
            rewrite(ours / f"fold1/{name}", whole)
    assert everything(ours, networks=True).startswith("believed")


@pytest.mark.parametrize(
    "names",
    [
        *((f"fold1/{name}",) for name in IN_FOLD),
        ("fold1",),
        ("fold1", "fold2"),
        ("result.json",),
        ("run.json",),
        ("run.json", "result.json"),
        ("fold1", "result.json"),
        ("fold1", "fold2", "result.json"),
        ("fold1", "fold2", "run.json"),
        ("fold1/fold.json", "fold1/best.csv", "fold1/last.csv", "result.json"),
    ],
    ids=", ".join,
)
def test_files_of_another_run_are_refused(ours: Path, names: tuple[str, ...]) -> None:
    for name in names:
        put(other_run() / name, ours / name)
    refused(ours, names)


def test_a_fold_in_the_place_of_another_is_refused_by_every_command(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(ours / "fold2", ours / "fold1")
    run_directory, other = str(ours), str(other_run())
    for command in (
        ["predict", "--run", run_directory, "x.wav"],
        ["evaluate", "--run", run_directory, "--out", str(tmp_path / "evaluation")],
        ["ensemble", run_directory, other, "--out", str(tmp_path / "ensemble")],
        ["interpret", run_directory, "--out", str(tmp_path / "interpretation")],
        ["report", run_directory, "--out", str(tmp_path / "report")],
        ["export", "--run", run_directory, "--fold", "1", "--format", "torch-export"],
        ["run", "--resume", run_directory],
    ):
        assert main(command) == 1, command
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert "fold1" in error


@pytest.mark.slow
def test_the_state_of_another_fold_or_run_is_not_resumed(tmp_path: Path) -> None:
    dataset, plan = short_plan()
    states = {}
    for name, config in {
        "seed0": plan.config.model_copy(update={"folds": (1,)}),
        "fold2": plan.config.model_copy(update={"folds": (2,)}),
        "seed9": plan.config.model_copy(update={"folds": (1,), "seed": 9}),
    }.items():
        planned = replace(plan, config=config)
        begin(dataset, planned, tmp_path / name, execution=OFTEN)
        stop_at(tmp_path / name, planned, dataset, EpochDone, 1)
        states[name] = next((tmp_path / name).glob("fold*/state.pt"))
    for target, source in itertools.permutations(states, 2):
        whole = states[target].read_bytes()
        rewrite(states[target], states[source].read_bytes())
        with pytest.raises(TrainerError, match=r"state\.pt: ") as caught:
            resume(dataset, tmp_path / target)
        assert "\n" not in str(caught.value)
        rewrite(states[target], whole)
