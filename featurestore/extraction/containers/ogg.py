"""Ogg (RFC 3533): checksum and number of every page, chained streams, the last position.

libsndfile silently skips damaged pages, and reads only the first stream of a chain.
"""

import struct
import zlib
from dataclasses import dataclass, field

from featurestore.extraction.containers.parts import (
    Container,
    Part,
    damaged,
    truncated,
    unsupported,
)
from featurestore.extraction.containers.source import Source
from featurestore.extraction.containers.tail import check_tail, refuse_joined

MAGIC = b"OggS"
_HEADER = struct.Struct("<4sBBqIIIB")
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_MOST_PAGES = 500_000
_MOST_LINKS = 1000
_LARGEST_PAGE = 65_307
_OPUS_RATE = 48_000
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_OTHER_CODECS = {
    b"\x7fFLAC": "FLAC in Ogg",
    b"Speex   ": "Speex in Ogg",
    b"\x80theora": "video in Ogg",
    b"BBCD\0": "video in Ogg",
    b"PCM     ": "PCM in Ogg",
    b"CELT    ": "CELT in Ogg",
}


@dataclass(frozen=True)
class _Page:
    start: int
    stop: int
    flags: int
    granule: int
    serial: int
    number: int
    lacing: bytes
    payload: int
    """Position of the first byte after the page's header."""

    @property
    def ends_a_packet(self) -> bool:
        return bool(self.lacing) and min(self.lacing) < 255


@dataclass
class _Link:
    """One logical stream of a chain, with what was seen of it."""

    start: int
    stop: int
    serial: int
    head: bytes
    first_granule: int | None = None
    packets_of_first: int = 0
    last_granule: int = 0
    next_number: int = 0
    incomplete: bool = False
    ended: bool = False
    neighbours: set[int] = field(default_factory=set)
    """Serial numbers of streams next to it, such as a skeleton."""


def walk_ogg(source: Source, position: int = 0) -> Container:
    """Walk all pages.

    Args:
        source: The open file.
        position: Byte position of the first page.

    Raises:
        AudioError: A page is damaged, missing or truncated, or the codec is not supported.
    """
    links: list[_Link] = []
    pages = 0
    tail = position
    while True:
        page = _next_page(source, tail)
        if page is None:
            break
        check_tail(source, tail, page.start)
        _add(source, links, page)
        tail = page.stop
        pages += 1
        if pages > _MOST_PAGES or len(links) > _MOST_LINKS:
            raise damaged(f"more than {_MOST_PAGES} Ogg pages or {_MOST_LINKS} streams")
    if not links:
        raise damaged("no whole Ogg page")
    _check_end(source, links[-1], tail)
    return Container("Ogg", tuple(_part(link) for link in links))


def _next_page(source: Source, position: int) -> _Page | None:
    """Return the page at a position, or after junk that holds none; None if only junk follows."""
    start = source.find(MAGIC, position, source.size)
    if start < 0:
        return None
    header = source.at(start, 27)
    if len(header) < 27:
        raise truncated(f"the Ogg page at byte {start} is cut short")
    _, version, flags, granule, serial, number, crc, segments = _HEADER.unpack(header)
    if version:
        raise damaged(f"what looks like an Ogg page at byte {start} is none")
    lacing = source.at(start + 27, segments)
    size = 27 + segments + sum(lacing)
    data = source.at(start, size)
    if len(data) < size or len(lacing) < segments:
        raise truncated(f"the Ogg page at byte {start} is cut short")
    if _checksum(data) != crc:
        raise damaged(f"the checksum of the Ogg page at byte {start} does not match")
    payload = start + 27 + segments
    return _Page(start, start + size, flags, granule, serial, number, lacing, payload)


def _checksum(page: bytes) -> int:
    """Return Ogg's CRC-32: zlib's polynomial, with the bits in the other order."""
    blank = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    value = zlib.crc32(blank, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, "little").translate(_REVERSED), "big")


def _add(source: Source, links: list[_Link], page: _Page) -> None:
    if page.flags & _FIRST:
        _begin(source, links, page)
        return
    if not links:
        raise damaged("the first Ogg page does not begin a stream")
    link = links[-1]
    if page.serial != link.serial:
        if page.serial not in link.neighbours:
            raise damaged(
                f"the Ogg page at byte {page.start} belongs to no stream that has started"
            )
        link.stop = page.stop
        return
    if page.number != link.next_number:
        raise damaged(
            f"the Ogg page at byte {page.start} is number {page.number}, expected "
            f"{link.next_number}: pages are missing"
        )
    link.next_number = (page.number + 1) & 0xFFFFFFFF
    link.stop = page.stop
    link.ended |= bool(page.flags & _LAST)
    link.incomplete = page.lacing[-1:] == b"\xff"
    if page.granule < 0 and page.ends_a_packet:
        raise damaged(f"the Ogg page at byte {page.start} ends a packet and gives no position")
    if page.granule > 0 and page.ends_a_packet:
        if link.first_granule is None:
            link.first_granule = page.granule
            link.packets_of_first = sum(length < 255 for length in page.lacing)
        link.last_granule = page.granule


def _begin(source: Source, links: list[_Link], page: _Page) -> None:
    head = source.at(page.payload, 64)[: page.stop - page.payload]
    for magic, name in _OTHER_CODECS.items():
        if head.startswith(magic):
            raise unsupported(f"{name} is not supported")
    audio = head.startswith((b"\x01vorbis", b"OpusHead"))
    beginning = bool(links) and links[-1].next_number == 1 and not links[-1].ended
    if beginning and not (audio and _is_audio(links[-1])):
        # Streams that are next to each other all start before any continues.
        if audio:
            old = links.pop()
            other_serials = {old.serial, *old.neighbours}
            links.append(
                _Link(
                    old.start, page.stop, page.serial, head, None, 0, 0, 1, neighbours=other_serials
                )
            )
        else:
            links[-1].neighbours.add(page.serial)
        return
    if beginning:
        raise unsupported("several sounds next to each other in one Ogg file are not supported")
    links.append(_Link(page.start, page.stop, page.serial, head, next_number=page.number + 1))


def _is_audio(link: _Link) -> bool:
    return link.head.startswith((b"\x01vorbis", b"OpusHead"))


def _check_end(source: Source, link: _Link, tail: int) -> None:
    """Check the link's end. An end mark is not required: programs that record leave it out."""
    if link.incomplete:
        raise truncated("the last Ogg packet is cut short")
    if link.ended or tail == source.size:
        check_tail(source, tail)
        return
    rest = source.at(tail, 4)
    if MAGIC.startswith(rest):
        raise truncated(f"the Ogg page at byte {tail} is cut short")
    refuse_joined(source, tail)
    if source.after_zeros(tail, source.size) < source.size or source.size - tail > _LARGEST_PAGE:
        raise damaged(f"the {source.size - tail} bytes from byte {tail} on are no Ogg page")


def _part(link: _Link) -> Part:
    if not _is_audio(link):
        return Part(link.start, link.stop)
    if link.head.startswith(b"OpusHead"):
        return _opus_part(link)
    first = link.first_granule or 0
    # A stream cut out of a longer one begins with the position that it had there.
    longest_block = 1 << (link.head[28] >> 4) if len(link.head) > 28 else 0
    begins = max(0, first - link.packets_of_first * longest_block // 2)
    frames = link.last_granule - (first if begins else 0)
    return Part(link.start, link.stop, num_frames=frames)


def _opus_part(link: _Link) -> Part:
    skipped = int.from_bytes(link.head[10:12], "little")
    first = link.first_granule or 0
    # 120 ms are the most that a packet holds.
    begins = max(0, first - link.packets_of_first * 5760)
    frames = link.last_granule - (first if begins else skipped)
    return Part(link.start, link.stop, num_frames=max(0, frames), rate=_OPUS_RATE, tolerance=1)
