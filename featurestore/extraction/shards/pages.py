"""The pages of a Parquet column, by their own headers rather than the footer.

A page is decompressed as a whole: one whose header declares a gigabyte would take a gigabyte,
whatever the footer says. From an uncompressed page, a cell can be read without copying the others.
The headers are Thrift structs in the compact protocol, of which only the numbers matter here.

Source: https://github.com/apache/parquet-format (PageHeader), and Thrift's compact protocol.
"""

from collections.abc import Iterator
from typing import Any

_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY = 0, 1, 2, 3, 7, 8
_LIST, _SET, _STRUCT = 9, 10, 12
_NUMBERS = (4, 5, 6)
_KIND, _UNPACKED, _PACKED = (1,), (2,), (3,)
"""Fields of a PageHeader: its kind, and sizes in bytes before and after compression."""
_DATA_PAGE, _DATA_PAGE_V2 = 0, 3
_COUNT, _ENCODING, _LEVELS = (5, 1), (5, 2), (5, 3)
"""Fields of a DataPageHeader: number of cells, encodings of cells and of definition levels."""
_COUNT_V2, _NULLS_V2, _ENCODING_V2, _LEVEL_BYTES_V2 = (8, 1), (8, 2), (8, 4), ((8, 5), (8, 6))
"""Fields of a DataPageHeaderV2: also number of nulls, and sizes of the levels in bytes."""
PLAIN, LENGTHS, DIFFERENCES = 0, 6, 7
"""Encodings of texts: each preceded by its size, all sizes in front (DELTA_LENGTH_BYTE_ARRAY), and
what differs from the one before (DELTA_BYTE_ARRAY). All others refer to a dictionary."""
_PLAIN, _RUNS = PLAIN, 3
"""Encodings: each cell preceded by its size, and levels as runs of equal or packed numbers."""
_MOST_DEPTH = 8
_MOST_ELEMENTS = 1 << 16
Numbers = dict[tuple[int, ...], int]
"""Numbers in a header by path of field ids, from the outermost struct inwards."""


class PageError(Exception):
    """A page header that cannot be read."""


def largest_page(data: memoryview, start: int, stop: int) -> int:
    """Return the decompressed size in bytes of the largest page in [start, stop).

    Args:
        data: Content of the file.
        start: Start of the column's first page.
        stop: End of its last page.

    Raises:
        PageError: The range does not consist of pages.
    """
    return max((header[_UNPACKED] for header, _, _ in _pages(data, start, stop)), default=0)


def encodings(data: memoryview, start: int, stop: int) -> set[int]:
    """Return the encodings of the cells of all pages in [start, stop).

    Raises:
        PageError: The range does not consist of pages.
    """
    fields = {_DATA_PAGE: _ENCODING, _DATA_PAGE_V2: _ENCODING_V2}
    headers = (header for header, _, _ in _pages(data, start, stop))
    kinds = ((header, fields.get(header.get(_KIND, -1))) for header in headers)
    return {header.get(field, -1) for header, field in kinds if field is not None}


def plain_cells(
    data: memoryview, start: int, stop: int, max_level: int, num_cells: int
) -> list[tuple[int, int]] | None:
    """Return offset and length of each cell of an uncompressed column.

    Args:
        data: Content of the file.
        start: Start of the column's first page.
        stop: End of its last page.
        max_level: Definition level of a non-null cell; the column must not be in a list.
        num_cells: Expected number of cells.

    Returns:
        A pair per cell; None if pages are not plain (such as with a dictionary), a cell is null, or
        their number differs.

    Raises:
        PageError: The range does not consist of pages.
    """
    cells: list[tuple[int, int]] = []
    for header, at, end in _pages(data, start, stop):
        first = _first_cell(header, data[at:end], max_level)
        if first is None:
            return None
        at += first
        for _ in range(header.get(_COUNT, header.get(_COUNT_V2, 0))):
            size = int.from_bytes(data[at : at + 4], "little")
            at += 4
            if at + size > end or len(cells) == num_cells:
                return None
            cells.append((at, size))
            at += size
        if at != end:
            return None
    return cells if len(cells) == num_cells else None


def _pages(data: memoryview, start: int, stop: int) -> Iterator[tuple[Numbers, int, int]]:
    """Yield the header of each page, and where what is behind it begins and ends."""
    while start < stop:
        header, after = _struct(data, start, ())
        packed, unpacked = header.get(_PACKED, -1), header.get(_UNPACKED, -1)
        if packed < 0 or unpacked < 0 or after + packed > min(stop, len(data)):
            raise PageError(f"the page at byte {start} does not fit its column")
        yield header, after, after + packed
        start = after + packed


def _first_cell(header: Numbers, page: memoryview, max_level: int) -> int | None:
    """Return where in a page the first cell is, behind the levels; None if not all are plain."""
    if header.get(_KIND) == _DATA_PAGE_V2:
        if header.get(_ENCODING_V2) != _PLAIN or header.get(_NULLS_V2) != 0:
            return None
        sizes = [header.get(field, 0) for field in _LEVEL_BYTES_V2]
        return sum(sizes) if min(sizes) >= 0 else None
    if header.get(_KIND) != _DATA_PAGE or header.get(_ENCODING) != _PLAIN:
        return None
    if not max_level:
        return 0
    first = 4 + int.from_bytes(page[:4], "little")
    levels = page[4:first]
    is_full = header.get(_LEVELS) == _RUNS and _all_are(levels, header.get(_COUNT, 0), max_level)
    return first if is_full else None


def _all_are(levels: memoryview, count: int, level: int) -> bool:
    """Return whether the runs of a page hold `count` levels, and all are `level`."""
    width, at = level.bit_length(), 0
    while count > 0 and at < len(levels):
        head, at = _varint(levels, at)
        if head & 1:  # groups of eight packed numbers
            size = min((head >> 1) * width, len(levels) - at)
            packed = int.from_bytes(levels[at : at + size], "little")
            number = min(count, 8 * size // width)
            full = sum(level << width * i for i in range(number))
            if packed & ((1 << width * number) - 1) != full:
                return False
        else:
            number, size = head >> 1, -(-width // 8)
            if int.from_bytes(levels[at : at + size], "little") != level:
                return False
        at += size
        count -= number
    return count <= 0


def _struct(data: memoryview, at: int, path: tuple[int, ...]) -> tuple[Numbers, int]:
    """Return the numbers in a struct, and in those in it, and where it ends."""
    if len(path) > _MOST_DEPTH:
        raise PageError(f"the header at byte {at} is nested too deeply")
    numbers: Numbers = {}
    field = 0
    while True:
        head, at = _byte(data, at)
        kind = head & 15
        if kind == _STOP:
            return numbers, at
        if head >> 4:
            field += head >> 4
        else:
            field, at = _signed(data, at)
        if kind in _NUMBERS:
            numbers[(*path, field)], at = _signed(data, at)
        elif kind == _STRUCT:
            inner, at = _struct(data, at, (*path, field))
            numbers |= inner
        elif kind not in (_TRUE, _FALSE):  # which are all that the head says
            at = _skip(data, at, kind, len(path))


def _skip(data: memoryview, at: int, kind: int, depth: int) -> int:
    """Return where a value ends."""
    if kind in (_TRUE, _FALSE, _BYTE):
        return at + 1
    if kind in _NUMBERS:
        return _signed(data, at)[1]
    if kind == _DOUBLE:
        return at + 8
    if kind == _BINARY:
        length, at = _varint(data, at)
        return at + length
    if kind == _STRUCT:
        return _struct(data, at, (0,) * (depth + 1))[1]
    if kind not in (_LIST, _SET):
        raise PageError(f"there is a value of an unknown kind at byte {at}")
    head, at = _byte(data, at)
    count, inner = head >> 4, head & 15
    if count == 15:
        count, at = _varint(data, at)
    if count > _MOST_ELEMENTS or depth > _MOST_DEPTH:
        raise PageError(f"there is a list of {count} values at byte {at}")
    for _ in range(count):
        at = _skip(data, at, inner, depth + 1)
    return at


def _byte(data: memoryview, at: int) -> tuple[int, int]:
    if not 0 <= at < len(data):
        raise PageError(f"the file ends before byte {at}")
    return data[at], at + 1


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = _byte(data, at)
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise PageError(f"there is a number of too many bytes at byte {at}")


def _signed(data: memoryview, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def column_range(column: Any) -> tuple[int, int]:  # noqa: ANN401  (pyarrow has no types)
    """Return start and end of a column chunk's pages according to its metadata."""
    start = column.data_page_offset
    if column.has_dictionary_page and column.dictionary_page_offset:
        start = min(start, column.dictionary_page_offset)
    return start, start + column.total_compressed_size
