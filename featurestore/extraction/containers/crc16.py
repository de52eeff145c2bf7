"""CRC-16 with the polynomial 0x8005, used by FLAC frames, MPEG frames and the LAME header.

Files are checked on every read, and a Python loop over their bytes would take as long as decoding:
so rows of bytes are processed in parallel with NumPy.
"""

import numpy as np
from numpy.typing import NDArray

_ROW = 256
"""Bytes per row; several whole rows are processed in parallel."""


def _of_byte(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = (crc << 1 ^ 0x8005) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc


_TABLE = tuple(_of_byte(byte) for byte in range(256))
_VALUES = np.array(_TABLE, np.uint16)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc16(data: bytes, crc: int = 0) -> int:
    """Return the CRC of bytes, most significant bit first.

    Args:
        data: The bytes; if followed by their own CRC, the result is 0.
        crc: CRC of the preceding bytes, or the initial value.
    """
    whole = len(data) // _ROW * _ROW
    if whole > _ROW:
        # A checksum is linear: that of a row alone, and that of what came before, moved along.
        for row in _of_rows(np.frombuffer(data, np.uint8, whole).reshape(-1, _ROW)):
            crc = _MOVED[0][crc >> 8] ^ _MOVED[1][crc & 0xFF] ^ row
        data = data[whole:]
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _TABLE[crc >> 8 ^ byte]
    return crc


def crc16_bits(data: bytes, num_bits: int) -> int:
    """Return the CRC of the first bits as in MPEG frames: the initial value is all ones."""
    whole, left = divmod(num_bits, 8)
    crc = crc16(data[:whole], 0xFFFF)
    for place in range(left):
        bit = data[whole] >> (7 - place) & 1 if whole < len(data) else 0
        crc = (crc << 1 & 0xFFFF) ^ (0x8005 if crc >> 15 ^ bit else 0)
    return crc


def crc16_reflected(data: bytes) -> int:
    """Return the CRC of bytes, least significant bit first, as LAME computes it."""
    return int(f"{crc16(data.translate(_REVERSED)):016b}"[::-1], 2)


def _of_rows(rows: NDArray[np.uint8]) -> list[int]:
    crcs = np.zeros(len(rows), np.uint16)
    for column in rows.T:
        crcs = (crcs << np.uint16(8)) ^ _VALUES[(crcs >> np.uint16(8)) ^ column]
    values: list[int] = crcs.tolist()
    return values


def _moved(high: bool) -> tuple[int, ...]:
    """Return, for each value of a checksum's high or low byte, what a row of zeros makes of it."""
    rows = np.zeros((256, _ROW), np.uint8)
    rows[:, 0 if high else 1] = range(256)  # a checksum is added to the bytes that follow it
    return tuple(_of_rows(rows))


_MOVED = _moved(high=True), _moved(high=False)
