"""Equal bytes in two folds: a network would be evaluated on clips it has seen."""

import json
import shutil
from pathlib import Path

import pytest

from featurestore import open_store
from featurestore.datasets import load_dataset
from featurestore.datasets.base import Dataset
from schemas import FeatureSpec
from tests.conftest import write_folder
from tests.integration.trainer_store import RESOLUTIONS, TINY, build_small
from trainer.cli import main
from trainer.config import TrainingOptions
from trainer.errors import DataError
from trainer.plan import Plan, plan_run
from trainer.run import begin

SMALL = f"--arch {TINY} --init random --epochs-scale 0.01 --batch-size 4 --threads 1 --device cpu"


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two folds, of which the second has two files of the first under other names."""
    root = write_folder(tmp_path_factory.mktemp("copied") / "sounds", clips_a_class=3)
    for number, name in enumerate(("high", "low")):
        shutil.copy(root / f"fold1/{name}/{name}0.wav", root / f"fold2/{name}/copy{number}.wav")
    return root


@pytest.fixture(scope="module")
def store(copied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_small(copied, "folder", tmp_path_factory.mktemp("stores") / "copied.zarr")


def plan(store: Path, **options: object) -> Plan:
    asked = TrainingOptions(method="baseline", arch=TINY, **options)  # type: ignore[arg-type]
    return plan_run(open_store(store), asked)


def test_the_same_bytes_in_two_folds_are_refused_and_two_are_named(store: Path) -> None:
    with pytest.raises(
        DataError, match="same bytes as a clip in another fold: 2, such as"
    ) as caught:
        plan(store)
    message = str(caught.value)
    assert "0.wav (fold 1)" in message
    assert "copy" in message
    assert "(fold 2)" in message
    assert "--allow-duplicates" in message


def test_accepted_duplicates_are_recorded_in_the_config_and_as_a_warning(store: Path) -> None:
    accepted = plan(store, allow_duplicates=True)
    assert accepted.config.allow_duplicates
    assert any("same bytes as a clip in another fold" in w for w in accepted.warnings)


def test_duplicates_in_one_fold_are_no_fault(copied: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "sounds", clips_a_class=3)
    shutil.copy(root / "fold1/high/high0.wav", root / "fold1/high/again.wav")
    build_small(root, "folder", tmp_path / "s.zarr")
    accepted = plan(tmp_path / "s.zarr")
    assert not accepted.config.allow_duplicates
    assert not any("bytes" in warning for warning in accepted.warnings)


def test_a_dataset_with_official_folds_is_warned_of(copied: Path, tmp_path: Path) -> None:
    from featurestore.building.build import build

    folder = load_dataset("folder", copied)
    card = folder.card.model_copy(update={"name": "esc10"})
    spec = FeatureSpec(resolutions=RESOLUTIONS)
    build(Dataset(card, folder.root, folder.clips), tmp_path / "s.zarr", spec)
    warned = plan(tmp_path / "s.zarr").warnings
    assert any("the folds are the official ones" in warning for warning in warned)


def commands(store: Path) -> tuple[list[str], ...]:
    """`run`, `lr-find` and `sweep` with the smallest of everything."""
    settings = SMALL.replace("--", "--set ").replace("epochs-scale", "epochs_scale").split()
    pairs = zip(settings[1::3], settings[2::3], strict=True)
    sweep = " ".join(f"--set {name.replace('-', '_')}={value}" for name, value in pairs)
    find = SMALL.replace("--epochs-scale 0.01", "")
    return (
        f"run --store {store} --method baseline --fold 1 {SMALL}".split(),
        f"lr-find --store {store} --method baseline {find}".split(),
        f"sweep --store {store} --method baseline --fold 1 --out swept {sweep}".split(),
    )


def test_every_command_that_trains_refuses_them(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in commands(store):
        assert main(line) == 1
        assert "same bytes as a clip in another fold" in capsys.readouterr().err


def test_that_it_was_overruled_is_in_the_runs_record(store: Path, tmp_path: Path) -> None:
    accepted = plan(store, allow_duplicates=True, init="random")
    begin(open_store(store), accepted, tmp_path / "accepted")
    record = json.loads((tmp_path / "accepted/run.json").read_text())
    assert record["config"]["allow_duplicates"] is True
    assert any("--allow-duplicates" in warning for warning in record["warnings"])


@pytest.mark.slow
def test_every_command_that_trains_can_be_overruled(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, find, sweep = commands(store)
    assert main([*run, "--out", "accepted", "--allow-duplicates"]) == 0
    assert main([*find, "--allow-duplicates"]) == 0
    assert main([*sweep, "--set", "allow-duplicates=true"]) == 0
