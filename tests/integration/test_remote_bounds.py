"""A server that is broken or hostile: reading from it ends, in bounded memory, with one line."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from featurestore.errors import StorageError
from featurestore.files import UnusableFileError
from featurestore.storage import RemoteStorage
from featurestore.storage.listing import Listing
from tests.integration.conftest import told

Answer = Callable[[BaseHTTPRequestHandler], None]


def _send(handler: BaseHTTPRequestHandler, body: bytes, **headers: object) -> None:
    handler.send_response(200)
    for name, value in {"Content_Length": len(body), **headers}.items():
        if value is not None:
            handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def huge(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, b"", Content_Length=1 << 40)
    endless(handler)


def endless(handler: BaseHTTPRequestHandler) -> None:
    while True:
        handler.wfile.write(b"x" * 65536)


def chunked(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, b"", Content_Length=None, Transfer_Encoding="chunked")
    while True:
        handler.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def digits(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, b"x", Content_Length="9" * 5000)


def garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\xff\x1b[31m\r\n\r\n")


def early_hints(handler: BaseHTTPRequestHandler) -> None:
    while True:
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def slow_body(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, b"", Content_Length=100_000)
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.02)


def slow_header(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X: y\r\n")
        time.sleep(0.02)


def long_header(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")  # in pieces: the server's memory counts, too
    for _ in range(160):
        handler.wfile.write(b"y" * 65536)
    handler.wfile.write(b"\r\nContent-Length: 3\r\n\r\nabc")


def redirect(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def bad_date(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, b"abc", Last_Modified="\x1b[31m" + "soon" * 1000)


def another_range(handler: BaseHTTPRequestHandler) -> None:
    if "Range" not in handler.headers:
        return huge(handler)
    handler.send_response(206)
    handler.send_header("Content-Range", "bytes 0-9999999/10000000")
    handler.send_header("Content-Length", "10000000")
    handler.end_headers()
    return endless(handler)


HOSTILE = [
    huge,
    chunked,
    digits,
    garbage,
    early_hints,
    slow_body,
    slow_header,
    long_header,
    redirect,
    bad_date,
    another_range,
]
SLOW = [early_hints, slow_header]
"""Asked again and again, until the time is over."""


class _Hostile(BaseHTTPRequestHandler):
    answer: Answer

    def do_GET(self) -> None:
        with suppress(OSError):
            type(self).answer(self)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], int]]:
    monkeypatch.setenv("FEATURESTORE_TIMEOUT_S", "0.1")
    monkeypatch.setenv("no_proxy", "*")
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> int:
        handler = type("Handler", (_Hostile,), {"answer": staticmethod(answer)})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server.server_address[1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: answer.__name__)
def test_no_answer_hangs_a_reader_or_eats_its_memory(
    serve: Callable[[Answer], int], answer: Answer
) -> None:
    storage = RemoteStorage(f"http://127.0.0.1:{serve(answer)}/s")
    started, before = time.monotonic(), psutil.Process().memory_info().rss
    readings = [
        lambda: storage.read("a/zarr.json"),
        lambda: storage.read("a/c/0", max_bytes=100),
        lambda: storage.read_range("a/c/0", 2, 3),
        lambda: storage.read_end("a/c/0", 3),
    ]
    for read in readings[: 1 if answer in SLOW else None]:
        with pytest.raises((StorageError, UnusableFileError)) as error:
            read()
        assert f"{storage}" in str(error.value)
        assert len(str(error.value)) < 400
        assert str(error.value).isprintable()
    assert time.monotonic() - started < 20
    assert (
        psutil.Process().memory_info().rss - before < 200 << 20
    )  # the hostile server, in this process, included


@pytest.mark.parametrize("answer", [huge, digits, garbage, bad_date], ids=lambda a: a.__name__)
def test_a_program_says_in_one_line_what_such_a_server_does(
    serve: Callable[[Answer], int], answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{serve(answer)}/s.zarr"
    for command in ("info", "verify"):
        line = told(capsys, command, url)
        assert url in line
        assert line.isprintable()


def test_what_is_larger_than_its_reader_expects_is_refused(serve: Callable[[Answer], int]) -> None:
    storage = RemoteStorage(f"http://127.0.0.1:{serve(lambda h: _send(h, b'0123456789'))}/s")
    assert storage.read("a", 10) == b"0123456789"
    with pytest.raises(UnusableFileError, match=r"/s/a: it has 10 bytes, where at most 9"):
        storage.read("a", 9)
    assert storage.read_end("a", 0) == b""


LISTED = (
    "<ListBucketResult><KeyCount>{count}</KeyCount><IsTruncated>true</IsTruncated>"
    "<NextContinuationToken>t</NextContinuationToken>{entries}</ListBucketResult>"
)
ENTRY = (
    "<Contents><Key>s/{key}</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified>"
    '<ETag>"1"</ETag><Size>{size}</Size></Contents>'
)


def _page(first: int, size: object = 1, count: int = 1000) -> bytes:
    entries = "".join(ENTRY.format(key=f"{first + i:09}", size=size) for i in range(count))
    return LISTED.format(count=count, entries=entries).encode()


def _again(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, _page(0))


def _on_and_on(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, _page(time.monotonic_ns()))


def _nothing_at_all(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, _page(0, count=0))


def _too_many_digits(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, _page(0, "9" * 5000, count=1))


def _no_list(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, b"\x1b[31m the-secret <a>\n" * 1000)


@pytest.mark.parametrize(
    "answer",
    [_again, _on_and_on, _nothing_at_all, _too_many_digits, _no_list],
    ids=lambda answer: answer.__name__,
)
def test_no_listing_is_without_end(
    serve: Callable[[Answer], int], answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurestore.storage.listing._MOST_OBJECTS", 20_000)
    monkeypatch.setattr("featurestore.storage.requests._MAX_PAUSE_S", 0.5)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{serve(answer)}",
        "AWS_ACCESS_KEY_ID": "the-key",
        "AWS_SECRET_ACCESS_KEY": "the-secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    started = time.monotonic()
    with pytest.raises(StorageError, match="s3://bucket/s: ") as error:
        list(RemoteStorage("s3://bucket/s").sizes())
    assert time.monotonic() - started < 10
    assert str(error.value).isprintable()
    assert "the-secret" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_listing_that_comes_slower_than_any_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurestore.storage.requests.longest_s", lambda: 0.05)
    listing, number = Listing(), iter(range(1000))

    def page() -> list[dict[str, str]]:
        time.sleep(0.02)
        return [{"path": str(next(number))}]

    with pytest.raises(StorageError, match="has no end"):
        list(iter(lambda: listing.next_page("s3://bucket/s", page), ()))  # type: ignore[arg-type]
    assert next(number) < 10
