"""Damaged and lying audio files, each a pure function of a seed and a number.

Sound files of every container that libsndfile writes are damaged as storage, networks and malice
damage them. The checksums of Ogg pages are corrected, or the damage would never reach a decoder.
"""

import io
import struct
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

SHARED_AUDIO = Path(__file__).parents[2] / "shared" / "data"
_COMMON = {
    ("WAV", "PCM_16"): 6,
    ("WAV", "FLOAT"): 3,
    ("FLAC", "PCM_16"): 6,
    ("OGG", "VORBIS"): 6,
    ("OGG", "OPUS"): 6,
    ("AIFF", "PCM_16"): 3,
    ("MP3", "MPEG_LAYER_III"): 6,
}
"""Weights of containers that are chosen more often than others, whose weight is 1."""
_SMALL_LIES = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 1024, 0x7FFF, 0x8000, 0xFFFF)
_LIES = (*_SMALL_LIES, 0x7FFFFFFF, 0x80000000, 10_000_000, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF)
_HEADER = 256
"""Size in bytes within which most headers lie."""
_LONGEST_REAL = 60_000
"""Maximum number of bytes of a real file, which is cut there."""
Rng = np.random.Generator


@cache
def sources() -> Mapping[str, bytes]:
    """Return whole sound files by name: short ones of every container, and real ones if any."""
    found = {}
    # Writing SD2 leaves a file of its own in the working directory: its resource fork.
    for container in filter(lambda name: name != "SD2", soundfile.available_formats()):
        for subtype in soundfile.available_subtypes(container):
            for channels in (1, 2):
                if data := _encoded(container, subtype, channels):
                    found[f"{container} {subtype} {channels}"] = data
    real = sorted(path for path in SHARED_AUDIO.rglob("*") if path.suffix in (".wav", ".ogg"))
    found |= {f"real {path.name}": path.read_bytes()[:_LONGEST_REAL] for path in real[::40]}
    return found


def _encoded(container: str, subtype: str, channels: int) -> bytes | None:
    """Return a fifth of a second of noise and a tone, or None if the container cannot hold it."""
    rate = 48_000 if subtype == "OPUS" else 22_050
    time = np.arange(rate // 5) / rate
    noise = np.random.default_rng(channels).standard_normal((time.size, channels))
    file = io.BytesIO()
    try:
        samples = 0.3 * np.sin(2 * np.pi * 440 * time)[:, None] + 0.05 * noise
        soundfile.write(file, samples, rate, format=container, subtype=subtype)
    except (soundfile.LibsndfileError, ValueError):
        return None
    return file.getvalue()


@cache
def _weighted() -> tuple[tuple[str, ...], tuple[float, ...]]:
    names = tuple(sources())

    def weight(name: str) -> int:
        container, subtype = name.split()[:2]
        return _COMMON.get((container, subtype), 3 if "real" in name else 1)

    weights = np.array([weight(name) for name in names])
    return names, tuple(weights / weights.sum())


def spoilt(seed: int, number: int) -> tuple[str, bytes]:
    """Return one input.

    Returns:
        The names of its source and of the damage done to it, and its bytes.
    """
    rng = np.random.default_rng((seed, number))
    names, weights = _weighted()
    source = str(rng.choice(names, p=weights))
    data = bytearray(sources()[source])
    done = []
    for _ in range(int(rng.geometric(0.5))):
        spoil = _WAYS[rng.integers(len(_WAYS))]
        done.append(spoil.__name__)
        if data:
            data = spoil(data, rng)
    if data[:4] == b"OggS" and rng.random() < 0.9:
        repair_ogg(data)
    return f"{source}: {', '.join(done)}", bytes(data)


def flip_bits(data: bytearray, rng: Rng) -> bytearray:
    """Flip a few bits anywhere."""
    for position in rng.integers(len(data), size=rng.integers(1, 20)):
        data[position] ^= 1 << int(rng.integers(8))
    return data


def flip_header(data: bytearray, rng: Rng) -> bytearray:
    """Change a few bytes of the header."""
    for position in rng.integers(min(_HEADER, len(data)), size=rng.integers(1, 5)):
        data[position] = int(rng.integers(256))
    return data


def lie(data: bytearray, rng: Rng) -> bytearray:
    """Replace two, four or eight bytes of the header by an extreme number."""
    position = int(rng.integers(min(_HEADER, len(data))))
    value = int(rng.choice(_LIES))
    form, mask = (("H", 0xFFFF), ("I", 0xFFFFFFFF), ("Q", 2**64 - 1))[rng.integers(3)]
    number = struct.pack(("<", ">")[rng.integers(2)] + form, value & mask)
    data[position : position + len(number)] = number
    return data


def cut(data: bytearray, rng: Rng) -> bytearray:
    """Cut off the end."""
    return data[: rng.integers(len(data))]


def drop(data: bytearray, rng: Rng) -> bytearray:
    """Leave out a part."""
    start, stop = sorted(rng.integers(len(data) + 1, size=2))
    del data[start : min(stop, start + 4096)]
    return data


def repeat(data: bytearray, rng: Rng) -> bytearray:
    """Repeat a part many times."""
    start = int(rng.integers(len(data)))
    part = data[start : start + int(rng.integers(1, 512))]
    return data[:start] + part * int(rng.integers(2, 50)) + data[start:]


def scramble(data: bytearray, rng: Rng) -> bytearray:
    """Replace a run of bytes by noise, or all zeros or all ones."""
    start = int(rng.integers(len(data)))
    size = min(int(rng.integers(1, 4096)), len(data) - start)
    run = (rng.bytes(size), bytes(size), b"\xff" * size)[rng.integers(3)]
    data[start : start + size] = run
    return data


def splice(data: bytearray, rng: Rng) -> bytearray:
    """Join the start of one file and the end of another."""
    names = tuple(sources())
    other = sources()[names[rng.integers(len(names))]]
    return data[: rng.integers(len(data))] + other[rng.integers(len(other)) :]


def not_finite(data: bytearray, rng: Rng) -> bytearray:
    """Write float32 numbers that are NaN, infinite, huge or subnormal anywhere."""
    for _ in range(rng.integers(1, 50)):
        value = (np.nan, np.inf, -np.inf, 3e38, 1e-42)[rng.integers(5)]
        position = int(rng.integers(len(data))) & ~3
        data[position : position + 4] = struct.pack(("<f", ">f")[rng.integers(2)], value)
    return data


_WAYS: tuple[Callable[[bytearray, Rng], bytearray], ...] = (
    flip_bits,
    flip_header,
    flip_header,
    lie,
    lie,
    cut,
    drop,
    repeat,
    scramble,
    splice,
    not_finite,
)


@cache
def _crc_table() -> tuple[int, ...]:
    def entry(byte: int) -> int:
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        return value & 0xFFFFFFFF

    return tuple(map(entry, range(256)))


def repair_ogg(data: bytearray) -> None:
    """Correct the checksum of every complete page, in place.

    Source: RFC 3533, section 6.
    """
    table = _crc_table()
    start = data.find(b"OggS")
    while start >= 0 and start + 27 <= len(data):
        segments = data[start + 26]
        body = start + 27 + segments
        stop = body + sum(data[start + 27 : body])
        if stop > len(data):
            return
        data[start + 22 : start + 26] = bytes(4)
        crc = 0
        for byte in data[start:stop]:
            crc = ((crc << 8) & 0xFFFFFFFF) ^ table[(crc >> 24) ^ byte]
        data[start + 22 : start + 26] = struct.pack("<I", crc)
        start = data.find(b"OggS", stop)
