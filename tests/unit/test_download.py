import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurestore.download.fetch import Patience, Progress
from tests.loopback import Served, serving
from trainer.errors import WeightsError
from trainer.weights import download

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def server() -> Iterator[str]:
    """Serves CONTENT, slowly, in part or not at all as the name says."""
    with serving() as found:
        found.add("/silent", Served(silent=True, pause_s=1))
        found.add("/slow", Served(CONTENT, pause_s=0.02))
        found.add("/net-00000000.pth", Served(CONTENT))
        found.add(f"/net-{DIGEST}.pth", Served(CONTENT))
        found.add(f"/cut-{DIGEST}.pth", Served(CONTENT, cut=[100]))
        found.add(f"/once-{DIGEST}.pth", Served(CONTENT, cut=[100, None]))
        yield found.url


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def test_file_arrives_whole_in_a_folder_that_was_not_there(server: str, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "x.pth"
    download(f"{server}/net-{DIGEST}.pth", target)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["x.pth"]


def test_file_addresses_work(tmp_path: Path) -> None:
    source = tmp_path / f"net-{DIGEST}.pth"
    source.write_bytes(CONTENT)
    download(source.as_uri(), tmp_path / "x.pth")
    assert (tmp_path / "x.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "reason", "left"),
    [
        ("/gone", "404", []),
        ("/silent", "timed out", []),
        ("/slow", "too slow", ["x.pth.origin", "x.pth.partial"]),
        ("/net-00000000.pth", "damaged", []),
        (f"/cut-{DIGEST}.pth", "broke off", ["x.pth.origin", "x.pth.partial"]),
    ],
)
def test_failures_are_quick_and_clear_and_leave_no_file_but_what_to_go_on_from(
    server: str, tmp_path: Path, path: str, reason: str, left: list[str]
) -> None:
    started = time.monotonic()
    with pytest.raises(WeightsError, match=reason) as caught:
        download(server + path, tmp_path / "x.pth", Patience(0.3, 0.3, tries=1))
    assert time.monotonic() - started < 5
    assert server + path in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_the_next_call_goes_on_and_progress_is_told(server: str, tmp_path: Path) -> None:
    seen: list[Progress] = []
    with pytest.raises(WeightsError):
        download(f"{server}/once-{DIGEST}.pth", tmp_path / "x.pth", Patience(tries=1))
    download(f"{server}/once-{DIGEST}.pth", tmp_path / "x.pth", observe=seen.append)
    assert (tmp_path / "x.pth").read_bytes() == CONTENT
    assert seen[0].done > 100
    assert seen[0].total == len(CONTENT)


def test_no_server_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="refused"):
        download("http://127.0.0.1:9/net.pth", tmp_path / "x.pth")
