"""One response of a server, appended to what was received of a file before.

The server's word is not taken: an answer that ends early is broken, and one with another length,
another range or another state of the file than expected starts over.
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
"""HTTP errors, besides those of the server (5xx), after which the same may succeed."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to download, with its size and checksum if known.

    Args:
        url: http, https or file.
        checksum: `md5:…` or `sha256:…` in hexadecimal; the first digits are enough. "" for none.
        max_bytes: More are refused.
    """

    url: str
    checksum: str = ""
    max_bytes: float = math.inf


@dataclass(frozen=True)
class Patience:
    """Time limits and number of tries of a download.

    Args:
        silence_s: Seconds for an answer, and for each further piece.
        limit_s: Seconds in all.
        tries: Attempts in a row that bring nothing.
        pause_s: Seconds before the second attempt; doubled before each further one.
    """

    silence_s: float = 30.0
    limit_s: float = math.inf
    tries: int = 6
    pause_s: float = 1.0


@dataclass(frozen=True)
class Progress:
    """Progress of a step.

    Args:
        step: What is being done, such as `downloading`.
        done: Bytes so far.
        total: Bytes in all; None if nobody knows.
        note: What the user should know.
    """

    step: str
    done: int = 0
    total: int | None = None
    note: str = ""


Observe = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """Observe nothing."""


class BrokenError(Exception):
    """A transfer that may succeed at the next attempt; `answered` if there is a server at all."""

    def __init__(self, reason: object, answered: bool = True) -> None:
        super().__init__(str(reason))
        self.answered = answered


@dataclass(frozen=True)
class Job:
    """A file that is being fetched; `deadline` by `time.monotonic`."""

    remote: RemoteFile
    patience: Patience
    observe: Observe
    deadline: float


def too_slow(job: Job) -> DownloadError:
    """Return the error for a job past its deadline."""
    return DownloadError(f"{job.remote.url}: too slow: {job.patience.limit_s:g} s were not enough")


def receive(job: Job, partial: PartialFile) -> None:
    """Request what is missing once, and read the response to its end.

    Raises:
        BrokenError: It ended early, or did not fit.
        DownloadError: There is no use in asking again.
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
