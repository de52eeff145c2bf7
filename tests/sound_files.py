"""One small sound file of every container whose suffix `folder` takes."""

import io
from collections.abc import Mapping
from functools import cache

import numpy as np
import soundfile

SECONDS = 0.5
RATE = 22_050


def encoded(
    container: str,
    subtype: str,
    endian: str | None = None,
    rate: int = RATE,
    seconds: float = SECONDS,
    channels: int = 1,
) -> bytes:
    """A tone over noise, as libsndfile writes it."""
    time = np.arange(int(rate * seconds)) / rate
    noise = np.random.default_rng(1).standard_normal((time.size, channels))
    samples = 0.3 * np.sin(2 * np.pi * 440 * time)[:, None] + 0.05 * noise
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype, endian=endian)
    return file.getvalue()


def mpeg_frames(num_frames: int, layer: int = 2, padding: int = 0) -> bytes:
    """Silence in MPEG 1 at 44.1 kHz and 128 kbit/s, layer II or III, mono, without a header."""
    head = bytes((0xFF, {2: 0xFD, 3: 0xFB}[layer], {2: 0x80, 3: 0x90}[layer] | padding << 1, 0xC0))
    return (head + bytes(417 + padding - 4)) * num_frames


def vbr_mp3(seconds: float = SECONDS) -> bytes:
    """An MP3 of varying bit rate without a header that says how long it is."""
    data = encoded("MP3", "MPEG_LAYER_III", seconds=seconds)
    return data[frame_positions(data)[1] :]


def frame_positions(data: bytes) -> list[int]:
    """Return where the frames of an MPEG stream begin that has nothing else in it."""
    from featurestore.extraction.containers.mpegframe import parse

    positions, position = [], 0
    while header := parse(data[position : position + 4]):
        positions.append(position)
        position += header.num_bytes
    return positions


def page_positions(data: bytes) -> list[int]:
    """Return where the pages of an Ogg file begin."""
    return [at for at in range(len(data)) if data[at : at + 5] == b"OggS\0"]


@cache
def sound_files() -> Mapping[str, bytes]:
    """Files by name; the name begins with the suffix."""
    pcm = "PCM_16"
    files = {
        ".wav": encoded("WAV", pcm),
        ".wav 24 bits": encoded("WAV", "PCM_24"),
        ".wav float": encoded("WAV", "FLOAT"),
        ".wav ADPCM": encoded("WAV", "MS_ADPCM"),
        ".wav extensible": encoded("WAVEX", pcm, channels=2),
        ".wav RIFX": encoded("WAV", pcm, "BIG"),
        ".rf64": encoded("RF64", pcm),
        ".w64": encoded("W64", pcm),
        ".aiff": encoded("AIFF", pcm),
        ".aifc": encoded("AIFF", pcm, "LITTLE"),
        ".aifc DWVW": encoded("AIFF", "DWVW_16"),
        ".au": encoded("AU", pcm),
        ".au little": encoded("AU", pcm, "LITTLE"),
        ".caf": encoded("CAF", pcm),
        ".caf ALAC": encoded("CAF", "ALAC_16"),
        ".flac": encoded("FLAC", pcm),
        ".mp3": encoded("MP3", "MPEG_LAYER_III"),
        ".mp3 VBR": vbr_mp3(),
        ".mp3 CBR": mpeg_frames(21, layer=3),
        ".mp2": mpeg_frames(21),
        ".ogg": encoded("OGG", "VORBIS"),
        ".opus": encoded("OGG", "OPUS", rate=48_000),
        ".sph": encoded("NIST", pcm),
        ".voc": encoded("VOC", pcm),
        ".svx": encoded("SVX", pcm),
        ".avr": encoded("AVR", pcm),
    }
    same = {
        ".wave": ".wav", ".bwf": ".wav", ".aif": ".aiff", ".snd": ".au", ".oga": ".ogg",
        ".mpga": ".mp3", ".nist": ".sph", ".8svx": ".svx", ".iff": ".svx",
    }  # fmt: skip
    return files | {name: files[original] for name, original in same.items()}
