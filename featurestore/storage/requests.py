"""Requests to a remote storage: event loop, time limits, retries, and errors."""

import asyncio
import functools
import os
import re
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from featurestore.errors import StorageError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_TIMEOUT_VARIABLE = "FEATURESTORE_TIMEOUT_S"
_TIMEOUT_S = 60.0
"""Seconds until a server must start its answer, including sending; see also `_ANSWERING`."""
_MAX_RETRIES = 8
"""With the pauses below, bridges half a minute of outage; at 10 % errors, 1e-9 of requests fail."""
_RETRYING = 10
"""Multiple of the timeout within which a request may be retried."""
_ANSWERING = 5
"""Multiple of the timeout within which an answer must be complete."""
_PAUSE_S, _MAX_PAUSE_S = 0.1, 10.0


def client_options() -> "ClientConfig":
    """Return the client's time limits, with http:// allowed if the endpoint has it."""
    seconds = _timeout()
    return {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=min(seconds, 10)),
        "read_timeout": timedelta(seconds=seconds),
        "timeout": timedelta(seconds=_ANSWERING * seconds),
    }


def retry_options() -> "RetryConfig":
    """Return the limits on retries."""
    return {
        "max_retries": _MAX_RETRIES,
        "retry_timeout": timedelta(seconds=_RETRYING * _timeout()),
        "backoff": {
            "init_backoff": timedelta(seconds=_PAUSE_S),
            "max_backoff": timedelta(seconds=_MAX_PAUSE_S),
        },
    }


def longest_s() -> float:
    """Return the seconds after which a request is given up, even if obstore still waits."""
    return (_RETRYING + _ANSWERING) * _timeout() + 2 * _MAX_PAUSE_S


def too_late() -> str:
    """Return the message for a request that timed out."""
    return f"no answer in time (${_TIMEOUT_VARIABLE} is {_timeout():g})"


def _timeout() -> float:
    text = os.environ.get(_TIMEOUT_VARIABLE, str(_TIMEOUT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise StorageError(f"${_TIMEOUT_VARIABLE} is {text!r}, expected seconds above 0")
    return seconds


_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist")
_BEYOND = re.compile(r"status code: 416")
_STATUS = re.compile(r"status code: (\d{3}[\w ]*)")
_RETRIES = re.compile(r"after (\d+) retries")
_MOST_CHARS = 200
"""Maximum length of a reason from obstore, in characters."""
_REPEATED = re.compile(r'"(?:[^"\\]|\\.)*"?')
_CREDENTIALS = ("/latest/api/token", "/latest/meta-data", "/computeMetadata", "169.254.170.2")
"""URLs from which obstore requests a cloud machine's credentials if the environment has none."""


def reason(error: Exception) -> str:
    """Return an obstore error in one line, without URLs and responses, which may contain keys."""
    text = str(error)
    if any(place in text for place in _CREDENTIALS):
        return (
            "no credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for a public "
            "bucket AWS_SKIP_SIGNATURE=true), GOOGLE_APPLICATION_CREDENTIALS, or AZURE_STORAGE_…"
        )
    if _NO_BUCKET.search(text):
        return "there is no such bucket"
    tries = _RETRIES.search(text)
    repeats = f", {tries[1]} times repeated" if tries else ""
    if status := _STATUS.search(text):
        if status[1][:3] in ("401", "403"):
            return f"access denied ({status[1]}): check the credentials and what they may do"
        return f"the server answered {status[1]}{repeats}"
    if "TimedOut" in text or "Timeout" in text:
        return f"no answer in time{repeats} (${_TIMEOUT_VARIABLE} is {_timeout():g})"
    if "kind: Connect" in text:
        return f"the server cannot be reached{repeats}"
    if "kind: " in text:
        return f"the connection broke{repeats}"
    return _short(next(iter(text.splitlines()), "") or type(error).__name__)


def _short(text: str) -> str:
    """Return a line of obstore's without what a server has put in it."""
    text = _REPEATED.sub("“…”", text.split("?")[0])
    text = "".join(char if char.isprintable() else "�" for char in text)
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"


def names_no_bucket(error: Exception) -> bool:
    """Return whether an object is missing because its bucket does not exist."""
    return _NO_BUCKET.search(str(error)) is not None


def is_beyond_the_end(error: Exception) -> bool:
    """Return whether the requested range starts after the end of the object."""
    return _BEYOND.search(str(error)) is not None


def loop() -> asyncio.AbstractEventLoop:
    """Return the event loop, in a thread of its own, for this process's requests.

    Raises:
        StorageError: The process was forked after making requests.
    """
    process, started = _started()
    if process != os.getpid():
        raise StorageError(
            "a remote store was read before this process was forked, and its connections do not "
            "survive that: start the workers by spawn (multiprocessing_context='spawn')"
        )
    return started


@functools.cache
def _started() -> tuple[int, asyncio.AbstractEventLoop]:
    event_loop = asyncio.new_event_loop()
    threading.Thread(target=event_loop.run_forever, name="remote storage", daemon=True).start()
    return os.getpid(), event_loop
