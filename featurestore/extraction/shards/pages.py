"""Sizes of the pages of a Parquet column, by their own headers and not by what the footer says.

A page is unpacked as a whole: one whose header says a gigabyte would take a gigabyte, whatever the
footer promised. The headers are Thrift structs in the compact protocol, of which two numbers count.

Source: https://github.com/apache/parquet-format (PageHeader), and Thrift's compact protocol.
"""

from typing import Any

_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY = 0, 1, 2, 3, 7, 8
_LIST, _SET, _STRUCT = 9, 10, 12
_NUMBERS = (4, 5, 6)
_UNPACKED, _PACKED = 2, 3
"""Fields of a PageHeader: sizes in bytes, before and after compression."""
_MOST_DEPTH = 8
_MOST_ELEMENTS = 1 << 16


class PageError(Exception):
    """A header of a page that cannot be read."""


def largest_page(data: memoryview, start: int, stop: int) -> int:
    """Return the size of the largest page in [start, stop), in bytes when it is unpacked.

    Args:
        data: The file.
        start: Where the column's first page begins.
        stop: Where its last page ends.

    Raises:
        PageError: They are no pages.
    """
    largest = 0
    while start < stop:
        sizes, after = _struct(data, start, 0)
        packed, unpacked = sizes.get(_PACKED, -1), sizes.get(_UNPACKED, -1)
        if packed < 0 or unpacked < 0 or after + packed > stop:
            raise PageError(f"the page at byte {start} does not fit its column")
        largest = max(largest, unpacked)
        start = after + packed
    return largest


def _struct(data: memoryview, at: int, depth: int) -> tuple[dict[int, int], int]:
    """Return the numbers in a struct by field, and where it ends."""
    if depth > _MOST_DEPTH:
        raise PageError(f"the header at byte {at} is nested too deeply")
    numbers: dict[int, int] = {}
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
            numbers[field], at = _signed(data, at)
        elif kind not in (_TRUE, _FALSE):  # which are all that the head says
            at = _skip(data, at, kind, depth)


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
        return _struct(data, at, depth + 1)[1]
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
    """Return where a column chunk's pages begin and end, as its metadata say."""
    start = column.data_page_offset
    if column.has_dictionary_page and column.dictionary_page_offset:
        start = min(start, column.dictionary_page_offset)
    return start, start + column.total_compressed_size
