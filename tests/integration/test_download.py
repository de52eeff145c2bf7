"""A dataset in one command, from a server that may do anything."""

import dataclasses
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from featurestore.cli import main
from featurestore.datasets import DATASETS, find_root, kinds
from featurestore.datasets.archives import Archive
from featurestore.errors import DatasetNotFoundError
from tests.conftest import SHARED_DATA, needs_real_audio, small_file_system
from tests.integration.believing import believing
from tests.integration.publishing import TOP, pack, publish, write_esc50
from tests.loopback import Loopback, Served, serving

CHECKOUT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that was published; not to be changed."""
    return write_esc50(tmp_path_factory.mktemp("published") / "esc")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.delenv("FEATURESTORE_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return place


@pytest.fixture
def published(
    server: Loopback, official: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Archive, Served]:
    """The archive that this process takes for the official one, and how it is served."""
    archive, served = publish(server, official)
    believe(monkeypatch, archive)
    return archive, served


def believe(patch: pytest.MonkeyPatch, archive: Archive, **changes: Any) -> None:
    """Make this process take `archive` for the official one."""
    patch.setattr(kinds, "DATASETS", believing(dataclasses.replace(archive, **changes)))


def run(line: str) -> int:
    return main(line.split())


def the_error(capsys: Capture) -> str:
    """The one line that says what is wrong."""
    told = capsys.readouterr().err
    assert "Traceback" not in told
    (line,) = (line for line in told.splitlines() if line.startswith("error: "))
    return line


def test_build_downloads_what_is_absent_and_finds_it_the_next_time(
    here: Path, published: tuple[Archive, Served], capsys: Capture
) -> None:
    archive, served = published
    assert run("build --dataset esc50 --workers 0 --yes") == 0
    said = capsys.readouterr()
    assert "10 of 10 clips have features" in said.out
    for fact in (archive.url, archive.licence, archive.title, str(here / "data/esc50"), "GB free"):
        assert fact in said.err
    assert run("build --dataset esc50 --workers 0") == 0
    assert run("build --dataset esc10 --workers 0") == 0
    assert served.asked == [""]
    assert os.listdir(here / "data") == ["esc50"]  # noqa: PTH208


@pytest.mark.parametrize(
    ("line", "environ", "place"),
    [
        ("download esc50 --yes", "", "data/esc50"),
        ("download esc10 --yes", "", "data/esc50"),
        ("download esc10 --yes", "sets", "sets/esc50"),
        ("download esc50 --yes --root mine/esc", "sets", "mine/esc"),
    ],
)
def test_download_puts_it_where_build_looks_or_where_it_is_told(
    here: Path,
    published: tuple[Archive, Served],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    environ: str,
    place: str,
) -> None:
    if environ:
        monkeypatch.setenv("FEATURESTORE_DATA", str(here / environ))
    assert run(line) == 0
    assert (here / place / "meta/esc50.csv").is_file()
    assert len(list((here / place / "audio").iterdir())) == 10
    assert [path.name for path in (here / place).parent.iterdir()] == [Path(place).name]
    assert run(line) == 0  # it is there
    assert len(published[1].asked) == 1


def test_what_a_kill_left_beside_a_finished_dataset_is_removed(
    here: Path, published: tuple[Archive, Served]
) -> None:
    assert run("download esc50 --yes") == 0
    (here / "data/.esc50.download").mkdir()
    (here / "data/.esc50.download/abc.tar.gz").write_text("large")
    assert run("download esc50") == 0
    assert not (here / "data/.esc50.download").exists()


@pytest.mark.parametrize("line", ["build --dataset esc50", "download esc50"])
def test_without_a_terminal_nothing_is_downloaded_unless_yes_is_given(
    here: Path,
    published: tuple[Archive, Served],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    line: str,
) -> None:
    with open(os.devnull) as nobody:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", nobody)
        assert run(line) == 1
    assert "add --yes" in the_error(capsys)
    assert published[1].asked == []
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("answer", "code"), [("y\n", 0), ("Yes\n", 0), ("n\n", 1), ("\n", 1), ("why\n", 1), ("\x04", 1)]
)
def test_the_answer_at_the_terminal_is_followed(
    here: Path,
    published: tuple[Archive, Served],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    answer: str,
    code: int,
) -> None:
    keyboard, terminal = pty.openpty()
    os.write(keyboard, answer.encode())
    with open(terminal) as stdin:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run("download esc50") == code
    os.close(keyboard)
    assert "Download it? [y/N]" in capsys.readouterr().err
    assert (here / "data").exists() == (code == 0)


def test_nothing_is_downloaded_for_a_root_that_may_be_mistyped(
    published: tuple[Archive, Served], capsys: Capture
) -> None:
    assert run("build --dataset esc50 --root dtaa/esc50 --yes") == 1
    assert "dtaa/esc50: does not exist" in the_error(capsys)
    assert published[1].asked == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("download synthetic", "is not published anywhere: it is made where it is absent"),
        ("download folder", "These can be downloaded: urbansound8k, esc50, esc10"),
        ("download esc51", "Did you mean esc50?"),
        ("download esc50 --yes --root taken", "is there already, and holds no esc50"),
        ("download esc50 --yes --root taken/file", "is a file"),
        ("download esc50 --yes --root taken/file/x", "cannot be written|cannot look"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    here: Path, published: tuple[Archive, Served], capsys: Capture, line: str, told: str
) -> None:
    (here / "taken").mkdir()
    (here / "taken/file").write_text("mine")
    assert run(line) == 1
    assert any(part in the_error(capsys) for part in told.split("|"))
    assert (here / "taken/file").read_text() == "mine"
    assert published[1].asked == []


Spoil = Callable[[Path], None]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda root: (root / "audio/1-0-A-0.wav").unlink(), "9 clips of the table's 10 are there"),
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
    capsys: Capture,
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
    capsys: Capture,
) -> None:
    believe(monkeypatch, published[0], checksum="md5:00000000000000000000000000000000")
    assert run("download esc50 --yes") == 1
    assert "but md5:0000" in the_error(capsys)
    with pytest.raises(DatasetNotFoundError):
        find_root("esc50")
    assert not list(here.rglob("*.gz*"))


def test_too_small_a_disk_is_told_before_anything_is_fetched(
    published: tuple[Archive, Served], monkeypatch: pytest.MonkeyPatch, capsys: Capture
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
    capsys: Capture,
) -> None:
    archive, served = published
    believe(monkeypatch, archive, num_bytes=len(served.content), num_unpacked_bytes=130_000)
    monkeypatch.setenv("FEATURESTORE_DATA", str(small_disk))
    assert run("download esc50 --yes") == 1
    assert "No space left on device" in the_error(capsys)
    with pytest.raises(DatasetNotFoundError):
        find_root("esc50")
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    assert run("download esc50 --yes") == 0
    assert len(served.asked) == 1


def test_offline_the_address_and_the_way_by_hand_are_told(
    here: Path,
    published: tuple[Archive, Served],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    believe(monkeypatch, published[0], url="http://127.0.0.1:9/abc.tar.gz")
    assert run("build --dataset esc10 --yes") == 1
    error = the_error(capsys)
    assert "http://127.0.0.1:9/abc.tar.gz: " in error
    assert "refused" in error
    assert DATASETS["esc50"].by_hand in error
    assert not list(here.rglob("*.wav"))


def test_a_broken_download_goes_on_with_the_next_command(
    here: Path, published: tuple[Archive, Served], capsys: Capture
) -> None:
    served = published[1]
    served.cut, served.status = [1000, None], [0, 404, 0]
    assert run("download esc50 --yes") == 1
    assert "The same command goes on from what has come" in the_error(capsys)
    assert run("download esc50 --yes") == 0
    assert served.asked == ["", "bytes=1000-", "bytes=1000-"]


def start(archive: Archive, line: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """The program in a process of its own."""
    described = json.dumps(dataclasses.asdict(archive))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.believing", described, *line.split()],
        stdin=stdin,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )


def wait_for(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not found():
        assert process.poll() is None
        time.sleep(0.001)


@pytest.mark.slow
def test_killed_while_fetching_and_while_unpacking_it_goes_on_and_is_never_half_there(
    here: Path, server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, served = publish(server, write_esc50(tmp_path / "large", num_clips=1500))
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
    assert "stopped. What has come is kept: the same command goes on" in told
    assert "Traceback" not in told
    served.pause_s = 0
    assert run("download esc50 --yes") == 0
    assert served.asked[1].startswith("bytes=")


def test_ctrl_c_at_the_question_ends_with_130(
    here: Path, published: tuple[Archive, Served]
) -> None:
    keyboard, terminal = pty.openpty()
    with start(published[0], "download esc50", terminal) as process:
        assert process.stderr is not None
        asked = b""
        while b"[y/N]" not in asked:  # it may come in pieces
            asked += os.read(process.stderr.fileno(), 1000)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert "stopped." in process.stderr.read()
    os.close(keyboard)
    os.close(terminal)
    assert process.returncode == 130
    assert not list(here.iterdir())


@needs_real_audio
def test_a_part_of_urbansound8k_is_not_taken_for_the_whole(
    here: Path, server: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    content = pack(SHARED_DATA / "urbansound8k-originals")
    url = server.add("/us8k.tar.gz", Served(content))
    official = DATASETS["urbansound8k"].archive
    assert official is not None
    believe(monkeypatch, official, url=url, num_bytes=len(content), checksum="")
    assert run("download urbansound8k --yes") == 1
    assert "37 clips of the table's 8732 are there, of 8732 in all" in the_error(capsys)


def test_the_official_archives_are_named_by_address_licence_and_checksum() -> None:
    us8k, esc50, esc10 = (DATASETS[name].archive for name in ("urbansound8k", "esc50", "esc10"))
    assert us8k is not None
    assert us8k.url == "https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz"
    assert us8k.checksum == "md5:9aa69802bbf37fb986f71ec1483a196e"
    assert esc50 is not None
    assert esc50 == esc10
    assert esc50.url.startswith("https://github.com/karolpiczak/ESC-50/archive/")
    assert len(esc50.contents) == 64
