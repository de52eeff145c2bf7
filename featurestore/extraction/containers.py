"""How much audio a file's container promises, and how much is there.

libsndfile reads a file that was cut short without a word. The containers say how long they were
meant to be: RIFF in its `data` chunk, Ogg by a last page marked as such. FLAC needs no help (its
decoder fails), and other containers are not checked.
"""

import os
import struct

_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF)
"""What programs that write to a pipe put where the size is not known yet."""
_MOST_CHUNKS = 1000
"""Looked at in search of a RIFF's `data`: a file can hold a chunk in every eight bytes."""
_OGG_LAST_PAGE = 4
_OGG_LARGEST_PAGE = 65_307


def declared_and_present(descriptor: int, size: int) -> tuple[int, int]:
    """Bytes of samples promised and present: equal where nothing is missing or nothing is known.

    Reads the headers of at most 1000 chunks, or one page, whatever the bytes are; never raises
    because of them.

    Args:
        descriptor: Of an open regular file; its position is left as it is.
        size: Of the file, in bytes.

    Raises:
        OSError: The machine could not read it.
    """
    start = os.pread(descriptor, 12, 0)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        return _riff(descriptor, size)
    if start[:4] == b"OggS":
        return (size + int(not _ogg_is_whole(descriptor, size)), size)
    return 0, 0


def _riff(descriptor: int, size: int) -> tuple[int, int]:
    position = 12
    for _ in range(_MOST_CHUNKS):
        header = os.pread(descriptor, 8, position)
        if len(header) < 8:
            break
        name, length = struct.unpack("<4sI", header)
        if name == b"data":
            present = size - position - 8
            return (present if length in _UNKNOWN_SIZES else length), present
        position += 8 + length + length % 2
    return 0, 0


def _ogg_is_whole(descriptor: int, size: int) -> bool:
    """Whether the last page is complete and ends the stream."""
    first = max(0, size - _OGG_LARGEST_PAGE)
    data = os.pread(descriptor, size - first, first)
    start = data.rfind(b"OggS")
    if start < 0 or start + 27 > len(data):
        return False
    segments = data[start + 26]
    table = data[start + 27 : start + 27 + segments]
    end = start + 27 + segments + sum(table)
    return len(table) == segments and end <= len(data) and bool(data[start + 5] & _OGG_LAST_PAGE)
