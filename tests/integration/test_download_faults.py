"""A dataset in one command, from a server that may do anything, to a disk that may be full."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from featurestore.cli import main
from featurestore.datasets import DATASETS, find_root
from featurestore.datasets.archives import Archive
from featurestore.errors import DatasetNotFoundError
from tests.conftest import SHARED_DATA, needs_real_audio, small_file_system
from tests.integration.conftest import the_error
from tests.integration.publishing import TOP, believe, pack, publish, start, write_esc50
from tests.loopback import Loopback, Served


def run(line: str) -> int:
    return main(line.split())


Spoil = Callable[[Path], None]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda root: (root / "audio/1-0-A-0.wav").unlink(), "of the table's 10 clips 9 are there"),
        (lambda root: (root / "audio/new.wav").write_text("x"), "not in the table: audio/new.wav"),
        (
            lambda root: (root / "audio/1-0-A-0.wav").write_text("x"),
            "not those that were published",
        ),
        (lambda root: (root / "meta/esc50.csv").unlink(), "holds no esc50"),
        (lambda root: (root / "meta/esc50.csv").write_text("x"), "no column"),
        (lambda root: (root / "out").symlink_to("/etc"), "neither a plain file nor a directory"),
        (lambda root: (root / "zeros").write_bytes(bytes(2_000_000)), "unpacks to more than"),
        (lambda root: [(root / f"{n}").touch() for n in range(120)], "more than 115 members"),
    ],
    ids=["missing", "strange", "changed", "no table", "bad table", "link", "bomb", "many"],
)
def test_an_archive_that_is_not_the_official_one_is_refused_and_removed(
    here: Path,
    published: tuple[Archive, Served],
    official: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Spoil,
    told: str,
) -> None:
    spoil(shutil.copytree(official, tmp_path / "spoiled"))
    published[1].content = pack(tmp_path / "spoiled")
    assert run("download esc50 --yes") == 1
    error = the_error(capsys)
    assert told in error
    assert "https://github.com/karolpiczak/ESC-50" in error
    assert not list((here / "data").iterdir())


def test_a_wrong_checksum_is_told_and_removed(
    here: Path,
    published: tuple[Archive, Served],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    believe(monkeypatch, published[0], checksum="md5:00000000000000000000000000000000")
    assert run("download esc50 --yes") == 1
    assert "but md5:0000" in the_error(capsys)
    with pytest.raises(DatasetNotFoundError):
        find_root("esc50")
    assert not list(here.rglob("*.gz*"))


def test_too_small_a_disk_is_told_before_anything_is_fetched(
    published: tuple[Archive, Served],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    believe(monkeypatch, published[0], num_unpacked_bytes=10**15)
    assert run("download esc50 --yes") == 1
    assert "1000000.0 GB are needed" in the_error(capsys)
    assert published[1].asked == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 kB."""
    with small_file_system(tmp_path / "disk", "160k") as place:
        yield place


def test_a_disk_that_fills_while_unpacking_is_told_and_the_next_command_unpacks(
    published: tuple[Archive, Served],
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive, served = published
    believe(monkeypatch, archive, num_bytes=len(served.content), num_unpacked_bytes=130_000)
    monkeypatch.setenv("FEATURESTORE_DATA", str(small_disk))
    assert run("download esc50 --yes") == 1
    assert "no space left on the disk" in the_error(capsys)
    with pytest.raises(DatasetNotFoundError):
        find_root("esc50")
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    assert run("download esc50 --yes") == 0
    assert len(served.asked) == 1


def test_offline_the_address_and_the_way_by_hand_are_told(
    here: Path,
    published: tuple[Archive, Served],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    believe(monkeypatch, published[0], url="http://127.0.0.1:9/abc.tar.gz")
    assert run("build --dataset esc10 --yes") == 1
    error = the_error(capsys)
    assert "http://127.0.0.1:9/abc.tar.gz: " in error
    assert "refused" in error
    assert DATASETS["esc50"].by_hand in error
    assert not list(here.rglob("*.wav"))


def test_a_broken_download_goes_on_with_the_next_command(
    here: Path, published: tuple[Archive, Served], capsys: pytest.CaptureFixture[str]
) -> None:
    served = published[1]
    served.cut, served.status = [1000, None], [0, 404, 0]
    assert run("download esc50 --yes") == 1
    assert "The same command resumes the download" in the_error(capsys)
    assert run("download esc50 --yes") == 0
    assert served.asked == ["", "bytes=1000-", "bytes=1000-"]


def wait_for(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not found():
        assert process.poll() is None
        time.sleep(0.001)


@pytest.mark.slow
def test_killed_while_fetching_and_while_unpacking_it_goes_on_and_is_never_half_there(
    here: Path, loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, served = publish(loopback, write_esc50(tmp_path / "large", num_clips=1500))
    believe(monkeypatch, archive)
    staging = here / "data/.esc50.download"
    served.pause_s = 0.002
    with start(archive, "download esc50 --yes") as process:
        partial = staging / "abc.tar.gz.partial"
        wait_for(lambda: partial.exists() and partial.stat().st_size > 2000, process)
        process.kill()
    kept = partial.stat().st_size
    with pytest.raises(DatasetNotFoundError):
        find_root("esc50")
    served.pause_s = 0
    with start(archive, "download esc50 --yes") as process:
        wait_for((staging / "unpacked" / TOP / "audio").exists, process)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 0 <= len(list((staging / "unpacked" / TOP / "audio").iterdir())) < 1500
    with pytest.raises(DatasetNotFoundError):
        find_root("esc50")
    assert run("download esc50 --yes") == 0
    assert len(list((here / "data/esc50/audio").iterdir())) == 1500
    assert served.asked == ["", f"bytes={kept}-"]
    assert not staging.exists()


def test_ctrl_c_ends_with_130_and_the_next_command_goes_on(
    here: Path, published: tuple[Archive, Served]
) -> None:
    archive, served = published
    served.pause_s = 0.01
    with start(archive, "build --dataset esc50 --yes") as process:
        partial = here / "data/.esc50.download/abc.tar.gz.partial"
        wait_for(lambda: partial.exists() and partial.stat().st_size > 1000, process)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read() if process.stderr else ""
    assert process.returncode == 130
    assert "stopped. The partial download is kept: the same command resumes" in told
    assert "Traceback" not in told
    served.pause_s = 0
    assert run("download esc50 --yes") == 0
    assert served.asked[1].startswith("bytes=")


@needs_real_audio
def test_a_part_of_urbansound8k_is_not_taken_for_the_whole(
    here: Path,
    loopback: Loopback,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = pack(SHARED_DATA / "urbansound8k-originals")
    url = loopback.add("/us8k.tar.gz", Served(content))
    official = DATASETS["urbansound8k"].archive
    assert official is not None
    believe(monkeypatch, official, url=url, num_bytes=len(content), checksum="")
    assert run("download urbansound8k --yes") == 1
    assert "of the table's 8732 clips 37 are there, of 8732 in all" in the_error(capsys)
