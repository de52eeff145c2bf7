"""How much audio a file's container promises, and how much is there.

libsndfile reads a file that was cut short without a word. The containers say how long they were
meant to be: RIFF in its `data` chunk, Ogg by a last page marked as such. FLAC needs no help (its
decoder fails), and other containers are not checked.
"""

import struct

_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF)
"""What programs that write to a pipe put where the size is not known yet."""
_OGG_LAST_PAGE = 4
_OGG_LARGEST_PAGE = 65_307


def declared_and_present(data: bytes) -> tuple[int, int]:
    """Bytes of samples promised and present: equal where nothing is missing or nothing is known.

    Args:
        data: A whole file.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _riff(data)
    if data[:4] == b"OggS":
        return (len(data) + int(not _ogg_is_whole(data)), len(data))
    return 0, 0


def _riff(data: bytes) -> tuple[int, int]:
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        if name == b"data":
            present = len(data) - position - 8
            return (present if size in _UNKNOWN_SIZES else size), present
        position += 8 + size + size % 2
    return 0, 0


def _ogg_is_whole(data: bytes) -> bool:
    """Whether the last page is complete and ends the stream."""
    start = data.rfind(b"OggS", max(0, len(data) - _OGG_LARGEST_PAGE))
    if start < 0 or start + 27 > len(data):
        return False
    segments = data[start + 26]
    table = data[start + 27 : start + 27 + segments]
    end = start + 27 + segments + sum(table)
    return len(table) == segments and end <= len(data) and bool(data[start + 5] & _OGG_LAST_PAGE)
