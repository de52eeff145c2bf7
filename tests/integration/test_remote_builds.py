"""Builds into an object store: the promises of a local one, over a network that fails.

An S3 server runs in a process of its own; a proxy before it refuses, loses, cuts off and delays
requests.
"""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import pytest

import featurestore
from featurestore.building.build import build
from featurestore.building.manifests import plan_manifest
from featurestore.datasets import Dataset, load_dataset
from featurestore.errors import FingerprintError
from featurestore.reading.info import describe
from featurestore.store.arrays import open_arrays
from featurestore.store.creation import claim_arrays
from schemas import FeatureSpec
from tests.conftest import contents, part
from tests.integration.conftest import objects, problems, put_all
from tests.remote_servers import FaultyProxy, environment, make_bucket

pytestmark = pytest.mark.usefixtures("small_blocks")

_BUILD = """
import sys
from pathlib import Path
from featurestore.store import plan
from featurestore.building.build import build
from featurestore.datasets import load_dataset

plan.chunk_clips = lambda fold_sizes: 4
plan.block_clips = lambda spec, num_clips, chunk: 4
build(load_dataset("folder", Path(sys.argv[1])), sys.argv[2])
"""


@pytest.mark.slow
def test_a_build_in_an_object_store_equals_the_local_one_in_every_object(
    url: str, folder: Dataset, straight: dict[str, bytes]
) -> None:
    report = build(folder, url)
    assert report.num_built == 20
    assert objects(url) == straight
    assert not any(b"the-secret" in data for data in objects(url).values())
    assert build(folder, url).num_built == 0, "a complete store is a no-op"
    assert problems(url) == []
    assert describe(url)["bytes"] == sum(map(len, straight.values()))


def test_a_build_survives_requests_that_fail_and_requests_that_are_slow(
    url: str,
    proxy: FaultyProxy,
    folder: Dataset,
    straight: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEATURESTORE_TIMEOUT_S", "2")
    proxy.pause_s = 3
    proxy.shares = {"refused": 0.04, "lost": 0.03, "cut": 0.03, "slow": 0.01}
    build(folder, url)
    images, _ = featurestore.open_store(url).load("R3/full")
    failed = proxy.failed.total()
    proxy.shares = {}
    assert set(proxy.failed) == {"refused", "lost", "cut", "slow"}, proxy.failed
    assert proxy.repeated == failed, "each that failed was repeated"
    assert objects(url) == straight
    assert len(images) == 20


def killed_at(proxy: FaultyProxy, number: int, root: Path, url: str) -> int:
    """Build in a process that dies of SIGKILL when its n-th request reaches the server."""
    process = subprocess.Popen([sys.executable, "-c", _BUILD, str(root), url])
    first = proxy.requests.total()

    def kill(request: int) -> None:
        if request == first + number:
            process.kill()

    proxy.on_request = kill
    code = process.wait(120)
    proxy.on_request = lambda request: None
    return code


@pytest.mark.slow
def test_a_remote_build_that_was_killed_resumes_to_the_same_objects(
    url: str, proxy: FaultyProxy, sounds: Path, straight: dict[str, bytes]
) -> None:
    assert killed_at(proxy, 100, sounds, url) == -signal.SIGKILL
    assert objects(url) != straight
    build(load_dataset("folder", sounds), url)
    assert objects(url) == straight


@pytest.fixture(scope="module")
def num_requests(s3: int, sounds: Path) -> int:
    """Return the number of requests of an undisturbed build."""
    make_bucket(s3, "undisturbed")
    proxy = FaultyProxy(s3)
    with proxy.serving() as port:
        command = [sys.executable, "-c", _BUILD, str(sounds), "s3://undisturbed/s.zarr"]
        subprocess.run(command, env={**os.environ, **environment(port)}, check=True)
    return proxy.requests.total()


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 10, 40, 70, 80, 90, 110, -20, -10, -2, -1])
def test_a_remote_build_killed_at_any_request_resumes_to_the_same_objects(
    url: str,
    proxy: FaultyProxy,
    sounds: Path,
    straight: dict[str, bytes],
    num_requests: int,
    number: int,
) -> None:
    request = number if number > 0 else num_requests + 1 + number
    for fewer in range(5):  # the builds of two processes differ by a request or two
        place = f"{url}{fewer}"
        code = killed_at(proxy, request - fewer, sounds, place)
        if code != 0:
            break
    assert code == -signal.SIGKILL
    build(load_dataset("folder", sounds), place)
    assert objects(place) == straight


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_command_line_builds_with_workers_that_find_their_own_credentials(
    url: str, proxy: FaultyProxy, sounds: Path, workers: str
) -> None:
    program = Path(sys.executable).parent / "featurestore"
    command = [program, "build", "--dataset", "folder", "--root", sounds, "--store", url]
    proxy.shares = {"refused": 0.05, "lost": 0.05}
    done = subprocess.run(
        [*map(str, command), "--workers", workers], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{url}: 20 of 20 clips have features." in done.stdout
    assert problems(url) == []


# Of about 80 requests until all is created, 4 puts the root and 6 claims the dataset.
@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=() if n == 7 else pytest.mark.slow) for n in range(1, 9)]
    + [pytest.param(n, marks=pytest.mark.slow) for n in (20, 60, 75, 80, 85, 90, 120)],
)
def test_of_two_builds_of_other_features_in_one_place_one_is_refused_and_nothing_is_mixed(
    url: str, proxy: FaultyProxy, folder: Dataset, tmp_path: Path, number: int
) -> None:
    specs = {"paper": FeatureSpec(), "other": FeatureSpec(n_fft=2048, dtype="uint8")}
    refused: dict[str, str] = {}

    def start(name: str) -> None:
        try:
            build(folder, url, specs[name])
        except FingerprintError as error:
            refused[name] = str(error)

    def meanwhile(request: int) -> None:
        if request == first + number:
            start("other")

    first = proxy.requests.total()
    proxy.on_request = meanwhile
    start("paper")
    proxy.on_request = lambda request: None
    (loser,) = refused
    (winner,) = specs.keys() - refused.keys()
    for field in ("n_fft is", "dtype is"):
        assert field in refused[loser]
    build(folder, tmp_path / "alone.zarr", specs[winner])
    assert objects(url) == contents(tmp_path / "alone.zarr")


def test_a_build_refuses_a_store_that_another_is_creating_from_other_clips(
    url: str, folder: Dataset
) -> None:
    claim_arrays(url, plan_manifest(folder, FeatureSpec()))
    fewer = replace(folder, clips=folder.clips[1:])
    with pytest.raises(
        FingerprintError, match=r"different settings: the clips are others\. Restore"
    ):
        build(fewer, url)
    assert build(folder, url).num_built == 20
    with pytest.raises(FingerprintError, match="20 clips in the store, 19 in the dataset: 1 gone"):
        build(fewer, url)


def test_two_datasets_built_at_once_into_one_place_are_both_in_it(
    url: str, proxy: FaultyProxy, folder: Dataset, tmp_path: Path
) -> None:
    """No root is put before the other build is about to put one: each has seen the same root."""
    meeting, met = Barrier(2), []

    def meet(path: str) -> None:
        if path.endswith("/s.zarr/zarr.json"):
            with suppress(BrokenBarrierError):
                met.append(meeting.wait(60))

    def start(dataset: Dataset) -> None:
        try:
            build(dataset, url)
        finally:
            meeting.abort()

    proxy.on_put = meet
    datasets = [part(folder, "one"), part(folder, "other")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(start, datasets))
    assert len(met) >= 4, "the builds never met"
    for dataset in datasets:
        build(dataset, tmp_path / "alone.zarr")
    assert objects(url) == contents(tmp_path / "alone.zarr")


@pytest.mark.slow
def test_a_dataset_made_pending_while_another_is_completed_stays_pending_in_the_root(
    url: str, proxy: FaultyProxy, folder: Dataset, straight: dict[str, bytes]
) -> None:
    put_all(url, straight)
    complete = open_arrays(url, "folder").manifest
    roots: list[str] = []

    def reopen(path: str) -> None:
        if path.endswith("/s.zarr/zarr.json"):
            roots.append(path)
            if len(roots) == 2:  # the first names the new dataset, the second completes it
                arrays = open_arrays(url, "folder")
                arrays.set_manifest(complete.model_copy(update={"state": "building"}))

    proxy.on_put = reopen
    build(part(folder, "other"), url)
    assert open_arrays(url, "folder", copies=True).manifest.state == "building"
    assert open_arrays(url, "other", copies=True).manifest.state == "complete"
    open_arrays(url, "folder").set_manifest(complete)
    assert problems(url) == []
