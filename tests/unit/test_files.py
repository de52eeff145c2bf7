"""`featurestore.files`: nothing is opened through a link, nothing is seen half written."""

import errno
import fcntl
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from featurestore.files import (
    LockedError,
    UnusableFileError,
    check_output,
    create_file,
    is_temporary,
    locked,
    locking,
    open_own,
    open_regular,
    read_regular,
    replace_file,
    replacing,
)
from featurestore.files.writing import _temporary
from tests.conftest import small_file_system

VICTIM = b"the only copy"


def _link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _dead_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("absent"))


def _pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def _directory(path: Path, victim: Path) -> None:
    path.mkdir()


def _device(path: Path, victim: Path) -> None:
    path.symlink_to("/dev/zero")


def _socket(path: Path, victim: Path) -> None:
    place = os.open(path.parent, os.O_RDONLY)  # an address has room for 107 characters only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{place}/{path.name}")
    os.close(place)


PLANTED = [_link, _dead_link, _pipe, _directory, _device, _socket]
each_planted = pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__[1:])

Plant = Callable[[Path, Path], None]


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "victim"
    path.write_bytes(VICTIM)
    yield path
    assert path.read_bytes() == VICTIM
    assert not (tmp_path / "absent").exists()


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"victim"}


# --- reading


@each_planted
def test_only_plain_files_are_opened_and_nothing_waits(
    tmp_path: Path, victim: Path, plant: Plant
) -> None:
    path = tmp_path / "document"
    plant(path, victim)
    for read in (lambda: open_regular(path), lambda: read_regular(path, 100)):
        with pytest.raises(UnusableFileError, match="not a plain file") as error:
            read()
        assert str(path) in str(error.value)
        assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)  # noqa: S301


@each_planted
def test_a_link_that_the_user_has_given_is_followed_to_plain_files_only(
    tmp_path: Path, victim: Path, plant: Plant
) -> None:
    path = tmp_path / "document"
    plant(path, victim)
    if plant is _link:
        assert read_regular(path, 100, follow=True) == VICTIM
    else:
        with pytest.raises((UnusableFileError, FileNotFoundError)):
            read_regular(path, 100, follow=True)


def test_what_is_larger_than_it_can_be_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(50 << 30)
    with pytest.raises(UnusableFileError, match="53,687,091,200 bytes, where at most 9") as error:
        read_regular(path, 9)
    assert error.value.errno == errno.EFBIG
    os.truncate(path, 9)
    assert read_regular(path, 9) == bytes(9)


def test_a_file_whose_size_is_not_told_is_read_up_to_the_bound() -> None:
    path = Path("/proc/self/status")  # 0 bytes, says fstat
    assert read_regular(path, 1 << 20).startswith(b"Name:")
    with pytest.raises(UnusableFileError, match="more than 9 bytes"):
        read_regular(path, 9)


def test_a_name_no_file_can_have_is_refused_like_any_other(tmp_path: Path) -> None:
    with pytest.raises(UnusableFileError, match="null"):
        open_regular(tmp_path / "a\0b")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")


# --- writing


def test_a_file_is_written_with_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    path, usual = tmp_path / "new", tmp_path / "usual"
    usual.touch()
    replace_file(path, b"one")
    assert path.stat().st_mode == usual.stat().st_mode
    replace_file(path, memoryview(b"two"))
    assert path.read_bytes() == b"two"
    assert _names(tmp_path) == {"new", "usual"}


@pytest.mark.parametrize("plant", [_link, _dead_link, _pipe, _device, _socket])
def test_what_replaces_a_special_file_is_not_written_through_it(
    tmp_path: Path, victim: Path, plant: Plant
) -> None:
    path = tmp_path / "document"
    plant(path, victim)
    replace_file(path, b"new")
    assert read_regular(path, 3) == b"new"
    assert _names(tmp_path) == {"document"}


def test_of_several_that_create_a_file_one_succeeds_and_the_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert create_file(path, b"first")
    assert not create_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert path.stat().st_nlink == 1
    assert _names(tmp_path) == {"run.json"}


@each_planted
def test_a_name_that_is_taken_by_whatever_it_be_is_not_created(
    tmp_path: Path, victim: Path, plant: Plant
) -> None:
    path = tmp_path / "run.json"
    plant(path, victim)
    assert not create_file(path, b"new")


def test_a_file_system_without_hard_links_creates_under_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object, follow_symlinks: bool = True) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert create_file(tmp_path / "run.json", b"first")
    assert not create_file(tmp_path / "run.json", b"second")
    assert (tmp_path / "run.json").read_bytes() == b"first"
    assert _names(tmp_path) == {"run.json"}


def _race(path: Path, number: int, start: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    for index in range(20):
        if create_file(path / str(index), str(number).encode()):
            (path / f"{index}.won.{number}").touch()


def test_processes_that_create_the_same_files_at_once_share_them_out(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = time.time() + 0.2
    racers = [context.Process(target=_race, args=(tmp_path, n, start)) for n in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    for index in range(20):
        (winner,) = tmp_path.glob(f"{index}.won.*")
        assert winner.name == f"{index}.won.{(tmp_path / str(index)).read_text()}"


def test_a_full_disk_leaves_the_older_file_and_no_partial_files(tmp_path: Path) -> None:
    def replace_by_library(path: Path) -> None:
        with replacing(path) as aside:
            aside.write_bytes(bytes(200_000))

    with small_file_system(tmp_path / "disk", "64k") as disk:
        for write in (
            lambda path: replace_file(path, bytes(200_000)),
            lambda path: create_file(path.with_name("other"), bytes(200_000)),
            replace_by_library,
        ):
            replace_file(disk / "picture", b"old")
            with pytest.raises(OSError, match="No space left"):
                write(disk / "picture")
            assert _names(disk) == {"picture"}
            assert (disk / "picture").read_bytes() == b"old"


def test_a_library_writes_to_a_path_that_becomes_the_file_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    with replacing(path) as aside:
        aside.write_bytes(b"new")
        assert aside.suffix == ".png"
        assert is_temporary(aside.name)
        assert not path.exists()
    assert path.read_bytes() == b"new"
    path.chmod(0o600)
    with replacing(path) as aside:
        aside.write_bytes(b"newer")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotADirectoryError), replacing(path) as aside:
        (aside / "half").write_bytes(b"half")
    assert path.read_bytes() == b"newer"
    assert _names(tmp_path) == {"picture.png"}


@each_planted
def test_an_output_that_is_no_plain_file_is_refused_and_left_alone(
    tmp_path: Path, victim: Path, plant: Plant
) -> None:
    path = tmp_path / "picture.png"
    plant(path, victim)
    before = path.lstat()
    with pytest.raises(UnusableFileError, match="not a plain file"), replacing(path):
        pytest.fail("it was made")
    assert os.path.samestat(before, path.lstat())
    assert _names(tmp_path) == {"picture.png"}


def test_a_name_as_long_as_names_get_can_be_written_and_created(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127, "a." + "s" * 250):
        replace_file(tmp_path / name, b"1")
        assert not create_file(tmp_path / name, b"2")
        with replacing(tmp_path / name) as aside:
            aside.write_bytes(b"3")
        assert (tmp_path / name).read_bytes() == b"3"


def test_only_our_own_temporary_files_are_taken_for_such() -> None:
    assert not is_temporary("notes.partial")
    assert not is_temporary(".notes.partial")
    assert not is_temporary("picture.png")
    assert is_temporary(_temporary(Path("a\nb.json")).name)


# --- locking


def test_a_lock_names_its_holder_and_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "build.lock"
    with locked(path):
        assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(LockedError, match=f"in use by process {os.getpid()} on ") as error:
            _lock(path)
        assert isinstance(pickle.loads(pickle.dumps(error.value)), LockedError)  # noqa: S301
    assert _names(tmp_path) == set()
    _lock(path)


def _lock(path: Path) -> None:
    with locked(path):
        pass


@each_planted
def test_a_lock_is_no_special_file_and_nothing_is_written_through_it(
    tmp_path: Path, victim: Path, plant: Plant
) -> None:
    path = tmp_path / "build.lock"
    plant(path, victim)
    before = path.lstat()
    with pytest.raises(UnusableFileError, match="not a plain file"):
        _lock(path)
    assert os.path.samestat(before, path.lstat())


def test_a_second_name_of_another_file_is_no_lock(tmp_path: Path, victim: Path) -> None:
    path = tmp_path / "build.lock"
    path.hardlink_to(victim)
    with pytest.raises(UnusableFileError, match="no lock of ours"):
        _lock(path)
    assert path.read_bytes() == VICTIM


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("", True),
        ("process 1 on nowhere", True),
        ("proc", True),
        ("\0" * 30, True),
        ("somebody's only copy", False),
        ("process \n" * 100, False),
    ],
)
def test_a_dead_lock_is_taken_over_and_another_file_of_its_name_is_not(
    tmp_path: Path, text: str, ours: bool
) -> None:
    path = tmp_path / "build.lock"
    path.write_text(text)
    if ours:
        _lock(path)
        assert _names(tmp_path) == set()
    else:
        with pytest.raises(UnusableFileError, match="no lock of ours"):
            _lock(path)
        assert path.read_text() == text


HOLDER = """
import sys, time
from pathlib import Path
from featurestore.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def _holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, os.fspath(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "build.lock"
    with _holder(path) as process:
        with pytest.raises(LockedError, match=f"process {process.pid} on "):
            _lock(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.exists()
        with locked(path):
            assert f"process {os.getpid()} " in path.read_text()


def test_who_waits_for_a_lock_gets_it_when_it_is_given_up(tmp_path: Path) -> None:
    path, waits = tmp_path / "build.lock", []
    with _holder(path) as process:

        def waiting() -> None:
            waits.append(1)
            process.kill()

        with locked(path, wait_s=20, waiting=waiting):
            assert waits


def test_where_no_file_can_be_locked_a_lock_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / "build.lock"):
        _lock(tmp_path / "build.lock")
    assert _names(tmp_path) == set()


def _count(path: Path, start: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    for _ in range(30):
        with locked(path / "lock", wait_s=60):
            number = int((path / "count").read_text())
            (path / "count").write_text(str(number + 1))
        with suppress(OSError):  # a killed one's
            (path / "lock").touch(exist_ok=False)


def test_never_do_two_processes_hold_a_lock(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("fork")
    start = time.time() + 0.2
    counters = [context.Process(target=_count, args=(tmp_path, start)) for _ in range(3)]
    for counter in counters:
        counter.start()
    for counter in counters:
        counter.join()
        assert counter.exitcode == 0
    assert (tmp_path / "count").read_text() == "90"


# --- files that are appended to


@each_planted
def test_only_a_plain_file_of_one_name_is_appended_to(
    tmp_path: Path, victim: Path, plant: Plant
) -> None:
    path = tmp_path / "x.partial"
    plant(path, victim)
    with pytest.raises(UnusableFileError, match="not a plain file"):
        open_own(path)
    (tmp_path / "second.partial").hardlink_to(victim)
    with pytest.raises(UnusableFileError, match="hard link"):
        open_own(tmp_path / "second.partial")


def test_a_lock_that_was_replaced_meanwhile_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look at what has the name and its removal, another may have taken it."""
    path = tmp_path / "build.lock"
    looked = locking.is_at
    calls = []

    def replaced_after_the_look(descriptor: int, name: Path) -> bool:
        found = looked(descriptor, name)
        if name == path and not calls:
            calls.append(name)
            path.unlink()
            path.write_text("process 1 on elsewhere")
        return found

    with locked(path):
        monkeypatch.setattr(locking, "is_at", replaced_after_the_look)
    assert path.read_text() == "process 1 on elsewhere"
    assert [file.name for file in tmp_path.iterdir()] == ["build.lock"]


def test_an_output_in_a_directory_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path,
) -> None:
    with small_file_system(tmp_path / "disk", "64k") as disk:
        check_output(disk / "out.csv")
        assert not list(disk.iterdir())
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(OSError, match="Read-only"):
            check_output(disk / "out.csv")
