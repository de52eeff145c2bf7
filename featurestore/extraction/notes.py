"""Messages that libmpg123 prints while decoding: captured, interpreted, reported with a name.

It writes to file descriptor 2 directly, and libsndfile offers no way to stop it. The descriptor is
shared by the whole process, so it is redirected for MPEG audio only, by one thread at a time, and
other output written in the meantime is passed on unchanged.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TURN = threading.RLock()
_MARKS = (b"libmpg123", b"Note: ", b"Warning: ", b"mpg123")
_STDERR = 2
_MOST_BYTES = 1 << 20


@contextmanager
def decoder_notes() -> Iterator[list[str]]:
    """Capture what the decoder prints within the context; afterwards the list has its lines."""
    notes: list[str] = []
    with _TURN, tempfile.TemporaryFile() as caught:
        kept = _duplicate(_STDERR)
        try:
            os.dup2(caught.fileno(), _STDERR)
            yield notes
        finally:
            if kept is None:
                os.close(_STDERR)
            else:
                os.dup2(kept, _STDERR)
                os.close(kept)
            caught.seek(0)
            notes += _sorted_out(caught.read(_MOST_BYTES), kept is not None)


def _duplicate(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:  # this process has no standard error
        return None


def _sorted_out(text: bytes, has_stderr: bool) -> list[str]:
    """Return the decoder's lines; those of others are passed on."""
    notes = []
    for line in text.splitlines(keepends=True):
        if any(mark in line for mark in _MARKS):
            notes.append(line.decode(errors="replace").strip())
        elif line.strip() and has_stderr:
            os.write(_STDERR, line)
    return notes
