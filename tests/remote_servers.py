"""Real servers on loopback: S3 (moto), a web server of files, and a proxy that fails on purpose."""

import http.client
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAULTS = ("refused", "lost", "cut", "slow")
"""Answered 503 unseen; done and answered 500; done and broken off; answered after a pause."""
_HOP_BY_HOP = {"connection", "transfer-encoding", "date", "server", "content-length"}


@contextmanager
def moto_server() -> Iterator[int]:
    """An S3 server in a process of its own; its port."""
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def environment(port: int) -> dict[str, str]:
    """Return the variables that a client of the S3 server at a port needs."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "the-key",
        "AWS_SECRET_ACCESS_KEY": "the-secret",
        "AWS_REGION": "us-east-1",
    }


def make_bucket(port: int, name: str) -> None:
    """Create a bucket of the S3 server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    authorization = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request"
    connection.request("PUT", f"/{name}", headers={"Authorization": authorization})
    answer = connection.getresponse()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"no bucket: {answer.status} {answer.read()!r}")
    connection.close()


@contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """Python's own web server, which knows neither ranges nor listings we could use; its URL."""
    with _serving(partial(_Quiet, directory=str(folder))) as port:
        yield f"http://127.0.0.1:{port}"


class FaultyProxy:
    """Passes requests on to a server, and fails a share of them.

    Args:
        target: The server's port.
        shares: Of the requests, by name in `FAULTS`.
        pause_s: Of a slow one.

    Attributes:
        requests: How many came, by method.
        failed: How many were failed, by fault.
        repeated: How many of these came again.
        answer: Where not 0, the status with which all are answered.
        on_request: Called with the number of each request, from 1, before it is passed on.
        on_put: Called with the path of each PUT, before it is passed on.
    """

    def __init__(
        self,
        target: int,
        shares: Mapping[str, float] | None = None,
        pause_s: float = 2,
    ) -> None:
        self.target, self.shares, self.pause_s = target, dict(shares or {}), pause_s
        self.requests: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.repeated = 0
        self.answer = 0
        self.on_request: Callable[[int], object] = lambda number: None
        self.on_put: Callable[[str], object] = lambda path: None
        self._open: Counter[tuple[str, str]] = Counter()
        self._random, self._lock = random.Random(0), threading.Lock()  # noqa: S311

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Serve; the port."""
        with _serving(partial(_Passing, self)) as port:
            yield port

    def fault(self, method: str, path: str) -> str:
        """Count a request and choose what goes wrong with it: a fault, or nothing."""
        request = (method, path)  # whatever the range: a body cut off is asked for from there on
        with self._lock:
            self.requests[method] += 1
            if self._open[request]:
                self._open[request] -= 1
                self.repeated += 1
            drawn, number = self._random.random(), self.requests.total()
            fault = ""
            for name, share in self.shares.items():
                if 0 <= drawn < share:
                    fault = name
                drawn -= share
            if fault:
                self.failed[fault] += 1
                self._open[request] += 1
        self.on_request(number)
        if method == "PUT":
            self.on_put(path)
        return fault


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, proxy: FaultyProxy, *arguments: Any) -> None:
        self.proxy = proxy
        super().__init__(*arguments)

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.proxy.fault(self.command, self.path)
        if fault == "refused" or self.proxy.answer:
            self._answer(self.proxy.answer or 503, {}, b"")
            return
        if fault == "slow":
            time.sleep(self.proxy.pause_s)
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.target, timeout=60)
        with suppress(ConnectionError):  # the client may have given up, or been killed
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            found = connection.getresponse()
            data = found.read()
            headers = {k: v for k, v in found.getheaders() if k.lower() not in _HOP_BY_HOP}
            if self.command == "HEAD":
                headers["Content-Length"] = found.getheader("Content-Length", "0")
            if fault == "lost":
                self._answer(500, {}, b"")
            elif fault == "cut":
                if data and found.status < http.HTTPStatus.BAD_REQUEST:
                    self._answer(found.status, headers, data, keep=len(data) // 2)
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self._answer(found.status, headers, data)
        connection.close()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass  # noqa: N815  (http.server's names)

    def _answer(
        self, status: int, headers: Mapping[str, str], data: bytes, keep: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:keep])

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that was killed, or gave up, is no error of the server's."""


@contextmanager
def _serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[int]:
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("moto's server did not start")
