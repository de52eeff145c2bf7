"""The store's promises, each kept over every executor and by breaking things for real."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import soundfile
import zarr

import featurestore
from featurestore.building.block import BlockTask, block_tasks, build_block
from featurestore.building.build import BuildOptions, BuildReport, build
from featurestore.building.executors import Executor, SerialExecutor
from featurestore.building.executors.dask import DaskExecutor
from featurestore.datasets import Dataset, load_dataset
from featurestore.errors import BuildError, FingerprintError, StorageError, StoreError, StrictError
from featurestore.store.arrays import open_arrays
from featurestore.store.plan import Block
from schemas import ClipStatus, FeatureSpec
from tests.conftest import contents, small_file_system

T = TypeVar("T")
R = TypeVar("R")

pytestmark = pytest.mark.usefixtures("small_blocks")


class StopsAfter(SerialExecutor):
    """Runs some blocks and then fails, as a machine does."""

    def __init__(self, blocks: int) -> None:
        self.left = blocks

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        for task in tasks:
            if not self.left:
                raise RuntimeError("power cut")
            self.left -= 1
            yield function(task)


class Counts(SerialExecutor):
    """Remembers which tasks were run."""

    def __init__(self) -> None:
        self.tasks: list[BlockTask] = []

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        rescue: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        for task in tasks:
            assert isinstance(task, BlockTask)
            self.tasks.append(task)
            yield function(task)


def test_a_build_stores_every_clip_of_the_table_with_its_features(
    folder: Dataset, tmp_path: Path, executor: Executor
) -> None:
    report = build(folder, tmp_path / "s.zarr", executor=executor)
    assert report.manifest.counts == {"ok": 20}
    assert report.num_built == 20
    store = featurestore.open_store(tmp_path / "s.zarr")
    extract = featurestore.Extractor(FeatureSpec())
    table = store.clips()
    assert sorted(table.clip_id) == sorted(clip.clip_id for clip in folder.clips)
    for clip in folder.clips[::3]:
        expected = extract(featurestore.load(folder.root / clip.path, FeatureSpec()).waveform)
        for name, image in store.read_clip(clip.clip_id).items():
            np.testing.assert_allclose(image, expected[name], atol=5e-4, err_msg=name)


def test_every_executor_writes_the_same_bytes(
    folder: Dataset, tmp_path: Path, executor: Executor, straight: dict[str, bytes]
) -> None:
    build(folder, tmp_path / "s.zarr", executor=executor)
    assert contents(tmp_path / "s.zarr") == straight


def test_building_the_same_sounds_elsewhere_gives_the_same_bytes(
    folder: Dataset, tmp_path: Path, straight: dict[str, bytes]
) -> None:
    shutil.copytree(folder.root, tmp_path / "elsewhere")
    build(load_dataset("folder", tmp_path / "elsewhere"), tmp_path / "s.zarr")
    assert contents(tmp_path / "s.zarr") == straight


@pytest.mark.parametrize(
    ("executor", "done"),
    [
        pytest.param(name, done, marks=() if done == 3 else pytest.mark.slow)
        for name in ("serial", "process", "dask")
        for done in range(6)
    ],
    indirect=["executor"],
)
def test_a_build_that_fails_after_any_block_resumes_to_the_same_bytes(
    folder: Dataset, tmp_path: Path, executor: Executor, straight: dict[str, bytes], done: int
) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        build(folder, tmp_path / "s.zarr", executor=StopsAfter(done))
    report = build(folder, tmp_path / "s.zarr", executor=executor)
    assert report.num_built == 20 - sum((4, 4, 2, 4, 4, 2)[:done])
    assert contents(tmp_path / "s.zarr") == straight


def test_a_build_that_fails_after_every_block_resumes_to_the_same_bytes(
    folder: Dataset, tmp_path: Path, straight: dict[str, bytes]
) -> None:
    for blocks in (0, 1, 1, 1, 1, 1):
        with pytest.raises(RuntimeError, match="power cut"):
            build(folder, tmp_path / "s.zarr", executor=StopsAfter(blocks))
    assert build(folder, tmp_path / "s.zarr").num_built == 2
    assert contents(tmp_path / "s.zarr") == straight


def test_what_killed_writers_left_half_written_is_removed_when_a_build_resumes(
    folder: Dataset, tmp_path: Path, straight: dict[str, bytes]
) -> None:
    with pytest.raises(RuntimeError):
        build(folder, tmp_path / "s.zarr", executor=StopsAfter(2))
    partial = tmp_path / "s.zarr/folder/fold1/R3/full/c/0/0/0.1234abcd.partial"
    partial.write_bytes(b"half a chunk")
    build(folder, tmp_path / "s.zarr")
    assert contents(tmp_path / "s.zarr") == straight


def test_a_finished_store_is_left_alone(folder: Dataset, store: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*")}
    counts = Counts()
    report = build(folder, store, executor=counts)
    assert counts.tasks == []
    assert report.num_built == 0
    assert {p: p.stat().st_mtime_ns for p in store.rglob("*")} == before


def test_a_resumed_build_does_only_what_is_not_committed(folder: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        build(folder, tmp_path / "s.zarr", executor=StopsAfter(4))
    counts = Counts()
    build(folder, tmp_path / "s.zarr", executor=counts)
    assert [task.block for task in counts.tasks] == [Block(2, 4, 8), Block(2, 8, 10)]


def spoil(folder: Dataset) -> dict[str, ClipStatus]:
    """Make some of the files unusable; says what each should become."""
    files = sorted(folder.root.rglob("*.wav"))
    files[0].unlink()
    files[1].write_bytes(b"")
    files[2].write_text("no sound")
    files[3].write_bytes(files[3].read_bytes()[:2000])
    soundfile.write(files[4], np.full(9000, np.nan), 22_050, subtype="FLOAT")
    soundfile.write(files[5], np.zeros(9000), 22_050)
    codes = (2, 4, 3, 5, 6, 1)
    names = [str(file.relative_to(folder.root)) for file in files[:6]]
    return {name: ClipStatus(code) for name, code in zip(names, codes, strict=True)}


def test_bad_clips_get_a_code_and_are_left_out_of_every_read(
    folder: Dataset, tmp_path: Path, executor: Executor
) -> None:
    expected = spoil(folder)
    report = build(folder, tmp_path / "s.zarr", executor=executor)
    assert report.manifest.counts == {
        "ok": 15,
        "missing": 1,
        "unreadable": 1,
        "empty": 1,
        "truncated": 1,
        "non_finite": 1,
    }
    failed = {f.path: f.status for f in report.failures}
    assert failed == {path: code for path, code in expected.items() if code.failed}
    store = featurestore.open_store(tmp_path / "s.zarr")
    images, labels = store.load("R3/full")
    assert len(images) == len(labels) == len(store.clips()) == 15
    assert set(store.failures().path) == set(failed)
    assert not set(store.clips().path) & set(failed)
    silent = [path for path, code in expected.items() if code == ClipStatus.OK]
    assert store.clips().path[store.clips().peak == 0].tolist() == silent
    assert sum(not image.any() for image in images) == 1, "only the silent clip is zeros"


def test_strict_refuses_a_failed_clip_now_and_when_asked_again(
    folder: Dataset, tmp_path: Path, executor: Executor
) -> None:
    spoil(folder)
    store, strict = tmp_path / "s.zarr", BuildOptions(strict=True)
    with pytest.raises(StrictError, match="--strict accepts none"):
        build(folder, store, executor=executor, options=strict)
    with pytest.raises(StrictError, match="failed before"):
        build(folder, store, executor=executor, options=strict)
    with pytest.raises(StoreError, match="not finished"):
        featurestore.open_store(store)
    assert build(folder, store).manifest.counts["ok"] == 15


def retry(dataset: Dataset, store: Path, executor: Executor) -> BuildReport:
    return build(dataset, store, executor=executor, options=BuildOptions(retry_failed=True))


def test_retry_failed_rebuilds_only_blocks_with_failed_clips(
    folder: Dataset, tmp_path: Path, executor: Executor, straight: dict[str, bytes]
) -> None:
    victim = folder.root / folder.clips[0].path
    data = victim.read_bytes()
    victim.write_bytes(b"")
    build(folder, tmp_path / "s.zarr", executor=executor)
    victim.write_bytes(data)
    report = retry(folder, tmp_path / "s.zarr", executor)
    assert report.num_built <= 4
    assert report.failures == ()
    assert contents(tmp_path / "s.zarr") == straight


def test_a_retry_that_is_interrupted_leaves_a_store_that_says_it_is_unfinished(
    folder: Dataset, tmp_path: Path
) -> None:
    (folder.root / folder.clips[0].path).write_bytes(b"")
    build(folder, tmp_path / "s.zarr")
    with pytest.raises(RuntimeError):
        retry(folder, tmp_path / "s.zarr", StopsAfter(0))
    with pytest.raises(StoreError, match="not finished"):
        featurestore.open_store(tmp_path / "s.zarr")
    assert build(folder, tmp_path / "s.zarr").manifest.counts == {"ok": 19, "empty": 1}


def test_a_store_of_another_fingerprint_is_refused_with_the_differing_fields(
    folder: Dataset, store: Path
) -> None:
    with pytest.raises(FingerprintError, match=r"top_db is 100.0, asked for 60.0"):
        build(folder, store, FeatureSpec(top_db=60))
    (folder.root / folder.clips[0].path).unlink()
    fewer = load_dataset("folder", folder.root)
    with pytest.raises(FingerprintError, match="20 clips in the store, 19 in the dataset"):
        build(fewer, store)


def test_two_datasets_live_in_one_store(folder: Dataset, store: Path) -> None:
    other = Dataset(folder.card.model_copy(update={"name": "other"}), folder.root, folder.clips[:7])
    build(other, store)
    assert len(featurestore.open_store(store, "other").clips()) == 7
    assert len(featurestore.open_store(store, "folder").clips()) == 20
    with pytest.raises(StoreError, match="folder, other"):
        featurestore.open_store(store)


def test_a_path_that_is_something_else_is_refused_and_left_alone(
    folder: Dataset, tmp_path: Path
) -> None:
    file, full, foreign = tmp_path / "file", tmp_path / "full", tmp_path / "foreign.zarr"
    file.write_text("mine")
    full.mkdir()
    (full / "thesis.tex").write_text("mine")
    zarr.create_group(foreign)
    for path in (file, full, foreign):
        before = contents(path) if path.is_dir() else file.read_text()
        with pytest.raises(StoreError, match="not a feature store"):
            build(folder, path)
        assert (contents(path) if path.is_dir() else file.read_text()) == before


def test_a_store_of_another_format_version_is_refused(store: Path) -> None:
    root = store / "zarr.json"
    root.write_text(root.read_text().replace('"format_version": 2', '"format_version": 99'))
    with pytest.raises(StoreError, match="format version 99"):
        featurestore.open_store(store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for part of a store."""
    with small_file_system(tmp_path / "disk", "1500k") as place:
        yield place


def test_a_full_disk_is_told_and_the_build_resumes_when_there_is_room(
    folder: Dataset, small_disk: Path, executor: Executor, straight: dict[str, bytes]
) -> None:
    store = small_disk / "s.zarr"
    with pytest.raises(StorageError, match=r"no space left on the disk.*rerun the same command"):
        build(folder, store, executor=executor)
    assert any(store.glob("folder/fold*/status/c/*")), "nothing was committed before"
    more = ["mount", "-o", "remount,size=50m", str(small_disk)]
    subprocess.run(more, check=True)
    assert 0 < build(folder, store, executor=executor).num_built < 20
    assert contents(store) == straight


def test_a_disk_that_turns_read_only_is_told_and_the_build_resumes(
    folder: Dataset, small_disk: Path, straight: dict[str, bytes]
) -> None:
    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(small_disk)], check=True)

    store = small_disk / "s.zarr"
    remount("size=50m")
    with pytest.raises(RuntimeError):
        build(folder, store, executor=StopsAfter(2))
    remount("ro")
    with pytest.raises(StorageError, match=r"cannot write .*s\.zarr.*: .* read-only"):
        build(folder, store)
    with pytest.raises(StorageError, match="the file system is read-only"):
        build(folder, small_disk / "new.zarr")
    remount("rw")
    build(folder, store)
    assert contents(store) == straight
    remount("ro")
    assert build(folder, store).num_built == 0, "a finished store needs no writing"


_FEW_FILES = """
import os, resource, sys
from pathlib import Path
from featurestore.store import plan
from featurestore.building.build import build
from featurestore.datasets import load_dataset
from featurestore.errors import FeatureStoreError

plan.chunk_clips = lambda fold_sizes: 4
plan.block_clips = lambda spec, num_clips, chunk: 4
dataset = load_dataset("folder", Path(sys.argv[1]))
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
for more in range(12):
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, hard))
    try:
        build(dataset, Path(sys.argv[2]))
        print("done", more)
        break
    except FeatureStoreError as error:
        print("told", more, error)
"""


def test_too_many_open_files_is_told_and_the_build_resumes_when_more_are_allowed(
    sounds: Path, tmp_path: Path, straight: dict[str, bytes]
) -> None:
    command = [sys.executable, "-c", _FEW_FILES, str(sounds), str(tmp_path / "s.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert told[-1].startswith("done")
    assert told[:-1], "no limit was ever felt"
    assert all("too many open files" in line for line in told[:-1]), told
    assert contents(tmp_path / "s.zarr") == straight


def test_a_write_that_is_not_one_whole_block_is_refused(store: Path) -> None:
    arrays = open_arrays(store, "folder")
    for block in (Block(1, 0, 3), Block(1, 2, 6), Block(1, 0, 8), Block(1, 8, 12)):
        with pytest.raises(BuildError, match="is not one block"):
            arrays.write_block(block, {})


def test_a_block_done_twice_is_the_same_bytes(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    fingerprint = featurestore.open_store(store).fingerprint
    build_block(BlockTask(store, "folder", fingerprint, folder.root, Block(1, 0, 4)))
    assert contents(store) == straight


def test_a_scheduler_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurestore.building.executors.dask._CONNECT_TIMEOUT", "1s")
    with pytest.raises(BuildError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        DaskExecutor(scheduler="tcp://127.0.0.1:1").__enter__()


def test_the_manifest_holds_no_path_and_no_clock_time(
    folder: Dataset, straight: dict[str, bytes]
) -> None:
    text = b"".join(straight.values())
    assert str(folder.root).encode() not in text
    assert not any(key.endswith(("time", "date", "host")) for key in FeatureSpec.model_fields)


def test_the_workers_of_a_build_are_bounded_and_get_only_what_they_need(
    folder: Dataset, store: Path
) -> None:
    blocks = [Block(1, 0, 4), Block(2, 8, 10)]
    tasks = block_tasks(open_arrays(store, "folder"), folder.root, blocks)
    assert max(len(pickle.dumps(task)) for task in tasks) < 1000


def test_local_workers_leave_this_process_the_environment_it_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dask sets for its workers what halves the speed of whatever else is started from here."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    before = dict(os.environ)
    with DaskExecutor(workers=1) as executor:
        assert dict(os.environ) == before
        assert list(executor.run(os.getenv, ["MALLOC_TRIM_THRESHOLD_"])) != [None]
    assert dict(os.environ) == before
