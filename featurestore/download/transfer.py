"""One response of a server, appended to the part of a file received before.

The server is not trusted: a response that ends early is an error, and one with an unexpected
length, range or version of the file makes the download start over.
"""

import http.client
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from featurestore.download.partial import Origin, PartialFile
from featurestore.errors import DownloadError

_PIECE = 1 << 20
_COUNT = r"[0-9]{1,18}"
_RANGE = rf"bytes ({_COUNT})-{_COUNT}/({_COUNT}|\*)"
_VALIDATOR = r"[ -~]{1,500}"
_AGAIN = (408, 416, 425, 429)
"""HTTP errors after which a retry may succeed, in addition to server errors (5xx)."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to download, with its size and checksum if known.

    Args:
        url: http, https or file URL.
        checksum: `md5:…` or `sha256:…` in hexadecimal, possibly truncated; "" for none.
        max_bytes: Maximum size in bytes; a larger file is refused.
    """

    url: str
    checksum: str = ""
    max_bytes: float = math.inf


@dataclass(frozen=True)
class Patience:
    """Time limits and number of attempts of a download.

    Args:
        silence_s: Timeout in seconds for the response, and for each further piece.
        limit_s: Timeout in seconds for the whole download.
        tries: Maximum number of attempts in a row that receive nothing.
        pause_s: Seconds before the second attempt; doubled before each further attempt.
    """

    silence_s: float = 30.0
    limit_s: float = math.inf
    tries: int = 6
    pause_s: float = 1.0


@dataclass(frozen=True)
class Progress:
    """Progress of a step of a download.

    Args:
        step: Name of the step, such as `downloading`.
        done: Bytes processed so far.
        total: Total number of bytes; None if unknown.
        note: Note for the user.
    """

    step: str
    done: int = 0
    total: int | None = None
    note: str = ""


Observe = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """Ignore the progress."""


class BrokenError(Exception):
    """A failed transfer that may succeed when retried; `answered` if the server responded."""

    def __init__(self, reason: object, answered: bool = True) -> None:
        super().__init__(str(reason))
        self.answered = answered


@dataclass(frozen=True)
class Job:
    """A file being fetched, with a `time.monotonic()` deadline."""

    remote: RemoteFile
    patience: Patience
    observe: Observe
    deadline: float


def too_slow(job: Job) -> DownloadError:
    """Return the error for a job past its deadline."""
    return DownloadError(f"{job.remote.url}: too slow: {job.patience.limit_s:g} s were not enough")


def receive(job: Job, partial: PartialFile) -> None:
    """Request the missing part once, and read the response to its end.

    Raises:
        BrokenError: The response ended early, or was not what was requested.
        DownloadError: A retry cannot help.
        OSError: The file could not be written.
    """
    with _ask(job, partial) as answer:
        total = _begin(job.remote, partial, answer)
        _check_room(job.remote, partial, total)
        for piece in _pieces(answer):
            partial.append(piece)
            done = partial.size
            if done > job.remote.max_bytes:
                partial.clear()
                raise DownloadError(_too_large(job.remote, f"at least {done:,}"))
            if time.monotonic() > job.deadline:
                raise too_slow(job)
            job.observe(Progress("downloading", done, total))
    if total is not None and partial.size < total:
        raise BrokenError(f"the transfer broke off at {partial.size:,} of {total:,} bytes")


def _ask(job: Job, partial: PartialFile) -> HTTPResponse:
    """Open the response; for a local file, what urllib makes to look like one."""
    request = Request(job.remote.url, headers=_headers(job.remote, partial))  # noqa: S310
    try:
        answer: HTTPResponse = urlopen(request, timeout=job.patience.silence_s)  # noqa: S310
    except HTTPError as error:
        error.close()  # it is the answer, too
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.clear()
        if error.code in _AGAIN or error.code >= http.client.INTERNAL_SERVER_ERROR:
            raise BrokenError(error) from error
        raise DownloadError(f"{job.remote.url}: {error}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        # URLError wraps what happened in its own words.
        raise BrokenError(getattr(error, "reason", error), answered=False) from error
    return answer


def _headers(remote: RemoteFile, partial: PartialFile) -> Mapping[str, str]:
    """Ask for the rest, where one can know that it is the rest of the same."""
    agent = {"User-Agent": "featurestore"}
    origin = partial.origin
    if origin is None or not (origin.validator or remote.checksum):
        partial.clear()
    if partial.size == 0 or origin is None:
        return agent
    only_if = {"If-Range": origin.validator} if origin.validator else {}
    return agent | {"Range": f"bytes={partial.size}-"} | only_if


def _begin(remote: RemoteFile, partial: PartialFile, answer: HTTPResponse) -> int | None:
    """Make the partial file fit the response; return the size that the whole file should have."""
    if answer.status != http.client.PARTIAL_CONTENT:
        length = answer.headers.get("Content-Length", "")
        total = int(length) if re.fullmatch(_COUNT, length) else None
        partial.begin(Origin(remote.url, _validator(answer), total))
        return total
    content_range = re.fullmatch(_RANGE, answer.headers.get("Content-Range", ""))
    total = int(content_range[2]) if content_range and content_range[2] != "*" else None
    known = partial.origin.total if partial.origin else None
    if (
        not content_range
        or int(content_range[1]) != partial.size
        or (known and total and total != known)
    ):
        partial.clear()
        raise BrokenError("the server sent another part, or another file, than asked for")
    return total or known


def _validator(answer: HTTPResponse) -> str:
    etag = answer.headers.get("ETag", "")
    strong = etag if not etag.startswith("W/") else ""
    validator = strong or answer.headers.get("Last-Modified", "")
    return validator if re.fullmatch(_VALIDATOR, validator) else ""


def _check_room(remote: RemoteFile, partial: PartialFile, total: int | None) -> None:
    if total is None:
        return
    if total > remote.max_bytes:
        partial.clear()
        raise DownloadError(_too_large(remote, f"{total:,}"))
    if (missing := total - partial.size) > partial.room:
        raise DownloadError(
            f"{partial.path.parent}: {missing / 1e9:.1f} GB are still to come, but only "
            f"{partial.room / 1e9:.1f} GB are free; make room, and the same command resumes"
        )


def _too_large(remote: RemoteFile, num_bytes: str) -> str:
    return (
        f"{remote.url}: is not what was expected: it has {num_bytes} bytes, "
        f"at most {remote.max_bytes:,} were expected"
    )


def _pieces(answer: HTTPResponse) -> Iterator[bytes]:
    """Yield pieces of the response as they arrive."""
    while True:
        try:
            piece = answer.read1(_PIECE)
        except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
            raise BrokenError(f"the transfer broke off ({error})") from error
        if not piece:
            return
        yield piece
