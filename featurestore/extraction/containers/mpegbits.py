"""Number of bits covered by the CRC of a layer I or II frame: those that control its decoding.

These are the bits after the CRC that declare how many bits each subband's samples have, and in
layer II which scale factors follow. Their number depends on the bit rate and the channels.

Source: ISO/IEC 11172-3, 2.4.3.1 and tables 3-B.2a to d; ISO/IEC 13818-3, table B.1.
"""

from functools import lru_cache

from featurestore.extraction.containers.mpegframe import FrameHeader, kbits

_SUBBANDS = 32
_JOINT_STEREO = 1
_WIDTHS = {27: (11, 12, 4), 30: (11, 12, 7), 8: (2, 6, 0), 12: (2, 10, 0)}
"""Numbers of subbands with an allocation of 4, 3 and 2 bits, by their sum, in MPEG 1."""
_LSF_WIDTHS = (4, 7, 19)
"""Numbers of subbands with an allocation of 4, 3 and 2 bits in MPEG 2."""


def covered_bits(frame: bytes, header: FrameHeader) -> int:
    """Return the number of bits after the CRC that it covers.

    Args:
        frame: A whole frame of layer I or II with a CRC.
        header: Header of the frame.
    """
    widths = _widths(header, frame[2] >> 4)
    shared_from = _first_shared(frame, len(widths)) if header.channels == 2 else len(widths)
    position = sum(widths[:shared_from]) * header.channels + sum(widths[shared_from:])
    if header.layer == 1:
        return position
    return position + 2 * _num_allocated(frame, header.channels, widths, shared_from)


def _num_allocated(frame: bytes, channels: int, widths: tuple[int, ...], shared_from: int) -> int:
    """Return how many subbands, of all channels, have samples: each has two bits of its own."""
    bits, left = int.from_bytes(frame[6:46]), 8 * len(frame[6:46])
    count = 0
    for subband, width in enumerate(widths):
        mask = (1 << width) - 1
        if subband >= shared_from:
            left -= width
            count += channels * (bits >> left & mask > 0)
            continue
        for _ in range(channels):
            left -= width
            count += bits >> left & mask > 0
    return count


def _first_shared(frame: bytes, subbands: int) -> int:
    """Return the subband from which on two channels have one allocation."""
    mode, extension = frame[3] >> 6, frame[3] >> 4 & 3
    return min(subbands, 4 * extension + 4) if mode == _JOINT_STEREO else subbands


@lru_cache(maxsize=256)
def _widths(header: FrameHeader, bit_rate_code: int) -> tuple[int, ...]:
    """Return how many bits each subband's allocation has."""
    if header.layer == 1:
        return (4,) * _SUBBANDS
    each = kbits(header, bit_rate_code) / header.channels
    if not header.mpeg1:
        counts = _LSF_WIDTHS
    elif each <= 48:
        counts = _WIDTHS[12 if header.rate == 32_000 else 8]
    else:
        counts = _WIDTHS[27 if header.rate == 48_000 or each <= 80 else 30]
    return tuple(
        width for width, count in zip((4, 3, 2), counts, strict=True) for _ in range(count)
    )
