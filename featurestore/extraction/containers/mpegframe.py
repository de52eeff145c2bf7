"""One frame of MPEG audio: its header, and the Info header that the first frame may contain."""

import re
from dataclasses import dataclass
from functools import lru_cache

from featurestore.extraction.containers.source import Source

SYNC = re.compile(rb"\xff[\xe2-\xff]", re.DOTALL)
"""The first two bytes of any frame."""
DECODER_DELAY = 529
"""Samples that libmpg123 drops from the start of a stream with an Info header."""
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8000)}
"""Sample rates in Hz by version code: MPEG 1, 2 and 2.5."""
# fmt: off
_KBITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# fmt: on
"""Bit rates in kbit/s by (MPEG 1, layer)."""


@dataclass(frozen=True)
class FrameHeader:
    """Fields of a frame's four-byte header."""

    mpeg1: bool
    layer: int
    rate: int
    channels: int
    num_bytes: int
    """Size of the frame in bytes; 0 for the free format, which does not declare it."""

    @property
    def kind(self) -> tuple[bool, int, int, int]:
        """Properties that all frames of a stream share."""
        return self.mpeg1, self.layer, self.rate, self.channels

    @property
    def num_samples(self) -> int:
        """Samples per channel."""
        if self.layer == 1:
            return 384
        return 1152 if self.mpeg1 or self.layer == 2 else 576

    @property
    def side_info(self) -> int:
        """Position of an Info header in a frame of layer III."""
        if self.mpeg1:
            return 36 if self.channels == 2 else 21
        return 21 if self.channels == 2 else 13


@lru_cache(maxsize=4096)
def parse(head: bytes) -> FrameHeader | None:
    """Parse the four bytes of a frame header; None for any other bytes."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, rate_code = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bits == 15 or rate_code == 3 or head[3] & 3 == 2:
        return None
    rate, mpeg1 = _RATES[version][rate_code], version == 3
    channels = 1 if head[3] >> 6 == 3 else 2
    size = 0
    if bits:
        bit_rate, padding = 1000 * _KBITS[mpeg1, layer][bits - 1], head[2] >> 1 & 1
        samples = 384 if layer == 1 else 576 if layer == 3 and not mpeg1 else 1152
        slot = 4 if layer == 1 else 1
        size = (samples // 8 // slot * bit_rate // rate + padding) * slot
    return FrameHeader(mpeg1, layer, rate, channels, size)


def follow(source: Source, position: int, frames: int) -> bool:
    """Return whether so many frames of one kind lie here one after another."""
    kind = None
    for _ in range(frames):
        header = parse(source.at(position, 4))
        if header is None or kind not in (None, header.kind) or not header.num_bytes:
            return False
        kind = header.kind
        position += header.num_bytes
    return True


def kbits(header: FrameHeader, code: int) -> int:
    """Return the bit rate in kbit/s for a header's bit rate code, 1 to 14."""
    return _KBITS[header.mpeg1, header.layer][code - 1]


def info_at(source: Source, position: int, header: FrameHeader) -> bytes:
    """Return the Info (Xing, VBRI) header in a frame; empty for a frame of sound."""
    if header.layer != 3:
        return b""
    frame = source.at(position, min(header.num_bytes, 192))
    info = frame[header.side_info :]
    if info[:4] in (b"Xing", b"Info"):
        return info
    vbri = frame[36:]
    return vbri if vbri[:4] == b"VBRI" else b""


@dataclass(frozen=True)
class Lame:
    """LAME's description of a stream, from the stream's first frame.

    Attributes:
        num_bytes: Size of the stream in bytes, including this frame.
        checksum: CRC-16 of all other frames.
        own_checksum: CRC-16 of the first bytes of this frame.
        covered: Number of bytes covered by `own_checksum`.
    """

    num_bytes: int
    checksum: int
    own_checksum: int
    covered: int


def lame_in(info: bytes, offset: int) -> Lame | None:
    """Return LAME's part of an Info header; None if it is truncated or from another encoder.

    Args:
        info: Bytes of the frame from the Info header on.
        offset: Offset of the Info header in the frame.
    """
    start = _after_fields(info)
    ends = info[start + 28 : start + 36]
    if info[:4] == b"VBRI" or len(ends) < 8 or not info[start : start + 4].isalnum():
        return None
    size, music, own = (int.from_bytes(ends[a:b]) for a, b in ((0, 4), (4, 6), (6, 8)))
    return Lame(size, music, own, offset + start + 34)


def _after_fields(info: bytes) -> int:
    """Return where LAME's extension of an Info header begins."""
    flags = int.from_bytes(info[4:8])
    fields = enumerate((4, 4, 100, 4))  # frames, bytes, table of positions, quality
    return 8 + sum(size for bit, size in fields if flags >> bit & 1)


def declared_by(info: bytes) -> tuple[int | None, int, int]:
    """Return the frames an Info header declares, the padding in samples, and that at the start.

    The padding includes the encoder's and the decoder's delay; both are dropped.
    """
    if info[:4] == b"VBRI":
        return (int.from_bytes(info[14:18]) if len(info) >= 18 else None), 0, 0
    flags = int.from_bytes(info[4:8])
    frames = int.from_bytes(info[8:12]) if flags & 1 else None
    lame = _after_fields(info)
    delays = info[lame + 21 : lame + 24]
    if len(delays) < 3 or not info[lame : lame + 4].isalnum():
        return frames, 0, 0
    both = int.from_bytes(delays)
    delay, padding = both >> 12, both & 0xFFF
    at_start = delay + DECODER_DELAY
    return frames, at_start + max(0, padding - DECODER_DELAY), at_start
