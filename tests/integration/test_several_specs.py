"""Several specs of one dataset in one store: `build … --as NAME`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import featurestore
from featurestore import cli
from featurestore.checking.verify import verify
from featurestore.datasets import load_dataset
from featurestore.store.documents import read_manifest
from tests.conftest import contents
from tests.integration.conftest import told

SMALL = "resolutions: [{name: S, n_mels: 8, num_frames: 12}, {name: L, n_mels: 16, num_frames: 24}]"


@pytest.fixture(scope="module")
def both(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the twenty clips by the paper's spec, and by a smaller one; not to be changed."""
    place = tmp_path_factory.mktemp("specs")
    (place / "small.yaml").write_text(SMALL)
    build = ["build", "folder", "--root", str(sounds), "--store", str(place / "s.zarr")]
    build += ["--workers", "0"]
    assert cli.main(build) == 0
    assert cli.main([*build, "--as", "small", "--spec", str(place / "small.yaml")]) == 0
    return place / "s.zarr"


def test_each_spec_has_its_own_fingerprint_and_the_same_clips(both: Path) -> None:
    paper, small = (featurestore.open_store(both, n) for n in ("folder", "folder-small"))
    assert paper.fingerprint != small.fingerprint
    assert paper.manifest.clips_sha256 == small.manifest.clips_sha256
    assert (small.name, small.dataset_name, small.manifest.spec_name) == (
        "folder-small",
        "folder",
        "small",
    )
    assert small.arrays == ("S/mel", "S/resize", "L/full")
    np.testing.assert_array_equal(paper.clips().clip_id, small.clips().clip_id)
    assert paper.manifest.format_version == 2
    assert small.manifest.format_version == 3


def test_the_first_spec_keeps_its_bytes(both: Path, sounds: Path, tmp_path: Path) -> None:
    featurestore.build(load_dataset("folder", sounds), tmp_path / "s.zarr", workers=0)
    alone, among = contents(tmp_path / "s.zarr"), contents(both)
    keys = [key for key in alone if key.startswith("folder/")]
    assert keys
    assert {key: among[key] for key in keys} == {key: alone[key] for key in keys}


def test_info_verify_and_plot_find_each_by_its_name(
    both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["info", str(both), "--json"]) == 0
    datasets = json.loads(capsys.readouterr().out)["datasets"]
    assert datasets.keys() == {"folder", "folder-small"}
    assert cli.main(["verify", str(both), "--dataset", "folder-small"]) == 0
    out = str(tmp_path / "clip.png")
    plot = ["plot", str(both), "--clip", "fold1/high/high0", "--out", out]
    assert cli.main([*plot, "--dataset", "folder-small"]) == 0
    assert "several datasets" in told(capsys, *plot)


def test_a_damaged_one_is_repaired_under_its_name(both: Path, sounds: Path, tmp_path: Path) -> None:
    store = shutil.copytree(both, tmp_path / "s.zarr")
    before = contents(store)
    (store / "folder-small/fold1/S/mel/c/0/0/0").unlink()
    (store / "folder-small/fold2/clip_id/c/0").unlink()
    (store / "folder-small/zarr.json").unlink()
    repair = ["repair", str(store), "--dataset", "folder-small", "--root", str(sounds)]
    assert cli.main(repair) == 0
    assert contents(store) == before
    assert [problem for found in verify(store, root=sounds) for problem in found] == []


def test_the_same_command_resumes_what_was_stopped(
    both: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = shutil.copytree(both, tmp_path / "s.zarr")
    again = ["build", "folder", "--root", str(sounds), "--store", str(store), "--workers", "0"]
    (tmp_path / "small.yaml").write_text(SMALL)
    assert cli.main([*again, "--as", "small", "--spec", str(tmp_path / "small.yaml")]) == 0
    assert "complete already" in capsys.readouterr().out
    assert "already contains folder-small" in told(capsys, *again, "--as", "small")
    assert contents(store) == contents(both)
    assert read_manifest(featurestore.storage.locate(store), "folder-small").spec_name == "small"  # type: ignore[attr-defined]


def test_the_trainer_takes_each_by_its_name_and_the_rates_of_its_dataset(
    both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    from trainer.cli import main

    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(
        "own:\n- {array: S/mel, epochs: 1, max_lr: {folder: 0.5, esc50: 0.25}}\n"
    )
    run = f"run --store {both} --dataset folder-small --method own --methods-file own.yaml"
    assert main([*run.split(), "--init", "random", "--device", "cpu", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "folder-small" in said.out + said.err
    assert " 0.5 " in said.out + said.err
    assert "no learning rates" not in said.out + said.err


@pytest.mark.parametrize("name", ["a/b", "..", "x y", "-x", "a" * 130])
def test_a_name_that_is_no_directory_is_refused(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    build = ["build", "folder", "--root", str(sounds), "--store", str(tmp_path / "s.zarr")]
    assert "--as" in told(capsys, *build, f"--as={name}")
    assert not (tmp_path / "s.zarr").exists()
