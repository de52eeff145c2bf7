"""Worker processes that really die: the build continues, and only a poisonous file is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import featurestore
from featurestore.building.block import BlockTask, build_block
from featurestore.building.build import BuildOptions, build
from featurestore.building.executors import Executor
from featurestore.building.executors.dask import DaskExecutor
from featurestore.building.executors.processes import ProcessExecutor
from featurestore.building.isolated import run_isolated
from featurestore.datasets import Dataset
from featurestore.errors import StorageError
from featurestore.storage import LocalStorage
from featurestore.store.arrays import open_arrays
from featurestore.store.plan import Block
from schemas import ClipStatus
from tests.conftest import contents
from tests.integration.spy import Spy

pytestmark = pytest.mark.usefixtures("small_blocks")


EACH_EXECUTOR = pytest.mark.parametrize(
    "spied_workers",
    [ProcessExecutor, pytest.param(DaskExecutor, marks=pytest.mark.slow)],
    indirect=True,
)


@pytest.fixture(scope="module")
def spied_workers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Spy, Executor]]:
    """Two local workers, watched, with the settings of `featurestore build`."""
    spy = Spy(tmp_path_factory.mktemp("spy") / "place")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", spy.env["PYTHONPATH"])
        with request.param(workers=2) as executor:
            yield spy, executor


@pytest.fixture
def spied(spied_workers: tuple[Spy, Executor]) -> tuple[Spy, Executor]:
    spied_workers[0].forget()
    return spied_workers


def blocks_of(store: Path, chunks: list[str]) -> set[str]:
    """Paths of the clips in the blocks of these status chunks."""
    arrays = open_arrays(store, "folder")
    paths: set[str] = set()
    for chunk in map(Path, chunks):
        if not chunk.name.isdigit():  # still being written
            continue
        fold, start = int(chunk.parents[2].name.removeprefix("fold")), 4 * int(chunk.name)
        paths |= set(arrays.read(fold, "path", slice(start, start + 4)).tolist())
    return paths


@EACH_EXECUTOR
def test_a_worker_killed_in_mid_task_costs_its_blocks_and_nothing_committed_is_done_twice(
    folder: Dataset,
    tmp_path: Path,
    straight: dict[str, bytes],
    spied: tuple[Spy, Executor],
) -> None:
    spy, executor = spied
    store = tmp_path / "s.zarr"
    spy.kill_once(_last_to_be_built(folder), store)
    build(folder, store, executor=executor)
    assert contents(store) == straight
    opened = spy.opened(folder.root)
    committed = blocks_of(store, spy.committed())
    assert committed, "nothing was committed when the worker was killed"
    assert {path for path in committed if opened[path] != 1} == set()
    # One that it was extracting, and one whose commit was on its way.
    assert opened.total() <= 20 + 8, "more than the killed worker's blocks was done again"


def _last_to_be_built(folder: Dataset) -> str:
    """A clip of the last block, so that something is committed when it is opened."""
    from featurestore.building.manifests import plan_manifest
    from featurestore.store.cliptable import clip_tables
    from schemas import FeatureSpec

    manifest = plan_manifest(folder, FeatureSpec())
    return str(clip_tables(folder.clips, manifest)[2]["path"][-1])


@EACH_EXECUTOR
def test_a_file_that_kills_every_process_ends_as_a_crash_and_the_rest_is_built(
    folder: Dataset,
    tmp_path: Path,
    straight: dict[str, bytes],
    spied: tuple[Spy, Executor],
) -> None:
    spy, executor = spied
    store, poisonous = tmp_path / "s.zarr", folder.clips[3].path
    spy.poison(poisonous)
    report = build(folder, store, executor=executor)
    assert report.manifest.counts == {"ok": 19, "crash": 1}
    (failure,) = report.failures
    assert (failure.path, failure.status) == (poisonous, ClipStatus.CRASH)
    assert failure.detail == "killed by SIGKILL"
    opened = featurestore.open_store(store)
    assert len(opened.load("R1/mel")[0]) == 19
    assert opened.failures().path.tolist() == [poisonous]
    spy.forget()
    again = build(folder, store, executor=executor, options=BuildOptions(retry_failed=True))
    assert again.failures == ()
    assert contents(store) == straight


def test_an_error_in_an_isolated_process_is_raised_here(folder: Dataset, store: Path) -> None:
    (store / "folder/fold1/R1/mel/c/0/0/0").unlink()
    (store / "folder/fold1/R1/mel/c/0/0/0").mkdir()
    key = open_arrays(store, "folder").manifest.fingerprint
    task = BlockTask(LocalStorage(store), "folder", key, folder.root, Block(1, 0, 4))
    with pytest.raises(StorageError, match="is a directory"):
        run_isolated(build_block, task)
