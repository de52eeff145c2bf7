"""A file comes whole or not at all, whatever the server does."""

import fcntl
import hashlib
import os
import random
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurestore.download.fetch import Patience, Progress, RemoteFile, fetch_file
from featurestore.download.partial import _try_lock
from featurestore.errors import DownloadError
from tests.loopback import Loopback, Served, serving

CONTENT = random.Random(0).randbytes(5000)  # noqa: S311
MD5 = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"
QUICK = Patience(silence_s=0.5, tries=3, pause_s=0.01)


@pytest.fixture(scope="module")
def _server() -> Iterator[Loopback]:
    with serving() as found:
        yield found


@pytest.fixture
def server(_server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    monkeypatch.setenv("no_proxy", "*")
    _server.files.clear()
    return _server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file.bin"


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def partial(target: Path) -> Path:
    return target.with_name("file.bin.partial")


def leave_partial(server: Loopback, target: Path, served: Served) -> str:
    """A transfer that broke off at 2000 of 5000 bytes; the file's address."""
    url = server.add("/file.bin", served)
    served.cut = [2000]
    with pytest.raises(DownloadError, match="broke off at 2,000 of 5,000"):
        fetch_file(RemoteFile(url), target, Patience(tries=1))
    assert partial(target).read_bytes() == served.content[:2000]
    served.cut = [None]
    served.asked.clear()
    return url


def test_a_file_comes_with_progress_and_leaves_nothing_beside_it(
    server: Loopback, target: Path
) -> None:
    seen: list[Progress] = []
    url = server.add("/file.bin", Served(CONTENT))
    fetch_file(RemoteFile(url, MD5, len(CONTENT)), target, observe=seen.append)
    assert target.read_bytes() == CONTENT
    assert names(target) == ["file.bin"]
    assert seen[-2] == Progress("downloading", 5000, 5000)


def test_a_file_that_is_there_is_not_asked_for(server: Loopback, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"mine")
    fetch_file(RemoteFile(server.url + "/none"), target)
    assert target.read_bytes() == b"mine"
    assert names(target) == ["file.bin"]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(
    server: Loopback, target: Path
) -> None:
    served = Served(CONTENT, cut=[1000, 1500, None])
    seen: list[Progress] = []
    url = server.add("/file.bin", served)
    fetch_file(RemoteFile(url, MD5), target, QUICK, seen.append)
    assert target.read_bytes() == CONTENT
    assert served.asked == ["", "bytes=1000-", "bytes=2500-"]
    assert "broke off at 1,000 of 5,000 bytes; trying again" in " ".join(p.note for p in seen)


def test_the_next_call_goes_on_from_what_has_come(server: Loopback, target: Path) -> None:
    served = Served(CONTENT)
    url = leave_partial(server, target, served)
    fetch_file(RemoteFile(url), target, QUICK)
    assert target.read_bytes() == CONTENT
    assert served.asked == ["bytes=2000-"]


@pytest.mark.parametrize("checksum", ["", MD5])
def test_a_server_that_ignores_range_sends_all_again(
    server: Loopback, target: Path, checksum: str
) -> None:
    served = Served(CONTENT, ranges=False)
    url = leave_partial(server, target, served)
    fetch_file(RemoteFile(url, checksum), target, QUICK)
    assert target.read_bytes() == CONTENT
    assert served.asked == ["bytes=2000-"]


def test_a_file_that_changed_meanwhile_is_started_again(server: Loopback, target: Path) -> None:
    served = Served(CONTENT)
    url = leave_partial(server, target, served)
    served.content, served.etag = os.urandom(4000), '"two"'
    fetch_file(RemoteFile(url), target, QUICK)
    assert target.read_bytes() == served.content


def test_a_change_that_the_server_hides_is_found_by_the_checksum(
    server: Loopback, target: Path
) -> None:
    served = Served(os.urandom(5000))
    url = leave_partial(server, target, served)
    served.content = CONTENT  # under the same ETag
    fetch_file(RemoteFile(url, MD5), target, QUICK)
    assert target.read_bytes() == CONTENT
    assert served.asked == ["bytes=2000-", ""]


def test_a_change_of_length_under_the_same_etag_starts_again(
    server: Loopback, target: Path
) -> None:
    served = Served(CONTENT)
    url = leave_partial(server, target, served)
    served.content = os.urandom(6000)
    fetch_file(RemoteFile(url), target, QUICK)
    assert target.read_bytes() == served.content


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_sign_that_it_is_the_same_all_is_fetched_again(
    server: Loopback, target: Path, etag: str
) -> None:
    served = Served(CONTENT, etag=etag)
    url = leave_partial(server, target, served)
    fetch_file(RemoteFile(url), target, QUICK)
    assert target.read_bytes() == CONTENT
    assert served.asked == [""]


def test_what_came_from_another_address_is_dropped(server: Loopback, target: Path) -> None:
    leave_partial(server, target, Served(CONTENT))
    served = Served(CONTENT[::-1])
    fetch_file(RemoteFile(server.add("/other.bin", served)), target, QUICK)
    assert target.read_bytes() == CONTENT[::-1]
    assert served.asked == [""]


@pytest.mark.parametrize("length", [4000, 6000])
def test_a_wrong_content_length_never_gives_a_file(
    server: Loopback, target: Path, length: int
) -> None:
    served = Served(CONTENT, length=length, ranges=False)
    url = server.add("/file.bin", served)
    with pytest.raises(DownloadError, match=r"damaged|broke off at 5,000 of 6,000"):
        fetch_file(RemoteFile(url, MD5), target, QUICK)
    assert not target.exists()


def test_no_content_length_is_no_obstacle(server: Loopback, target: Path) -> None:
    url = server.add("/file.bin", Served(CONTENT, length=None))
    fetch_file(RemoteFile(url, MD5), target, QUICK)
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_names_both_and_leaves_nothing(server: Loopback, target: Path) -> None:
    url = server.add("/file.bin", Served(CONTENT, cut=[1000, None]))
    with pytest.raises(DownloadError, match=f"damaged: it has {MD5}, but md5:00 was promised"):
        fetch_file(RemoteFile(url, "md5:00"), target, QUICK)
    assert not names(target)


@pytest.mark.parametrize(
    ("served", "told"),
    [
        (Served(status=[404]), "404"),
        (Served(status=[403]), "403"),
        (Served(status=[500]), "500"),
        (Served(location="/loop"), "redirect"),
        (Served(silent=True, pause_s=1.5), "timed out"),
        (Served(CONTENT, length=10**15), "GB are free; make room"),
    ],
    ids=["404", "403", "500", "loop", "silent", "huge"],
)
def test_what_cannot_be_had_is_told_with_the_address_and_leaves_nothing(
    server: Loopback, target: Path, served: Served, told: str
) -> None:
    url = server.add("/loop", served)
    with pytest.raises(DownloadError, match=told) as caught:
        fetch_file(RemoteFile(url), target, QUICK)
    assert url in str(caught.value) or "make room" in told
    assert not names(target)


def test_an_error_of_the_server_is_asked_again(server: Loopback, target: Path) -> None:
    served = Served(CONTENT, status=[500, 503, 0])
    fetch_file(RemoteFile(server.add("/file.bin", served)), target, QUICK)
    assert target.read_bytes() == CONTENT
    assert len(served.asked) == 3


def test_redirects_are_followed_and_resumed(server: Loopback, target: Path) -> None:
    served = Served(CONTENT, cut=[1000, None])
    url = server.add("/old", Served(location=server.add("/file.bin", served)))
    fetch_file(RemoteFile(url, MD5), target, QUICK)
    assert target.read_bytes() == CONTENT
    assert served.asked == ["", "bytes=1000-"]


def test_more_bytes_than_expected_are_refused(server: Loopback, target: Path) -> None:
    for length in (-1, None):
        url = server.add("/file.bin", Served(CONTENT, length=length))
        with pytest.raises(DownloadError, match="at most 4,000 were expected"):
            fetch_file(RemoteFile(url, max_bytes=4000), target, QUICK)
        assert not names(target)


def test_a_slow_server_is_waited_for_and_a_limit_keeps_what_has_come(
    server: Loopback, target: Path
) -> None:
    url = server.add("/file.bin", Served(CONTENT[:640], pause_s=0.02))
    with pytest.raises(DownloadError, match="too slow"):
        fetch_file(RemoteFile(url), target, Patience(limit_s=0.1))
    assert 0 < partial(target).stat().st_size < 640
    fetch_file(RemoteFile(url), target, QUICK)
    assert target.read_bytes() == CONTENT[:640]


def test_nobody_at_the_address_is_told_at_once(target: Path) -> None:
    seconds = []
    for _ in range(3):  # a busy machine is late now and then; a retry would be each time
        started = time.monotonic()
        with pytest.raises(DownloadError, match=r"^http://127.0.0.1:9/x: .*refused"):
            fetch_file(RemoteFile("http://127.0.0.1:9/x"), target)
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.9


def test_a_place_that_cannot_be_written_is_told(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    url = server.add("/file.bin", Served(CONTENT))
    with pytest.raises(DownloadError, match="cannot be written"):
        fetch_file(RemoteFile(url), tmp_path / "file" / "x")


def test_two_at_once_fetch_it_once(server: Loopback, target: Path) -> None:
    served = Served(CONTENT[:640], pause_s=0.02)
    url = server.add("/file.bin", served)
    threads = [
        threading.Thread(target=fetch_file, args=(RemoteFile(url), target)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT[:640]
    assert served.asked == [""]
    assert names(target) == ["file.bin"]


def test_a_file_renamed_between_its_opening_and_its_lock_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left open, it would be closed with a ResourceWarning, which fails a test."""
    path, lock = tmp_path / "file.bin.partial", fcntl.flock

    def renamed_meanwhile(file: int, how: int) -> None:
        lock(file, how)
        path.rename(tmp_path / "file.bin")

    monkeypatch.setattr(fcntl, "flock", renamed_meanwhile)
    assert _try_lock(path) is None


def test_a_full_disk_keeps_what_has_come(server: Loopback, target: Path) -> None:
    """A limit on the size of files makes the system refuse a write, as a full disk does."""
    served = Served(CONTENT * 10)
    url = server.add("/file.bin", served)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(DownloadError, match=r"cannot be written \(file too large\)"):
            fetch_file(RemoteFile(url), target, QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert partial(target).read_bytes() == served.content[:20_000]
    fetch_file(RemoteFile(url), target, QUICK)
    assert target.read_bytes() == served.content
    assert served.asked[-1] == "bytes=20000-"
