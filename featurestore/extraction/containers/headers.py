"""Containers whose header declares the amount of sound: AU, SPHERE, VOC, AVR, WVE, MPC."""

import re

from featurestore.extraction.containers.chunked import Order, is_unknown
from featurestore.extraction.containers.foreign import check_tail, joined
from featurestore.extraction.containers.parts import (
    Container,
    Part,
    damaged,
    truncated,
    unsupported,
)
from featurestore.extraction.containers.source import Source

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
    stop = source.size
    if length.isdigit() and all(v.isdigit() and len(v) < 12 for v in values) and int(values[0]):
        count, channels, width = map(int, values)
        stop = _end(source, start + int(length[:8]), count * channels * width)
    return Container("SPHERE", (Part(0, stop),))


def walk_voc(source: Source, start: int = 0) -> Container:
    """Walk Creative's VOC: blocks of sound, silence and markers, and a zero byte at the end."""
    position = start + int.from_bytes(source.at(start + 20, 2), "little")
    kinds: list[int] = []
    stop = source.size
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


def walk_wve(source: Source, start: int = 0) -> Container:
    """Walk Psion's WVE: the header has the number of 8-bit samples."""
    stop = _end(source, start + 32, int.from_bytes(source.at(start + 18, 4)))
    return Container("WVE", (Part(0, stop),))


def walk_mpc(source: Source, start: int = 0) -> Container:
    """Walk Akai's MPC 2000: the header has the number of sample frames."""
    head = source.at(start, 42)
    channels = 2 if head[21:22] == b"\1" else 1
    stop = _end(source, start + 42, int.from_bytes(head[30:34], "little") * 2 * channels)
    return Container("MPC", (Part(0, stop),))


def walk_avr(source: Source, start: int = 0) -> Container:
    """Walk Audio Visual Research: the header has the number of sample frames."""
    head = source.at(start, 128)
    channels = 2 if any(head[12:14]) else 1
    width = int.from_bytes(head[14:16]) // 8
    stop = _end(source, start + 128, int.from_bytes(head[26:30]) * channels * max(1, width))
    return Container("AVR", (Part(0, stop),))
