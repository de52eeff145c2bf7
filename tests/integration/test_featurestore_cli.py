"""Command lines as a user types them, with their exit codes and what they say."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featurestore import open_store
from featurestore.cli import main


@pytest.fixture
def here(tmp_path: Path, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a folder dataset in ./sounds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATURESTORE_DATA", raising=False)
    shutil.copytree(sounds, tmp_path / "sounds")
    return tmp_path


def run(line: str) -> int:
    return main(line.split())


BUILD = "build --dataset folder --root sounds --workers 0"


def test_build_info_verify_plot(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{BUILD} --store s.zarr") == 0
    assert "20 of 20 clips have features" in capsys.readouterr().out
    assert run(f"{BUILD} --store s.zarr") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run("info s.zarr") == 0
    told = capsys.readouterr().out
    assert "fold" in told
    assert "the paper's" in told
    assert run("info s.zarr --json") == 0
    described = json.loads(capsys.readouterr().out)
    assert described["datasets"]["folder"]["counts"] == {"ok": 20}
    assert run("verify s.zarr") == 0
    assert "everything is there" in capsys.readouterr().out
    assert run("verify s.zarr --root sounds") == 0
    assert run("plot s.zarr --clip fold1/high/high0.wav --out c.png") == 0
    assert (here / "c.png").read_bytes().startswith(b"\x89PNG")


def test_a_damaged_peak_makes_the_number_of_silent_clips_unknown_and_not_zero(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store / "folder/fold1/peak/c/0").write_bytes(b"damaged")
    assert main(["info", str(store)]) == 0
    assert "how many are silent is unknown" in " ".join(capsys.readouterr().out.split())
    assert main(["info", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["datasets"]["folder"]["silent"] is None


def test_silent_clips_are_counted_by_build_and_info(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tone = np.sin(np.arange(11_025) / 20)
    place = here / "sounds" / "fold1" / "high"
    soundfile.write(place / "none.wav", np.zeros(11_025), 22_050)
    soundfile.write(place / "cancels.wav", np.stack([tone, -tone], 1), 22_050)
    assert run(f"{BUILD} --store s.zarr") == 0
    said = "22 of 22 clips have features; 2 of them silent, or stereo that cancels to silence"
    assert said in capsys.readouterr().out
    assert run("info s.zarr") == 0
    assert "2 of them silent" in capsys.readouterr().out.replace("\n", " ")
    assert run("info s.zarr --json") == 0
    assert json.loads(capsys.readouterr().out)["datasets"]["folder"]["silent"] == 2


def test_what_a_directory_holds_beside_its_clips_is_said_before_the_build(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "sounds/fold1/high/x.m4a").touch()
    (here / "sounds/fold2/low/gone.wav").symlink_to("nowhere")
    assert run(f"{BUILD} --store s.zarr") == 0
    assert "left out: 1 dead links, 1 with suffix .m4a" in capsys.readouterr().err


def test_the_default_store_is_named_after_the_dataset(here: Path) -> None:
    assert run("build --dataset folder --root sounds --workers 0") == 0
    assert (here / "folder.zarr/zarr.json").exists()


def test_a_spec_file_changes_the_features(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "spec.yaml").write_text("dtype: uint8\nvariants: [mel]\n")
    assert run(f"{BUILD} --spec spec.yaml") == 0
    capsys.readouterr()
    assert run("info folder.zarr --json") == 0
    spec = json.loads(capsys.readouterr().out)["datasets"]["folder"]["spec"]
    assert (spec["dtype"], spec["variants"]) == ("uint8", ["mel"])


def test_variants_are_stored_beside_the_specs_own_verified_and_drawn(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (here / "sounds").rglob("*[1-9].*"):  # a clip per class and fold is left
        file.unlink()
    (here / "spec.yaml").write_text(
        "variants: [mel]\nmel_scale: torchaudio-2019\nresolutions:\n"
        "- {name: R1, n_mels: 64, num_frames: 128}\n- {name: R2, n_mels: 128, num_frames: 300}\n"
    )
    more = "--variant resize-bicubic --variant mel-bands --variant mel-time"
    assert run(f"{BUILD} --spec spec.yaml {more}") == 0
    stored = open_store("folder.zarr").manifest.spec.arrays
    assert {n: shape for n, shape in stored.items() if n.startswith("R1/")} == {
        "R1/mel": (64, 128),
        "R1/mel-bands": (64, 300),
        "R1/mel-time": (128, 128),
        "R1/resize-bicubic": (64, 128),
    }
    assert run("verify folder.zarr --root sounds") == 0
    assert run("plot folder.zarr --clip fold1/high/high0.wav --out c.png") == 0
    capsys.readouterr()
    assert run(f"{BUILD} --spec spec.yaml") == 1
    assert (
        'variants is ["mel", "mel-bands", "mel-time", "resize-bicubic"]' in capsys.readouterr().err
    )


def test_failed_clips_are_listed_with_their_reason(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "sounds/fold1/high/high0.wav").write_text("text")
    assert run(BUILD) == 0
    told = capsys.readouterr().out
    assert "19 of 20 clips have features; 1 failed" in told
    assert "1 × the file is not audio, or is damaged: fold1/high/high0.wav (it " in told
    assert run("info folder.zarr") == 0
    assert "damaged: fold1/high/high0.wav\n" in capsys.readouterr().out
    assert run(f"{BUILD} --strict") == 1
    assert run(f"{BUILD} --retry-failed") == 0
    assert run("plot folder.zarr --clip fold1/high/high0.wav") == 1
    assert "has no features" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("build --dataset urbansound8k", 1, "./data/urbansound8k"),
        ("build --dataset urbansound8k", 1, "zenodo"),
        ("build --dataset urbansoud8k", 1, "did you mean 'urbansound8k'?"),
        ("build --dataset esc50 --root nowhere", 1, "nowhere"),
        ("build --dataset esc50 --root sounds", 1, "esc50.csv"),
        ("build", 2, "--dataset"),
        ("build --dataset folder --root sounds --workers -1", 2, "--workers"),
        ("build --dataset folder --root sounds --workers two", 2, "--workers"),
        (f"{BUILD} --scheduler tcp://127.0.0.1:1", 2, "exclude each other"),
        ("build --dataset folder --root sounds --sped x", 2, "--sped"),
        (f"{BUILD} --spec nope.yaml", 1, "nope.yaml"),
        (f"{BUILD} --variant resize-aera", 1, "did you mean 'resize-area'?"),
        ("bild", 2, "Did you mean"),
        ("info nowhere.zarr", 1, "no store at nowhere.zarr"),
        ("info sounds", 1, "is not a feature store"),
        ("verify nowhere.zarr", 1, "no store at nowhere.zarr"),
        ("plot nowhere.zarr --clip x", 1, "no store at nowhere.zarr"),
        ("plot", 2, "STORE"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, code: int, told: str
) -> None:
    assert run(line) == code
    captured = capsys.readouterr()
    assert told in captured.err
    assert "Traceback" not in captured.err
    if code == 1:
        errors = [text for text in captured.err.splitlines() if text.startswith("error: ")]
        assert len(errors) == 1


def test_verify_ends_with_1_and_a_list(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store / "folder/fold1/R1/mel/c/0/0/0").unlink()
    (store / "folder/fold2/peak/c/0").unlink()
    assert main(["verify", str(store)]) == 1
    told = capsys.readouterr().out
    assert "fold1/R1/mel" in told
    assert "fold2/peak" in told
    assert "2 problems" in told


def test_plotting_into_a_directory_that_does_not_exist_is_told(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plot", str(store), "--clip", "fold1/high/high0.wav", "--out"]
    assert main([*command, "no/where.png"]) == 1
    assert main([*command, "pic.xyz"]) == 1
    assert "pic.xyz" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["", "--help", "build --help", "datasets"])
def test_help_and_the_list_of_datasets_work(arguments: str) -> None:
    assert run(arguments) in (0, 2)


@pytest.mark.slow
def test_the_installed_program_builds_the_synthetic_set_with_dask(here: Path) -> None:
    program = Path(sys.executable).parent / "featurestore"
    command = [program, "build", "--dataset", "synthetic", "--workers", "2"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert "144 of 144 clips have features" in done.stdout
    assert "clips/s" in done.stderr
    assert (here / "synthetic.zarr/synthetic/zarr.json").exists()
    assert (here / "data/synthetic").is_dir()


def test_a_store_with_a_similar_name_next_to_a_missing_one_is_suggested(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(store, tmp_path / "esc10.zarr")
    (tmp_path / "esc11.zar").mkdir()  # is no store
    monkeypatch.chdir(tmp_path)
    for given in ("esc11.zarr", "esc10", str(tmp_path / "ecs10.zarr")):
        assert main(["info", given]) == 1
        assert capsys.readouterr().err.endswith("makes one; did you mean 'esc10.zarr'?\n")
    for given in ("birds", "nowhere/esc10.zarr"):
        assert main(["info", given]) == 1
        assert "did you mean" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_matplotlibrc_of_the_user_or_of_the_directory_changes_no_picture(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    style = """
axes.facecolor: red
lines.linewidth: 40
font.size: 3
font.sans-serif: Nothing
text.usetex: True
savefig.dpi: 13
savefig.format: pdf
savefig.transparent: True
image.cmap: gray
axes.unicode_minus: False
no.such.key: 1
"""
    (tmp_path / "matplotlibrc").write_text(style)
    monkeypatch.chdir(tmp_path)
    command = ["plot", str(store), "--clip", "fold1/high/high0.wav", "--out"]
    # Matplotlib reads the file as it is imported, which it was in this process: elsewhere.
    assert main([*command, "plain.png"]) == 0
    program = [sys.executable, "-m", "featurestore"]
    subprocess.run([*program, *command, "styled.png"], check=True, capture_output=True)
    assert Path("plain.png").read_bytes() == Path("styled.png").read_bytes()
