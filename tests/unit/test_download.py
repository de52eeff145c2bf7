import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trainer.download import download
from trainer.errors import WeightsError

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


class Handler(BaseHTTPRequestHandler):
    """Answers by path: /gone with 404, /silent never, /slow forever, else with CONTENT."""

    def do_GET(self) -> None:
        if self.path == "/gone":
            self.send_error(404)
            return
        if self.path == "/silent":
            time.sleep(1)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.path == "/slow":
            self._drip()
        else:
            self.wfile.write(CONTENT[:100] if self.path.startswith("/cut") else CONTENT)

    def _drip(self) -> None:
        try:
            for byte in CONTENT[:100]:
                self.wfile.write(bytes([byte]))
                time.sleep(0.02)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


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
    ("path", "reason"),
    [
        ("/gone", "404"),
        ("/silent", "timed out"),
        ("/slow", "too slow"),
        ("/net-00000000.pth", "damaged"),
        (f"/cut-{DIGEST}.pth", "damaged"),
    ],
)
def test_failures_are_quick_and_clear_and_leave_nothing(
    server: str, tmp_path: Path, path: str, reason: str
) -> None:
    started = time.monotonic()
    with pytest.raises(WeightsError, match=reason) as caught:
        download(server + path, tmp_path / "x.pth", silence_s=0.3, limit_s=0.3)
    assert time.monotonic() - started < 5
    assert server + path in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_no_server_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="refused"):
        download("http://127.0.0.1:9/net.pth", tmp_path / "x.pth")
