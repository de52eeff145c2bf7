"""Random access to an open file, with a bounded window in memory."""

import os

_WINDOW = 1 << 18


class Source:
    """A file of known size, of which little is held in memory at a time.

    Args:
        descriptor: Descriptor of an open regular file; its position is not changed.
        size: Size of the file, in bytes.
        start: First bytes of the file, if already read.
    """

    def __init__(self, descriptor: int, size: int, start: bytes = b"") -> None:
        self.descriptor, self.size = descriptor, size
        self._window, self._first, self._offset = start, 0, 0

    def at(self, position: int, count: int) -> bytes:
        """Return up to `count` bytes from a position; fewer at the file's end.

        Raises:
            OSError: The file could not be read.
        """
        offset = position - self._first
        if offset < 0 or offset + count > len(self._window):
            if not 0 <= position < self.size:
                return b""
            if count > _WINDOW:
                return _read(self.descriptor, count, self._offset + position)
            self._window = _read(self.descriptor, _WINDOW, self._offset + position)
            self._first, offset = position, 0
        return self._window[offset : offset + count]

    def behind(self, start: int) -> "Source":
        """Return what lies behind the first bytes as a file of its own."""
        source = Source(self.descriptor, self.size - start)
        source._offset = self._offset + start
        return source

    def find(self, pattern: bytes, start: int, stop: int) -> int:
        """Return the first position of a pattern that lies wholly in [start, stop), or -1."""
        position = start
        while position < stop:
            piece = self.at(position, min(_WINDOW, stop - position))
            at = piece.find(pattern)
            if at >= 0:
                return position + at
            if len(piece) < _WINDOW:
                break
            position += len(piece) - len(pattern) + 1
        return -1

    def after_zeros(self, start: int, stop: int) -> int:
        """Return the first position in [start, stop] whose byte is not zero; `stop` if none is."""
        position = start
        while position < stop:
            piece = self.at(position, min(_WINDOW, stop - position))
            rest = piece.lstrip(b"\0")
            if rest or not piece:
                return position + len(piece) - len(rest)
            position += len(piece)
        return stop


def _read(descriptor: int, count: int, position: int) -> bytes:
    """Read all of `count` bytes but at the file's end: one call may give fewer (on a network)."""
    data = os.pread(descriptor, count, position)
    while 0 < len(data) < count:
        more = os.pread(descriptor, count - len(data), position + len(data))
        if not more:
            break
        data += more
    return data
