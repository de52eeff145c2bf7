"""A store that was received: whatever lies in it, reading ends, and nothing outside is touched."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from featurestore.errors import FeatureStoreError
from featurestore.files import UnusableFileError
from featurestore.storage import LocalStorage
from featurestore.storage.bounds import MOST_BYTES, MOST_DOCUMENT_BYTES
from tests.unit.test_files import PLANTED, VICTIM, Plant

KEYS = ["zarr.json", "a/zarr.json", "a/fold1/status/c/0", "a/fold1/R1/mel/c/0/0/0"]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_bytes(VICTIM)
    return path


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path / "s")
    for key in KEYS:
        storage.write(key, b"0123456789")
    return storage


def _readings(storage: LocalStorage, key: str) -> list[Callable[[], bytes]]:
    return [
        lambda: storage.read(key),
        lambda: storage.read_range(key, 2, 3),
        lambda: storage.read_end(key, 3),
    ]


def _state(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__[1:])
@pytest.mark.parametrize("key", KEYS)
def test_no_special_file_is_read_and_writing_replaces_it(
    storage: LocalStorage, victim: Path, plant: Plant, key: str
) -> None:
    (storage.path / key).unlink()
    plant(storage.path / key, victim)
    started = time.monotonic()
    for read in _readings(storage, key):
        with pytest.raises(UnusableFileError):
            read()
    storage.create(key, b"new")
    if not (storage.path / key).is_dir():
        storage.write(key, b"new")
        assert storage.read(key) == b"new"
    assert storage.exists(key)
    assert len(list(storage.sizes())) in (len(KEYS), len(KEYS) - 1)
    assert time.monotonic() - started < 5
    assert victim.read_bytes() == VICTIM
    assert not victim.with_name("absent").exists()


@pytest.mark.parametrize("folder", ["a", "a/fold1", "a/fold1/status/c", "a/fold1/R1/mel/c/0/0"])
def test_no_folder_that_leads_out_is_read_or_written(
    storage: LocalStorage, tmp_path: Path, folder: str
) -> None:
    outside = tmp_path / "outside"
    (storage.path / folder).rename(outside)
    (storage.path / folder).symlink_to(outside)
    before = _state(outside)
    for key in KEYS:
        if key.startswith(f"{folder}/"):
            for read in _readings(storage, key):
                with pytest.raises(UnusableFileError, match=r"leads out of .*outside"):
                    read()
            for change in (storage.write, storage.create):
                with pytest.raises(UnusableFileError, match="leads out of the store"):
                    change(key, b"new")
            with pytest.raises(UnusableFileError, match="leads out of the store"):
                storage.remove(key)
    assert _state(outside) == before


def test_the_directory_may_be_a_link_and_so_may_what_leads_to_a_place_in_it(
    storage: LocalStorage, tmp_path: Path
) -> None:
    (storage.path / "b").symlink_to(storage.path / "a")
    (storage.path / "a/fold2").symlink_to("fold1")
    (storage.path / "a/fold1/status/c/1").symlink_to("0")
    (tmp_path / "link").symlink_to(storage.path)
    linked = LocalStorage(tmp_path / "link")
    for key in ("b/fold1/status/c/0", "a/fold2/R1/mel/c/0/0/0", "a/fold1/status/c/1"):
        for place in (storage, linked):
            assert [read() for read in _readings(place, key)] == [b"0123456789", b"234", b"789"]
    linked.write("b/fold1/status/c/0", b"new")
    assert storage.read("a/fold1/status/c/0") == b"new"
    assert (storage.path / "b").is_symlink()


@pytest.mark.parametrize("key", ["../victim", "a/../../victim", "/etc/passwd", "a/..", "a\0b"])
def test_no_name_leads_out(storage: LocalStorage, victim: Path, key: str) -> None:
    for use in (
        *_readings(storage, key),
        lambda: storage.write(key, b""),
        lambda: storage.remove(key),
    ):
        with pytest.raises(UnusableFileError):
            use()
    assert victim.read_bytes() == VICTIM


def test_a_link_in_a_circle_is_refused_and_listed_over(storage: LocalStorage) -> None:
    (storage.path / "a/loop").symlink_to("loop")
    (storage.path / "a/up").symlink_to("..")
    with pytest.raises(UnusableFileError):
        storage.read("a/loop")
    assert storage.read("a/up/a/up/zarr.json") == b"0123456789"
    assert {key for key, _ in storage.sizes()} == {*KEYS, "a/loop"}


def test_what_is_too_large_for_its_kind_or_for_its_reader_is_refused_unread(
    storage: LocalStorage,
) -> None:
    for key, most in ((KEYS[0], MOST_DOCUMENT_BYTES), (KEYS[1], MOST_DOCUMENT_BYTES)):
        os.truncate(storage.path / key, 50 << 30)
        with pytest.raises(UnusableFileError, match=f"at most {most:,} make sense"):
            storage.read(key)
    key = KEYS[3]
    assert storage.read(key, 10) == b"0123456789"
    with pytest.raises(UnusableFileError, match="at most 9 make sense"):
        storage.read(key, 9)
    os.truncate(storage.path / key, 50 << 30)
    with pytest.raises(UnusableFileError, match=f"at most {MOST_BYTES:,} make sense"):
        storage.read(key)
    for start, size in ((0, 40 << 30), (1, 2**63), (2**63, 1), (-1, 3), (3, -1), (2**70, 2**70)):
        with pytest.raises(UnusableFileError):
            storage.read_range(key, start, size)
    with pytest.raises(UnusableFileError):
        storage.read_end(key, 40 << 30)
    assert storage.read_range(key, 2, 3) == b"234"


def test_a_part_takes_no_more_memory_than_the_file_has(storage: LocalStorage) -> None:
    assert storage.read_range(KEYS[0], 4, 1 << 29) == b"456789"
    assert storage.read_range(KEYS[0], 400, 1 << 29) == b""
    assert storage.read_end(KEYS[0], 1 << 29) == b"0123456789"


def test_what_is_refused_is_no_error_that_stands_for_absence(storage: LocalStorage) -> None:
    (storage.path / KEYS[0]).unlink()
    os.mkfifo(storage.path / KEYS[0])
    with pytest.raises(UnusableFileError) as error:
        storage.read(KEYS[0])
    assert not isinstance(error.value, FileNotFoundError | FeatureStoreError)
    assert "\n" not in str(error.value)
