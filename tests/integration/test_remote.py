"""A store in an object store, or behind a web server: the promises of a local one, over a network.

An S3 server runs in a process of its own; a proxy before it refuses, loses, cuts off and delays
requests.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featurestore
from featurestore import cli
from featurestore.build import build
from featurestore.creation import claim_arrays
from featurestore.datasets import Dataset, load_dataset
from featurestore.errors import CorruptError, FingerprintError, StorageError
from featurestore.info import describe
from featurestore.manifests import plan_manifest
from featurestore.storage import RemoteStorage, locate
from featurestore.verify import verify
from schemas import FeatureSpec
from tests.conftest import contents
from tests.integration.filled_store import fill_store
from tests.remote_servers import FaultyProxy, environment, file_server, make_bucket, moto_server

pytestmark = pytest.mark.usefixtures("small_blocks")

_BUILD = """
import sys
from pathlib import Path
from featurestore import plan
from featurestore.build import build
from featurestore.datasets import load_dataset

plan.CHUNK_CLIPS = 4
plan.block_clips = lambda spec, num_clips: 4
build(load_dataset("folder", Path(sys.argv[1])), sys.argv[2])
"""


@pytest.fixture(scope="session")
def s3() -> Iterator[int]:
    with moto_server() as port:
        yield port


@pytest.fixture
def proxy(s3: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """Before the S3 server; the environment leads to it. Without faults, until a test sets them."""
    proxy = FaultyProxy(s3)
    with proxy.serving() as port:
        for name, value in environment(port).items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def url(proxy: FaultyProxy, request: pytest.FixtureRequest) -> str:
    """Of a store that is not there yet, in a bucket of the test's own."""
    name = f"test-{abs(hash(request.node.nodeid))}"
    make_bucket(proxy.target, name)
    return f"s3://{name}/stores/s.zarr"


def put_all(url: str, objects: dict[str, bytes]) -> RemoteStorage:
    """Upload a store that was built elsewhere."""
    storage = RemoteStorage(url)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(storage.write, objects.keys(), objects.values()))
    return storage


def objects(url: str) -> dict[str, bytes]:
    storage = locate(url)
    return {key: storage.read(key) for key, _ in storage.sizes()}


def problems(url: str) -> list[str]:
    return [problem for found in verify(url) for problem in found]


def told(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """The one line with which a command line fails."""
    assert cli.main(command) == 1
    line = capsys.readouterr().err
    assert line.count("error:") == 1
    assert "Traceback" not in line
    assert "the-secret" not in line
    return line


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
    """Of an undisturbed build."""
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
    assert killed_at(proxy, request, sounds, url) == -signal.SIGKILL
    build(load_dataset("folder", sounds), url)
    assert objects(url) == straight


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


@pytest.mark.parametrize(
    "array", [pytest.param(a, marks=pytest.mark.slow) for a in ("R1/mel", "clip_id")] + ["status"]
)
def test_verify_finds_an_object_that_was_changed_and_one_that_is_gone(
    url: str, straight: dict[str, bytes], array: str
) -> None:
    storage = put_all(url, straight)
    key = min(k for k in straight if k.startswith(f"folder/fold1/{array}/c/"))
    data = bytearray(straight[key])
    data[len(data) // 2] ^= 4
    storage.write(key, bytes(data))
    assert any(f"fold1/{array}" in problem for problem in problems(url))
    storage.remove(key)
    assert any(f"fold1/{array}" in p or "not committed" in p for p in problems(url))
    storage.write(key, straight[key])
    assert problems(url) == []


@pytest.mark.slow
def test_a_chunk_that_is_gone_is_damage_but_one_that_cannot_be_had_is_not(
    url: str, proxy: FaultyProxy, straight: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_all(url, straight).remove("folder/fold1/R1/mel/c/1/0/0")
    monkeypatch.setenv("FEATURESTORE_TIMEOUT_S", "0.2")
    store = featurestore.open_store(url)
    with pytest.raises(CorruptError, match="rows 4 to 8: the chunk is missing"):
        store.load("R1/mel")
    for status in (403, 500, 503):
        proxy.answer = status
        with pytest.raises(StorageError, match=rf"{url}: .*{status}"):
            store.load("R1/resize")
    proxy.answer = 0
    proxy.shares, proxy.pause_s = {"slow": 1}, 0.5
    with pytest.raises(StorageError, match=r"no answer in time.*\$FEATURESTORE_TIMEOUT_S is 0.2"):
        store.load("R1/resize")


def test_of_many_that_create_an_object_the_first_stays_also_when_its_answer_was_lost(
    url: str, proxy: FaultyProxy
) -> None:
    storage = RemoteStorage(url)
    proxy.shares = {"lost": 0.3}

    def create_and_look(number: int) -> bytes:
        storage.create("claim", b"%d" % number)
        return storage.read("claim")

    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(create_and_look, range(24)))
    assert proxy.failed["lost"]
    assert len(seen) == 1


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
    with pytest.raises(FingerprintError, match=r"built otherwise: the clips are others\. Put back"):
        build(fewer, url)
    assert build(folder, url).num_built == 20
    with pytest.raises(FingerprintError, match="20 clips in the store, 19 in the dataset: 1 gone"):
        build(fewer, url)


def test_a_part_of_an_object_is_what_the_whole_has_there(url: str) -> None:
    storage = put_all(url, {"a/b": b"0123456789", "ab": b"x"})
    assert storage.read_range("a/b", 2, 3) == b"234"
    assert storage.read_range("a/b", 8, 5) == b"89"
    assert storage.read_range("a/b", 50, 5) == b""
    assert storage.read_end("a/b", 3) == b"789"
    assert storage.read_end("a/b", 30) == b"0123456789"
    assert dict(storage.sizes("a")) == {"a/b": 10}
    storage.remove("a/b")
    assert dict(storage.sizes()) == {"ab": 1}
    assert not storage.exists("a/b")
    storage.remove("a/b")


def test_what_is_refused_is_told_in_one_line(
    url: str,
    proxy: FaultyProxy,
    sounds: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEATURESTORE_TIMEOUT_S", "0.2")
    building = ("build", "--dataset", "folder", "--root", str(sounds), "--workers", "0", "--store")
    assert f"no store at {url}: `featurestore build" in told(capsys, "info", url)
    nowhere = "s3://no-such-bucket/s.zarr"
    assert f"{nowhere}: there is no such bucket" in told(capsys, "info", nowhere)
    assert f"{nowhere}: there is no such bucket" in told(capsys, *building, nowhere)
    assert "is no place for a store" in told(capsys, *building, "s4://bucket/s.zarr")
    proxy.answer = 403
    assert f"{url}: access denied (403" in told(capsys, *building, url)
    proxy.answer = 503
    assert "the server answered 503" in told(capsys, "verify", url)
    proxy.answer = 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert f"{url}: the server cannot be reached" in told(capsys, *building, url)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    assert "no credentials found: set AWS_ACCESS_KEY_ID" in told(capsys, *building, url)


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_server_that_does_not_answer(
    url: str, proxy: FaultyProxy
) -> None:
    proxy.shares, proxy.pause_s = {"slow": 1}, 30
    program = Path(sys.executable).parent / "featurestore"
    process = subprocess.Popen([str(program), "info", url], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not proxy.requests.total() and time.monotonic() < deadline:
        time.sleep(0.05)
    stopped = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode
    assert time.monotonic() - stopped < 10


def test_a_forked_process_is_told_to_be_spawned_instead_of_hanging(
    url: str, straight: dict[str, bytes]
) -> None:
    storage = put_all(url, {"a": b"1"})
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            RemoteStorage(storage.url).read("a")
        except StorageError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        assert "multiprocessing_context='spawn'" in pipe.read()


@pytest.fixture
def web(store: Path) -> Iterator[str]:
    """The finished store, behind a web server that serves its directory."""
    with file_server(store.parent) as address:
        yield f"{address}/{store.name}"


def test_a_web_server_serves_a_finished_store(
    web: str, store: Path, sounds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, here = featurestore.open_store(web), featurestore.open_store(store)
    assert there.path == web
    for array in here.arrays:
        for mine, theirs in zip(here.load(array), there.load(array), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert there.clips().clip_id.tolist() == here.clips().clip_id.tolist()
    assert cli.main(["info", web]) == 0
    assert "a web server lists nothing" in capsys.readouterr().out
    assert cli.main(["verify", web, "--root", str(sounds)]) == 0
    building = ("build", "--dataset", "folder", "--root", str(sounds), "--workers", "0", "--store")
    assert "can be read only" in told(capsys, *building, web.replace("s.zarr", "new.zarr"))
    assert "no store at" in told(capsys, "info", web.replace("s.zarr", "new.zarr"))


def test_verify_finds_damage_behind_a_web_server(web: str, store: Path) -> None:
    (store / "folder/fold2/R3/full/c/0/0/0").unlink()
    (store / "folder/fold1/R1/mel/zarr.json").write_text("{}")
    found = " ".join(problems(web))
    assert "fold2/R3/full, rows 0 to 4: the chunk is missing" in found
    assert "folder/fold1/R1/mel/zarr.json is not what the manifest demands" in found


def test_opening_a_remote_store_reads_one_document(
    url: str, proxy: FaultyProxy, straight: dict[str, bytes]
) -> None:
    put_all(url, straight)
    before = proxy.requests.copy()
    featurestore.open_store(url)
    assert (proxy.requests - before).total() <= 2


def test_shards_are_read_through_a_server_without_ranges_and_in_parts_through_one_with(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.integration.filled_store.BLOCK_CHUNKS", 3)
    here = fill_store(tmp_path / "n.zarr", (4, 6), {1: 20, 2: 5}, chunk=2)
    images, labels = here.load("R3/full")
    put_all(url, contents(tmp_path / "n.zarr"))
    with file_server(tmp_path) as address:
        for place in (url, f"{address}/n.zarr"):
            found = featurestore.open_store(place)
            np.testing.assert_array_equal(found.load("R3/full")[0], images)
            np.testing.assert_array_equal(found.load("R3/full")[1], labels)
