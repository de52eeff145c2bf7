"""Download of one file, atomically; an interrupted transfer is resumed.

The trainer uses this, too.
"""

import hashlib
import os
import time
from pathlib import Path

from featurestore.download.partial import PartialFile, open_partial
from featurestore.download.transfer import (
    BrokenError,
    Job,
    Observe,
    Patience,
    Progress,
    RemoteFile,
    ignore,
    receive,
    too_slow,
)
from featurestore.errors import DownloadError, cause
from featurestore.files import open_regular

__all__ = ["Observe", "Patience", "Progress", "RemoteFile", "fetch_file", "ignore"]


_WAITING = Progress("waiting", note="another process is at it")


def fetch_file(
    remote: RemoteFile,
    target: Path,
    patience: Patience | None = None,
    observe: Observe = ignore,
) -> None:
    """Download a file to `target`, unless it exists.

    The received part is kept in `TARGET.partial`, however this call ends, and the next call resumes
    from there. If two processes download to the same target, the second waits for the first.

    Args:
        remote: File to fetch.
        target: Path to write; its directory is created if missing.
        patience: Time limits and number of attempts.
        observe: Called with the progress after each piece.

    Raises:
        DownloadError: The file is unavailable, is not what it should be, or cannot be written.
    """
    patience = patience or Patience()
    job = Job(remote, patience, observe, time.monotonic() + patience.limit_s)
    try:
        with open_partial(target, job.deadline, lambda: observe(_WAITING)) as partial:
            if target.exists():
                partial.clear()
            else:
                _fetch(job, partial)
    except OSError as error:
        reason = cause(error)
        raise DownloadError(
            f"{target}: cannot be written ({reason}); the same command resumes once that is fixed"
        ) from error


def _fetch(job: Job, partial: PartialFile, *, again: bool = False) -> None:
    """Download the file; start over once if its parts do not fit together."""
    origin = partial.origin
    if origin is None or origin.url != job.remote.url:
        partial.clear()
    spliced = _transfer(job, partial)
    job.observe(Progress("checking"))
    checksum = _digest(partial.path, job.remote.checksum)
    if checksum.startswith(job.remote.checksum):
        partial.finish()
        return
    partial.clear()
    if again or not spliced:
        raise DownloadError(
            f"{job.remote.url}: what came is damaged: it has {checksum}, "
            f"but {job.remote.checksum} was promised"
        )
    _fetch(job, partial, again=True)


def _digest(path: Path, checksum: str) -> str:
    """Return the file's checksum by the same algorithm, in the same form; "" if none is given."""
    algorithm = checksum.partition(":")[0]
    if not algorithm:
        return ""
    with os.fdopen(open_regular(path), "rb") as file:
        # MD5 guards against damage here, which also a policy against MD5 permits.
        digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{digest.hexdigest()}"


def _transfer(job: Job, partial: PartialFile) -> bool:
    """Complete the partial file; return whether more than one response may have made it."""
    spliced = partial.size > 0
    answered = False
    failures = 0
    while not partial.complete:
        before = partial.size
        try:
            receive(job, partial)
            break
        except BrokenError as broken:
            answered = answered or broken.answered
            failures = 1 if partial.size > before else failures + 1
            if failures >= job.patience.tries or not answered:
                raise DownloadError(f"{job.remote.url}: {broken}") from broken
            _pause(job, job.patience.pause_s * 2 ** (failures - 1), broken)
        spliced = partial.size > 0
    return spliced


def _pause(job: Job, seconds: float, broken: BrokenError) -> None:
    job.observe(Progress("waiting", note=f"{broken}; trying again in {seconds:g} s"))
    if time.monotonic() + seconds > job.deadline:
        raise too_slow(job)
    time.sleep(seconds)
