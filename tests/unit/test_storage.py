"""Places for bytes: what a place may be, and what a directory promises."""

import errno
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featurestore.errors import StorageError, StoreError
from featurestore.storage import LocalStorage, RemoteStorage, Storage, locate


@pytest.mark.parametrize(
    ("place", "storage"),
    [
        ("x/us8k.zarr", LocalStorage(Path("x/us8k.zarr"))),
        (Path("x/us8k.zarr"), LocalStorage(Path("x/us8k.zarr"))),
        ("file:///x/a%20b.zarr", LocalStorage(Path("/x/a b.zarr"))),
        ("s3://bucket/x/us8k.zarr/", RemoteStorage("s3://bucket/x/us8k.zarr")),
        ("https://host/us8k.zarr", RemoteStorage("https://host/us8k.zarr")),
        ("C:odd:name", LocalStorage(Path("C:odd:name"))),
    ],
)
def test_a_place_is_a_path_or_a_url(place: str | Path, storage: Storage) -> None:
    found = locate(place)
    assert found == storage
    assert hash(found) == hash(storage)
    assert locate(str(found)) == found, "what is printed can be given again"
    assert locate(found) is found


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("ftp://host/x", "ftp://host/x is no place for a store"),
        ("s3:///x", "no place for a store"),
        ("s3://key:hunter2@bucket/x", "credentials come from environment variables"),
        ("https://host/x?X-Amz-Signature=hunter2", "credentials come from environment variables"),
        (Path("s3://bucket/x"), "pass it as a string"),
    ],
)
def test_what_is_no_place_is_refused_without_repeating_a_password(
    place: str | Path, told: str
) -> None:
    with pytest.raises(StoreError, match=told) as refused:
        locate(place)
    assert "hunter2" not in str(refused.value)


def test_a_remote_place_pickles_without_its_client_or_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    storage = RemoteStorage("s3://bucket/x")
    assert storage._client is not None
    data = pickle.dumps(storage)
    assert b"hunter2" not in data
    assert pickle.loads(data) == storage  # noqa: S301


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf"])
def test_an_impossible_timeout_is_refused(monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    monkeypatch.setenv("FEATURESTORE_TIMEOUT_S", seconds)
    with pytest.raises(StorageError, match=r"\$FEATURESTORE_TIMEOUT_S is '.*', expected seconds"):
        RemoteStorage("s3://bucket/x").read("a")


def test_without_obstore_a_remote_store_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['obstore'] = None; from featurestore.cli import main; "
        "sys.exit(main(['info', 's3://bucket/x']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "error: s3://bucket/x needs obstore: pip install 'featurestore[remote]'\n"
    )


def test_a_part_of_a_file_is_what_the_whole_has_there(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a/b", b"0123456789")
    assert storage.read_range("a/b", 2, 3) == b"234"
    assert storage.read_range("a/b", 8, 5) == b"89"
    assert storage.read_end("a/b", 3) == b"789"
    assert storage.read_end("a/b", 30) == b"0123456789"
    for read in (storage.read, lambda key: storage.read_end(key, 1)):
        with pytest.raises(FileNotFoundError):
            read("a/c")


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    values = [bytes([n]) * 300_000 for n in range(4)]
    storage.write("x", values[0])
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(storage.read("x"))

    reader = threading.Thread(target=read)
    reader.start()
    for value in values * 5:
        storage.write("x", value)
    done.set()
    reader.join()
    assert seen <= set(values)
    assert [p.name for p in tmp_path.iterdir()] == ["x"], "nothing is left beside it"


def test_of_many_that_create_a_file_the_first_stays(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)

    def create_and_look(number: int) -> bytes:
        storage.create("claim", b"%d" % number)
        return storage.read("claim")

    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(create_and_look, range(32)))
    assert len(seen) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["claim"]


def test_a_file_system_without_links_has_files_created_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    storage = LocalStorage(tmp_path)
    for data in (b"first", b"second"):
        storage.create("claim", data)
    assert storage.read("claim") == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["claim"]


def test_a_prefix_is_a_path_not_the_beginning_of_a_name(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for key in ("a/1", "a/b/2", "ab/3"):
        storage.write(key, key.encode())
    assert dict(storage.sizes("a")) == {"a/1": 3, "a/b/2": 5}
    storage.remove("a/1")
    storage.remove("nothing")
    assert dict(storage.sizes()) == {"a/b/2": 5, "ab/3": 4}


def test_what_a_killed_writer_left_is_no_object_and_is_removed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "s")
    assert storage.is_blank()
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "zarr.json.0.partial").write_bytes(b"{")
    assert storage.is_blank()
    assert storage.remove_partial() == 1
    storage.write("zarr.json", b"{}")
    assert not storage.is_blank()


def test_an_update_writes_only_what_differs(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a/b", b"1")
    before = (tmp_path / "a/b").stat().st_ino
    storage.update("a/b", lambda data: data)
    assert (tmp_path / "a/b").stat().st_ino == before
    storage.update("a/b", lambda data: data + b"2")
    assert storage.read("a/b") == b"12"
    with pytest.raises(FileNotFoundError):
        storage.update("a/c", lambda data: data)


def test_a_listing_has_every_file_below_a_path_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (LocalStorage(tmp_path), LocalStorage(Path())):
        place.write("a/b/c", b"123")
        place.write("ab", b"1")
        assert dict(place.sizes()) == {"a/b/c": 3, "ab": 1}
        assert dict(place.sizes("a")) == {"a/b/c": 3}
        assert dict(place.sizes("nothing")) == {}
