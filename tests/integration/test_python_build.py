"""`featurestore.build`: the command as a function, for scripts and notebooks."""

import csv
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import typer

import featurestore
from featurestore import cli
from featurestore.cli import main
from featurestore.errors import (
    ArgumentError,
    DatasetError,
    DatasetNotFoundError,
    FeatureStoreWarning,
    FingerprintError,
    SpecError,
    StrictError,
)
from tests.conftest import contents, write_folder
from tests.once import synthetic_data

TINY: dict[str, Any] = {
    "resolutions": [
        {"name": "R1", "n_mels": 16, "num_frames": 16},
        {"name": "R2", "n_mels": 24, "num_frames": 24},
    ]
}
SPEC = """
resolutions:
- {name: R1, n_mels: 16, num_frames: 16}
- {name: R2, n_mels: 24, num_frames: 24}
"""


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty sounds with tables of them in several forms; not to be changed."""
    place = tmp_path_factory.mktemp("own")
    root = write_folder(place / "birds")
    rows = [
        (str(file.relative_to(root)), file.parts[-2], file.parts[-3])
        for file in sorted(root.rglob("*.*"))
    ]
    with (place / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("Filename", "Label", "Split"), *rows])
    parquet.write_table(pa.Table.from_pandas(frame(place)), place / "list.parquet")
    (place / "spec.yaml").write_text(SPEC)
    return place


def frame(place: Path) -> pd.DataFrame:
    return pd.read_csv(place / "list.csv")


COLUMNS = {"path": "Filename", "class": "Label", "fold": "Split"}


@pytest.fixture(scope="module")
def by_command(birds: Path) -> dict[str, bytes]:
    """The files of the store that the command makes of the table."""
    line = f"build --root {birds / 'birds'} --table {birds / 'list.csv'} --workers 0"
    columns = ",".join(f"{role}={column}" for role, column in COLUMNS.items())
    line += f" --columns {columns} --spec {birds / 'spec.yaml'} --store {birds / 's.zarr'}"
    assert main(line.split()) == 0
    return contents(birds / "s.zarr")


@pytest.mark.parametrize("kind", ["csv", "parquet", "pandas", "pathlib", "arrow", "mapping"])
def test_a_table_of_any_kind_gives_the_bytes_of_the_command(
    kind: str, birds: Path, by_command: dict[str, bytes], tmp_path: Path
) -> None:
    table = frame(birds)
    sources = {
        "csv": birds / "list.csv",
        "parquet": str(birds / "list.parquet"),
        "pandas": table,
        "pathlib": table.assign(Filename=table["Filename"].map(Path)),
        "arrow": pa.Table.from_pandas(table),
        "mapping": {name: table[name].tolist() for name in table},
    }
    built = featurestore.build(
        sources[kind],
        tmp_path / "ours.zarr",
        root=birds / "birds",
        columns=COLUMNS,
        spec=TINY,
        workers=0,
        progress=False,
    )
    assert contents(tmp_path / "ours.zarr") == by_command
    assert built.counts == {"ok": 20}
    assert built.num_built == 20
    assert built.store.read("R1/mel")[0].shape == (20, 16, 16)
    assert "path from 'Filename'" in built.understood[0]


def test_a_directory_and_a_dataset_by_name_give_the_bytes_of_the_command(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"spec": birds / "spec.yaml", "workers": 0, "progress": False}
    featurestore.build(birds / "birds/fold1", name="mine", folds=2, fold_seed=3, **options)
    featurestore.build("folder", "two.zarr", root=birds / "birds", **options)
    common = f"--root {birds / 'birds'} --workers 0 --spec {birds / 'spec.yaml'}"
    one_fold = common.replace(" --workers", "/fold1 --workers")
    assert main(f"build {one_fold} --store a --name mine --folds 2 --fold-seed 3".split()) == 0
    assert main(f"build folder {common} --store b".split()) == 0
    assert contents(Path("mine.zarr")) == contents(Path("a"))
    assert contents(Path("two.zarr")) == contents(Path("b"))


def test_a_second_call_finds_everything_and_builds_nothing(birds: Path, tmp_path: Path) -> None:
    for num_built in (20, 0):
        built = featurestore.build(
            birds / "birds", tmp_path / "s.zarr", spec=TINY, workers=0, progress=False
        )
        assert (built.num_built, built.counts) == (num_built, {"ok": 20})


def test_an_interrupt_leaves_the_store_to_be_finished_by_the_same_call(
    birds: Path, tmp_path: Path, small_blocks: None
) -> None:
    def build(store: Path) -> featurestore.BuildResult:
        return featurestore.build(birds / "birds", store, spec=TINY, workers=0, progress=False)

    stopped, straight = tmp_path / "stopped.zarr", tmp_path / "straight.zarr"

    def interrupt() -> None:
        while not list(stopped.glob("birds/fold*/R1/mel/c/*")):
            time.sleep(0.0005)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        build(stopped)
    thread.join()
    assert "the same call resumes" in caught.value.__notes__[0]
    with pytest.raises(featurestore.errors.UnfinishedError):
        featurestore.open_store(stopped)
    assert build(stopped).counts == build(straight).counts
    assert contents(stopped) == contents(straight)


@pytest.mark.slow
def test_processes_are_started_from_a_script_without_a_main_guard(
    birds: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import featurestore\n"
        f"built = featurestore.build({str(birds / 'birds')!r}, {str(tmp_path / 's.zarr')!r}, "
        f"spec={TINY!r}, workers=2)\nprint(built.counts)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "{'ok': 20}\n"), done.stderr
    assert "Sounds of birds: 20 clips" in done.stderr
    assert "20/20" in done.stderr


def test_failures_and_what_is_left_out_are_in_the_result_and_are_warned_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "birds")
    (root / "notes.txt").write_text("text")
    (root / "fold1/high/high0.wav").write_text("no sound")
    options: dict[str, Any] = {"spec": TINY, "workers": 0, "progress": False}
    with pytest.warns(FeatureStoreWarning, match="left out: 1 with suffix .txt"):
        built = featurestore.build(root, tmp_path / "s.zarr", **options)
    assert capfd.readouterr() == ("", "")
    assert built.left_out == ("1 with suffix .txt",)
    (failure,) = built.failures
    assert (failure.path, failure.status.name) == ("fold1/high/high0.wav", "UNREADABLE")
    assert built.counts == {"ok": 19, "unreadable": 1}
    with (
        pytest.raises(StrictError, match=r"high0\.wav"),
        warnings.catch_warnings(action="ignore"),
    ):
        featurestore.build(root, tmp_path / "t.zarr", strict=True, **options)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("esc5O",), DatasetError, "no dataset 'esc5O'.*did you mean 'esc50"),
        (("esc50",), DatasetNotFoundError, "featurestore download esc50"),
        ((Path("esc50"),), DatasetError, "esc50: does not exist; expected the directory"),
        (("no/where",), DatasetError, "no/where: does not exist"),
        ((17,), DatasetError, "expected root=DIR"),
        (({"path": ["a.wav"]},), DatasetError, "expected root=DIR"),
    ],
)
def test_a_source_that_cannot_be_had_is_refused_with_what_to_do(
    arguments: tuple[Any, ...],
    error: type[Exception],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(error, match=text):
        featurestore.build(*arguments, workers=0, progress=False)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"spec": {"hop_lenght": 3}},
            SpecError,
            "hop_lenght: no such field; did you mean 'hop_len",
        ),
        ({"spec": {"n_fft": "1024"}}, SpecError, "n_fft: expected a whole number"),
        ({"spec": [1]}, ArgumentError, r"spec: expected a FeatureSpec, a mapping, .* got \[1"),
        ({"variants": ["mell"]}, SpecError, "no variant 'mell'"),
        ({"columns": {"klass": "Label"}}, DatasetError, "no role \"?'?klass"),
        ({"name": "esc50"}, DatasetError, "has its own reader"),
        ({"folds": -1}, DatasetError, "folds"),
        ({"workers": -1}, featurestore.errors.BuildError, "workers: expected .* at least 0"),
        ({"workers": "two"}, ArgumentError, "workers: .* got 'two'"),
        ({"columns": "path"}, ArgumentError, "got 'path'"),
        ({"workers": 1, "scheduler": "tcp://x:1"}, featurestore.errors.BuildError, "exclude"),
        ({"root": "elsewhere"}, DatasetError, "root another"),
    ],
)
def test_arguments_that_cannot_be_are_refused_before_anything_is_written(
    options: dict[str, Any], error: type[Exception], text: str, birds: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        featurestore.build(
            birds / "birds",
            tmp_path / "s.zarr",
            **({"workers": 0, "spec": TINY} | options),
            progress=False,
        )
    assert contents(tmp_path) == {}


def test_a_store_with_other_features_is_refused_as_by_the_command(
    birds: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"workers": 0, "progress": False}
    featurestore.build(birds / "birds", tmp_path / "s.zarr", spec=TINY, **options)
    before = contents(tmp_path)
    with pytest.raises(FingerprintError, match="already contains birds, but built with different"):
        featurestore.build(
            birds / "birds", tmp_path / "s.zarr", spec=TINY | {"hop_length": 128}, **options
        )
    assert contents(tmp_path) == before


def test_the_datasets_say_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURESTORE_DATA", str(synthetic_data()))
    kinds = {kind.name: kind for kind in featurestore.datasets.all_kinds()}
    assert tuple(kinds) == featurestore.datasets.known_names()
    assert (kinds["esc50"].num_clips, kinds["esc50"].licence) == (2000, "CC BY-NC 3.0")
    made = featurestore.datasets.load_dataset("synthetic")
    assert featurestore.datasets.find_root("synthetic") == made.root


def test_the_function_takes_every_option_of_the_command() -> None:
    command = typer.main.get_command(cli.app).commands["build"]  # type: ignore[attr-defined]
    of_command = {parameter.name for parameter in command.params} - {"help"}
    # A source is a dataset or a table; what is shown, or only looked at, is the terminal's.
    of_command -= {"dataset_name", "dataset", "table", "dashboard", "dry_run", "as_json", "quiet"}
    called = {"variant": "variants", "yes": "download"}
    parameters = inspect.signature(featurestore.build).parameters
    assert {called.get(name, name) for name in of_command} == (
        set(parameters) - {"source", "progress"}
    )
