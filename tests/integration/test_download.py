"""A dataset in one command: asked for, put where it is looked for, and found the next time."""

import os
import pty
import signal
import sys
from pathlib import Path

import pytest

from featurestore.cli import main
from featurestore.datasets import DATASETS
from featurestore.datasets.archives import Archive
from tests.integration.conftest import the_error
from tests.integration.publishing import start
from tests.loopback import Served


def run(line: str) -> int:
    return main(line.split())


def test_build_downloads_what_is_absent_and_finds_it_the_next_time(
    here: Path, published: tuple[Archive, Served], capsys: pytest.CaptureFixture[str]
) -> None:
    archive, served = published
    assert run("build --dataset esc50 --workers 0 --yes") == 0
    said = capsys.readouterr()
    assert "10 of 10 clips have features" in said.out
    for fact in (archive.url, archive.licence, archive.title, str(here / "data/esc50"), "GB free"):
        assert fact in said.err
    assert run("build --dataset esc50 --workers 0") == 0
    assert run("build --dataset esc10 --workers 0 --partial") == 0
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
    capsys: pytest.CaptureFixture[str],
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
    capsys: pytest.CaptureFixture[str],
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
    published: tuple[Archive, Served], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("build --dataset esc50 --root dtaa/esc50 --yes") == 1
    assert "dtaa/esc50: does not exist" in the_error(capsys)
    assert published[1].asked == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("download synthetic", "is not published anywhere: it is made where it is absent"),
        ("download folder", "These can be downloaded: urbansound8k, esc50, esc10"),
        ("download esc51", "did you mean 'esc50'?"),
        ("download esc50 --yes --root taken", "is there already, and holds no esc50"),
        ("download esc50 --yes --root taken/file", "is a file"),
        ("download esc50 --yes --root taken/file/x", "cannot be written|cannot look"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    here: Path,
    published: tuple[Archive, Served],
    capsys: pytest.CaptureFixture[str],
    line: str,
    told: str,
) -> None:
    (here / "taken").mkdir()
    (here / "taken/file").write_text("mine")
    assert run(line) == 1
    assert any(part in the_error(capsys) for part in told.split("|"))
    assert (here / "taken/file").read_text() == "mine"
    assert published[1].asked == []


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


def test_the_official_archives_are_named_by_address_licence_and_checksum() -> None:
    us8k, esc50, esc10 = (DATASETS[name].archive for name in ("urbansound8k", "esc50", "esc10"))
    assert us8k is not None
    assert us8k.url == "https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz"
    assert us8k.checksum == "md5:9aa69802bbf37fb986f71ec1483a196e"
    assert esc50 is not None
    assert esc50 == esc10
    assert esc50.url.startswith("https://github.com/karolpiczak/ESC-50/archive/")
    assert len(esc50.contents) == 64
