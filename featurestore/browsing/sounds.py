"""The sound of a clip, read on demand from the root of the audio, and its waveform for drawing.

The file must be the one from which the features were made: its digest is compared with the store's.
"""

import io
import math
import wave
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.browsing.contents import Contents
from featurestore.errors import AudioError, SourcesError
from featurestore.extraction import audio
from featurestore.extraction.features import trim_bounds
from featurestore.extraction.recordings import Span
from featurestore.extraction.sources import clip_file
from featurestore.text import json_text
from schemas import ClipStatus

_ENVELOPE = 2000
"""Number of points of a drawn waveform."""
_KEPT_BYTES = 1 << 28
"""Bytes of sounds kept in memory; a larger sound is kept alone."""
_PIECE = 1 << 16
"""Samples written at once."""


@dataclass(frozen=True)
class Sound:
    """A clip's sound.

    Args:
        wav: Content of a 16-bit mono WAV file, at the file's own sample rate.
        facts: Level, duration, trimmed silence, and the envelope of the waveform.
    """

    wav: bytes
    facts: dict[str, Any]


class Sounds:
    """Reads the sounds of a dataset's clips, and caches the most recent ones.

    Args:
        root: Root of the audio.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kept: OrderedDict[tuple[str, int], Sound] = OrderedDict()
        self._lock = Lock()

    def sound(self, contents: Contents, number: int) -> Sound:
        """Return a clip's sound.

        Raises:
            IndexError: There is no such clip.
            AudioError: The file is missing, or cannot be decoded.
            SourcesError: It is not the file from which the features were made.
        """
        contents.place(number)
        key = contents.revision, number
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = self._make(contents, number)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return made

    def _make(self, contents: Contents, number: int) -> Sound:
        table, spec = contents.table, contents.dataset.manifest.spec
        path = str(table.path[number])
        span = Span(
            float(table.start_s[number]), float(table.end_s[number]), int(table.item[number])
        )
        waveform, rate, digest = audio.read_mono(
            clip_file(self._root, path), spec.max_duration_s, span
        )
        stored = bool(table.status[number] == ClipStatus.OK)
        if stored and digest != contents.digest(number):
            raise SourcesError(
                f"{json_text(path)} is not the file that the features were made from: its bytes "
                "have another SHA-256 than the store has"
            )
        if not waveform.size or not np.isfinite(waveform).all():
            raise AudioError(ClipStatus.NON_FINITE, "nothing that can be played")
        peak = float(np.abs(waveform).max())
        resampled = audio.resample(waveform, rate, spec)
        start, stop = 0, resampled.size
        if spec.trim is not None:
            start, stop = trim_bounds(resampled, spec.sample_rate, spec.trim)
        low, high = _outline(waveform, peak)
        facts = {
            "rate": rate,
            "seconds": waveform.size / rate,
            "peak_db": round(20 * math.log10(peak), 2) if peak else None,
            "scaled": peak > 1,
            "compared": stored,
            "trimmed_s": [start / spec.sample_rate, stop / spec.sample_rate],
            "low": low,
            "high": high,
        }
        return Sound(wav_bytes(waveform / max(1.0, peak), rate), facts)


def _size(sound: Sound) -> int:
    return len(sound.wav)


def _outline(waveform: NDArray[np.float32], peak: float) -> tuple[list[float], list[float]]:
    """Return the least and the largest sample of spans of equal length, over the peak."""
    edges = np.unique(np.linspace(0, waveform.size, _ENVELOPE, endpoint=False).astype(int))
    scale = 1 / (peak or 1)
    low, high = (
        np.round(bound.reduceat(waveform, edges).astype(np.float64) * scale, 3).tolist()
        for bound in (np.minimum, np.maximum)
    )
    return low, high


def wav_bytes(waveform: NDArray[np.float32], rate: int) -> bytes:
    """Return samples (N,) in [-1, 1] as the bytes of a 16-bit WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.setnframes(waveform.size)
        for start in range(0, waveform.size, _PIECE):
            piece = waveform[start : start + _PIECE] * 32767
            file.writeframes(np.rint(piece).astype("<i2").tobytes())
    return out.getvalue()
