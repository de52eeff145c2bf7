"""Containers whose header declares the amount of sound: AU, SPHERE, VOC, AVR, WVE, MPC."""

import re

from featurestore.extraction.containers.chunked import Order, is_unknown
from featurestore.extraction.containers.parts import (
    Container,
    Part,
    damaged,
    truncated,
    unsupported,
)
from featurestore.extraction.containers.source import Source
from featurestore.extraction.containers.tail import check_tail, joined

_AU_UNKNOWN = 0xFFFFFFFF
"""Declared size that means unknown, the only such value that libsndfile understands."""
_MOST_BLOCKS = 100_000
_VOC_SOUND = {1: 2, 9: 12, 2: 0}
"""Bytes before the samples, by type of block with sound."""
_FIELD = re.compile(rb"^(\w+) -(?:i|s\d+|r) (.*?)\s*$", re.MULTILINE)


def walk_au(source: Source, start: int = 0) -> Container:
    """Walk Sun's AU, in either byte order."""
    head = source.at(start, 12)
    order: Order = "little" if head[:4] == b"dns." else "big"
    offset, size = int.from_bytes(head[4:8], order), int.from_bytes(head[8:12], order)
    if not is_unknown(size):
        return Container("AU", (Part(0, _end(source, start + offset, size)),))
    if size == _AU_UNKNOWN or not 12 <= offset <= source.size:
        return Container("AU", (Part(0, source.size),))
    prefix = head[:8] + _AU_UNKNOWN.to_bytes(4)
    return Container("AU", (Part(start + 12, source.size, prefix),))


def _end(source: Source, body: int, size: int) -> int:
    """Return where the samples end: the decoder takes whatever follows for more of them.

    Raises:
        AudioError: They are not all there, or what follows may be sound.
    """
    present = max(0, source.size - body)
    if present < size:
        raise truncated(f"{present} of {size} bytes of samples")
    joined(source, {body + size, body + size + size % 2})
    check_tail(source, body + size)
    return body + size


def walk_sphere(source: Source, start: int = 0) -> Container:
    """Walk NIST's SPHERE, which has a text header."""
    head = source.at(start, 1024)
    length = head[8:16].strip()
    fields = dict(_FIELD.findall(head))
    coding = fields.get(b"sample_coding", b"pcm")
    if b"shorten" in coding or b"shortpack" in coding or b"wavpack" in coding:
        raise unsupported(f"SPHERE with {coding.decode('latin-1')} is not supported")
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    values = [fields.get(name, b"") for name in names]
    if not (length.isdigit() and all(v.isdigit() and len(v) < 12 for v in values)):
        return Container("SPHERE", (Part(0, source.size),))
    count, channels, width = map(int, values)
    body = start + int(length[:8])
    if not is_unknown(count):
        return Container("SPHERE", (Part(0, _end(source, body, count * channels * width)),))
    actual = (source.size - body) // max(1, channels * width)
    number = b"%0*d" % (len(values[0]), actual)
    prefix = re.sub(rb"(?<=sample_count -i )\d+", number, source.at(0, body), count=1)
    if not count or len(prefix) != body:  # the decoder understands 0
        return Container("SPHERE", (Part(0, source.size),))
    return Container("SPHERE", (Part(body, source.size, prefix),))


def walk_voc(source: Source, start: int = 0) -> Container:
    """Walk Creative's VOC: blocks of sound, silence and markers, and a zero byte at the end."""
    position = start + int.from_bytes(source.at(start + 20, 2), "little")
    kinds: list[int] = []
    stop = source.size
    if unknown := _voc_of_unknown_size(source, position):
        return Container("VOC", (unknown,))
    for _ in range(_MOST_BLOCKS):
        head = source.at(position, 4)
        joined(source, {position, position + 1})
        if not head and kinds == [1]:  # which the decoder does not read then
            raise truncated("the byte 0 that ends a VOC file is not there")
        if not head or head[0] == 0:
            stop = min(position + 1, source.size)
            check_tail(source, stop)
            break
        size = int.from_bytes(head[1:4], "little")
        if position + 4 + size > source.size:
            present = source.size - position - 4
            raise truncated(f"{max(0, present)} of {size} bytes of samples")
        kinds += [head[0]] if head[0] in _VOC_SOUND else []
        if head[0] not in range(1, 10):
            raise damaged(f"the VOC block at byte {position} is of unknown type {head[0]}")
        position += 4 + size
    if len(kinds) > 1:
        raise unsupported(f"VOC with {len(kinds)} blocks of sound is not supported")
    return Container("VOC", (Part(0, stop),))


def _voc_of_unknown_size(source: Source, position: int) -> Part | None:
    """Return a VOC file whose only block has an unknown size, with the actual size."""
    head = source.at(position, 4)
    size, present = int.from_bytes(head[1:], "little"), source.size - position - 4
    if head[:1] not in (b"\1", b"\x09") or not is_unknown(size, 24) or 0 < size <= present:
        return None
    if source.at(source.size - 1, 1) != b"\0":
        raise truncated("the byte 0 that ends a VOC file is not there")
    if present > 1 << 24:
        return None
    prefix = source.at(0, position + 1) + (present - 1).to_bytes(3, "little")
    return Part(position + 4, source.size, prefix)


def _counted(
    source: Source, name: str, field: tuple[int, int, Order], body: int, width: int
) -> Container:
    """Return a container whose header has the number of sample frames at a fixed position.

    Args:
        source: The file.
        name: Name of the container.
        field: Start, end and byte order of that number.
        body: Position of the first sample.
        width: Bytes per sample frame.
    """
    begin, end, order = field
    count = int.from_bytes(source.at(begin, end - begin), order)
    present = max(0, source.size - body)
    if not is_unknown(count) or present < width:
        return Container(name, (Part(0, _end(source, body, count * width)),))
    actual = (present // width).to_bytes(end - begin, order)
    prefix = source.at(0, begin) + actual + source.at(end, body - end)
    return Container(name, (Part(body, body + present // width * width, prefix),))


def walk_wve(source: Source) -> Container:
    """Walk Psion's WVE: the header has the number of 8-bit samples."""
    return _counted(source, "WVE", (18, 22, "big"), 32, 1)


def walk_mpc(source: Source) -> Container:
    """Walk Akai's MPC 2000: the header has the number of sample frames."""
    channels = 2 if source.at(21, 1) == b"\1" else 1
    return _counted(source, "MPC", (30, 34, "little"), 42, 2 * channels)


def walk_avr(source: Source) -> Container:
    """Walk Audio Visual Research: the header has the number of sample frames."""
    head = source.at(0, 16)
    channels = 2 if any(head[12:14]) else 1
    width = int.from_bytes(head[14:16]) // 8
    return _counted(source, "AVR", (26, 30, "big"), 128, channels * max(1, width))
