"""A store in an object store, read and asked: what is damage, what is not, and what is told.

An S3 server runs in a process of its own; a proxy before it refuses, loses, cuts off and delays
requests.
"""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import featurestore
from featurestore.errors import CorruptError, StorageError
from featurestore.storage import RemoteStorage
from tests.integration.conftest import problems, put_all, told
from tests.remote_servers import FaultyProxy


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


def test_of_many_that_update_an_object_none_undoes_another_also_when_answers_were_lost(
    url: str, proxy: FaultyProxy
) -> None:
    storage = put_all(url, {"names": b""})
    proxy.shares = {"lost": 0.2}

    def add(name: str) -> None:
        storage.update("names", lambda data: b" ".join(sorted({*data.split(), name.encode()})))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, "abcdefghijkl"))
    proxy.shares = {}
    assert proxy.failed["lost"]
    assert storage.read("names") == b"a b c d e f g h i j k l"
    with pytest.raises(FileNotFoundError):
        storage.update("nothing", lambda data: data)


def test_an_object_that_never_stays_as_it_was_is_told(
    url: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurestore.storage.remote._MOST_UPDATES", 3)
    storage, writes = put_all(url, {"a": b"0"}), []

    def write_before(path: str) -> None:
        if len(writes) in (0, 2, 4):  # its own request comes here, too
            writes.append(path)
            storage.write("a", b"%d" % len(writes))
        else:
            writes.append(path)

    proxy.on_put = write_before
    with pytest.raises(StorageError, match=r"a changed 3 times .* conditional writes \(If-Match\)"):
        storage.update("a", lambda data: data + b"!")
    assert storage.read("a") == b"5"


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


def test_opening_a_remote_store_reads_one_document(
    url: str, proxy: FaultyProxy, straight: dict[str, bytes]
) -> None:
    put_all(url, straight)
    before = proxy.requests.copy()
    featurestore.open_store(url)
    assert (proxy.requests - before).total() <= 2
