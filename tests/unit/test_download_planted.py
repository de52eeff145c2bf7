"""Fixed names next to a download, in an untrusted directory."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurestore.datasets.synthetic import PARTIAL, load
from featurestore.download.fetch import RemoteFile, fetch_file
from featurestore.download.unpack import Limits, unpack
from featurestore.errors import ArchiveError, DatasetError, DownloadError
from tests.loopback import Loopback, Served, serving
from tests.unit.test_fetch import CONTENT, QUICK
from tests.unit.test_files import PLANTED, VICTIM, Plant

each_planted = pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__[1:])


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with serving() as found:
        yield found


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "victim"
    path.write_bytes(VICTIM)
    started = time.monotonic()
    yield path
    assert path.read_bytes() == VICTIM
    assert not (tmp_path / "absent").exists()
    assert time.monotonic() - started < 10


@each_planted
def test_no_partial_file_is_written_through_a_link_or_a_pipe(
    server: Loopback, tmp_path: Path, victim: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    target = tmp_path / "x.bin"
    plant(tmp_path / "x.bin.partial", victim)
    url = server.add("/file.bin", Served(CONTENT))
    with pytest.raises(DownloadError, match="not a plain file") as error:
        fetch_file(RemoteFile(url), target, QUICK)
    assert "\n" not in str(error.value)
    assert not target.exists()


def test_no_partial_file_is_a_hard_link(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "x.bin.partial").hardlink_to(victim)
    with pytest.raises(DownloadError, match="hard link"):
        fetch_file(RemoteFile("http://127.0.0.1:9/x"), tmp_path / "x.bin", QUICK)


@each_planted
def test_a_note_that_is_no_plain_file_is_not_believed_or_written_through(
    server: Loopback, tmp_path: Path, victim: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    target = tmp_path / "x.bin"
    (tmp_path / "x.bin.partial").write_bytes(CONTENT[:100])
    plant(tmp_path / "x.bin.origin", victim)
    url = server.add("/file.bin", Served(CONTENT))
    if (tmp_path / "x.bin.origin").is_dir():
        with pytest.raises(DownloadError, match="cannot be written"):
            fetch_file(RemoteFile(url), target, QUICK)
        return
    fetch_file(RemoteFile(url), target, QUICK)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("note", ["[" * 100_000, "9" * 6000, '{"url": 1}', "\ud800"])
def test_a_note_of_any_text_is_at_most_not_believed(
    server: Loopback, tmp_path: Path, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "x.bin.partial").write_bytes(CONTENT[:100])
    (tmp_path / "x.bin.origin").write_text(note, errors="surrogatepass")
    fetch_file(RemoteFile(server.add("/file.bin", Served(CONTENT))), tmp_path / "x.bin", QUICK)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


@each_planted
def test_an_archive_that_is_no_plain_file_is_refused(
    tmp_path: Path, victim: Path, plant: Plant
) -> None:
    plant(tmp_path / "a.tar.gz", victim)
    with pytest.raises(ArchiveError, match="not a plain file"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "into", Limits(10, 1000))


def test_a_synthetic_collection_is_not_made_through_links(tmp_path: Path, victim: Path) -> None:
    root, outside = tmp_path / "synthetic", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / PARTIAL).symlink_to(victim)
    (root / "audio").symlink_to(outside)
    with pytest.raises(DatasetError, match="leads out"):
        load(root)
    assert not list(outside.iterdir())


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1e3", "\xb2", "0x10", " "])
def test_a_length_that_is_no_number_is_no_length(
    server: Loopback, tmp_path: Path, length: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    url = server.add("/file.bin", Served(CONTENT, length=length))  # type: ignore[arg-type]
    fetch_file(RemoteFile(url), tmp_path / "x.bin", QUICK)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
