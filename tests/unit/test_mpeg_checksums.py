"""The checksum of a frame of MPEG layer I or II, over every table of bit allocations."""

from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import AudioError
from featurestore.extraction import audio
from featurestore.extraction.containers.mpegframe import parse
from schemas import FeatureSpec

_27 = [4] * 11 + [3] * 12 + [2] * 4
_30 = [4] * 11 + [3] * 12 + [2] * 7
FORMS = {
    "layer I, stereo": ("fffe8000", [4] * 32, 2, 32),
    "layer I, joint stereo from subband 12 on": ("fffe8060", [4] * 32, 2, 12),
    "layer II, 44.1 kHz, 128 kbit/s, mono": ("fffc80c0", _30, 1, 30),
    "layer II, 48 kHz, 192 kbit/s, stereo": ("fffca400", _27, 2, 27),
    "layer II, 44.1 kHz, 128 kbit/s, joint stereo from subband 8 on": ("fffc8050", _27, 2, 8),
    "layer II, 32 kHz, 64 kbit/s, stereo": ("fffc4800", [4] * 2 + [3] * 10, 2, 12),
    "layer II, 44.1 kHz, 32 kbit/s, mono": ("fffc10c0", [4] * 2 + [3] * 6, 1, 8),
    "layer II, 22.05 kHz, 64 kbit/s, mono": ("fff480c0", [4] * 4 + [3] * 7 + [2] * 19, 1, 30),
}
"""Header in hex, bits of each subband's allocation, channels, first subband they share."""


def checksum(bits: str) -> int:
    """The CRC-16 of the standard, bit by bit."""
    crc = 0xFFFF
    for bit in bits:
        high = crc >> 15
        crc = crc << 1 & 0xFFFF
        if high ^ int(bit):
            crc ^= 0x8005
    return crc


def frame(form: str, seed: int) -> tuple[bytes, int]:
    """A frame with a few allocated subbands and no sound; and how many bits are covered."""
    head, widths, channels, shared_from = FORMS[form]
    draw = np.random.default_rng(seed)
    bits, allocated = "", 0
    for subband, width in enumerate(widths):
        each = 1 if subband >= shared_from else channels
        for _ in range(each):
            used = int(draw.random() < 0.1)
            allocated += used * (channels // each)
            bits += f"{used:0{width}b}"
    if "layer II" in form:
        bits += "".join(str(draw.integers(2)) for _ in range(2 * allocated))
    header = bytes.fromhex(head)
    covered = "".join(f"{byte:08b}" for byte in header[2:]) + bits
    rest = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
    parsed = parse(header)
    assert parsed is not None
    whole = header + checksum(covered).to_bytes(2) + rest
    return whole.ljust(parsed.num_bytes, b"\0"), len(bits)


def outcome(tmp_path: Path, data: bytes) -> str:
    file = tmp_path / "clip.mp2"
    file.write_bytes(data)
    try:
        audio.load(file, FeatureSpec(trim=None))
    except AudioError as error:
        return str(error)
    return "ok"


@pytest.mark.parametrize("form", FORMS)
def test_every_changed_bit_that_a_frames_checksum_covers_is_damage(
    tmp_path: Path, form: str
) -> None:
    frames = [frame(form, seed) for seed in range(20)]
    whole = b"".join(data for data, _ in frames)
    assert outcome(tmp_path, whole) == "ok"
    start, covered = sum(len(data) for data, _ in frames[:7]), frames[7][1]
    for bit in {0, 1, 5, covered // 2, covered - 2, covered - 1}:
        spoiled = bytearray(whole)
        spoiled[start + 6 + bit // 8] ^= 0x80 >> bit % 8
        assert "checksum of 1 MPEG frame does not fit" in outcome(tmp_path, bytes(spoiled)), bit
    other = b"".join(data[:4] + b"\1\2" + data[6:] for data, _ in frames)
    assert outcome(tmp_path, other) == "ok", "an encoder that writes others throughout"
