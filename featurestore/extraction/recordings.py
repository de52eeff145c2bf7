"""Parts of long recordings: a file is hashed and walked once, and kept open for the next part.

Decoding seeks. libsndfile seeks exactly in WAV and FLAC; in Ogg it needs the help of `_go_to`. In
an MP3, where seeking within an hour takes 0.4 s, only the frames around a part are decoded
(`mpegcut`), which gives the same samples to 1e-7.
"""

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isnan
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from featurestore.cliplist import NO_ITEM
from featurestore.errors import AudioError
from featurestore.extraction.containers import Part, Source, walk
from featurestore.extraction.containers.mpegcut import LEADS, cut
from featurestore.extraction.decode import (
    UNKNOWN_FRAMES,
    judge_notes,
    part_descriptor,
    read_mixed,
    soundfile_errors,
    soundfile_name,
)
from featurestore.extraction.notes import decoder_notes
from featurestore.extraction.shards import copy_item
from featurestore.extraction.sources import FileIdentity, file_sha256, identify, open_source
from schemas import ClipStatus

MAX_RECORDING_S = 86_400.0
"""Maximum duration in seconds of a recording with parts: a day."""
_MOST_BYTES = 1 << 38
_MOST_COPIED_BYTES = 1 << 33
_MOST_OPEN = 64
"""Maximum number of recordings that a thread keeps open."""
_MOST_COPIES = 4
"""Maximum number of open recordings that are copies from shards."""
_OGG_LEAD_S = 2
"""Seconds decoded before a part of an Ogg file."""
_SLACK_S = 0.01
"""Seconds by which a part may end after its recording, as times in tables are rounded."""


@dataclass(frozen=True)
class Span:
    """The part of a file that is a clip.

    Attributes:
        start_s: Start in the recording, in seconds; NaN for its start.
        end_s: End in the recording, in seconds; NaN for its end.
        item: Position of the recording in a shard, see `shards`; `NO_ITEM` for a plain file.
    """

    start_s: float = np.nan
    end_s: float = np.nan
    item: int = NO_ITEM

    @property
    def is_whole(self) -> bool:
        """Whether the clip is the whole recording."""
        return isnan(self.start_s) and isnan(self.end_s)


@dataclass(frozen=True)
class _Facts:
    """Facts from one reading of a whole recording."""

    sha256: bytes
    name: str
    part: Part


class _Recording:
    """An open recording."""

    def __init__(self, path: Path, descriptor: int, facts: _Facts, size: int) -> None:
        self.facts, self._descriptor, self._is_mpeg = facts, descriptor, facts.name == "MPEG"
        self._path = path
        self._source = Source(descriptor, size)
        self._skip = facts.part.skip
        self._opened = ExitStack()
        if facts.part.frames is not None and facts.part.num_frames is not None:
            self.rate, self.num_frames = facts.part.frames.header.rate, facts.part.num_frames
            return
        self.rate = self._file.samplerate
        self.num_frames = self._file.frames - self._skip
        if (known := facts.part.num_frames) is not None:
            counted = known * self.rate // (facts.part.rate or self.rate)
            self.num_frames = min(self.num_frames, counted)
        if self._file.frames >= UNKNOWN_FRAMES or not self._file.seekable():
            raise AudioError(
                ClipStatus.UNSUPPORTED,
                "its length is not known, so no parts are taken; convert it to WAV or FLAC",
            )

    @cached_property
    def _file(self) -> soundfile.SoundFile:
        """The whole recording, open. An MP3 of which runs can be cut out hardly ever needs it."""
        with self._notes(), soundfile_errors():
            copy = self._opened.enter_context(part_descriptor(self._source, self.facts.part))
            os.lseek(copy, 0, os.SEEK_SET)
            file = soundfile.SoundFile(soundfile_name(copy), closefd=False)
        self._opened.callback(self._close_file, file)
        return file

    @staticmethod
    def _close_file(file: soundfile.SoundFile) -> None:
        with suppress(soundfile.SoundFileError):
            file.close()

    @contextmanager
    def _notes(self) -> Iterator[None]:
        if not self._is_mpeg:
            yield
            return
        with decoder_notes() as notes:
            yield
        judge_notes(notes, str(self._path))

    def read(self, span: Span) -> NDArray[np.float32]:
        """Return the mono samples of a part.

        Raises:
            AudioError: It is not in the recording, or is damaged.
        """
        start, stop = self._frames(span)
        for lead in LEADS if self.facts.part.frames is not None else ():
            if (waveform := self._read_cut(start, stop, lead)) is not None:
                return waveform
        with self._notes(), soundfile_errors():
            self._go_to(start + self._skip)
            waveform = read_mixed(self._file, stop - start)
        if waveform.size < stop - start:
            raise AudioError(
                ClipStatus.UNREADABLE,
                f"the decoder gave {waveform.size} of {stop - start} samples: the rest is damaged",
            )
        return waveform

    def _read_cut(self, start: int, stop: int, lead: int) -> NDArray[np.float32] | None:
        """Return the samples of a run of an MP3's frames, decoded alone.

        None if there is no such run, or the decoder finds an error in it, which may be that it
        misses what came before the run.
        """
        frames = self.facts.part.frames
        stream = cut(self._source, frames, start, stop, lead) if frames is not None else None
        if stream is None:
            return None
        waveform = None
        with tempfile.TemporaryFile() as file, decoder_notes() as notes:
            file.write(stream.data)
            file.flush()
            with (
                suppress(soundfile.LibsndfileError),
                soundfile.SoundFile(soundfile_name(file.fileno()), closefd=False) as decoded,
            ):
                waveform = read_mixed(decoded, stream.skip + stop - start)[stream.skip :]
        errors = [note for note in notes if "error: " in note]
        return None if errors or waveform is None or waveform.size < stop - start else waveform

    def _go_to(self, frame: int) -> None:
        """Have the next read give the sample at `frame`, as it is if all before it was read."""
        ahead = frame - self._file.tell()
        if ahead == 0:
            return
        if self._file.format != "OGG":
            self._file.seek(frame)
            return
        # libsndfile 1.2 misses its place in Vorbis after a short way forwards and in the last
        # pages, and Opus sounds otherwise for a while: of 400 places up to 100 were wrong. From
        # the start, to well before the place, and never to the end, none of 12,000 was.
        lead = _OGG_LEAD_S * self.rate
        if not 0 < ahead <= 2 * lead:
            self._file.seek(0)
            before = min(frame, self._file.frames - 2 * lead) - lead
            if before > 0:
                self._file.seek(before)
        read_mixed(self._file, frame - self._file.tell())

    def _frames(self, span: Span) -> tuple[int, int]:
        length_s = self.num_frames / self.rate
        start_s = 0.0 if isnan(span.start_s) else span.start_s
        end_s = length_s if isnan(span.end_s) else span.end_s
        start, stop = round(start_s * self.rate), round(end_s * self.rate)
        if start >= self.num_frames or end_s > length_s + _SLACK_S:
            raise AudioError(
                ClipStatus.TRUNCATED,
                f"the part from {start_s:g} s to {end_s:g} s is not in the recording of "
                f"{length_s:g} s",
            )
        return start, min(stop, self.num_frames)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()
        os.close(self._descriptor)


class _Opened(threading.local):
    """The recordings that a thread has open, the last used at the end."""

    def __init__(self) -> None:
        self.recordings: OrderedDict[tuple[FileIdentity, int], _Recording] = OrderedDict()


_opened = _Opened()


def read_part(
    path: Path, span: Span, max_duration_s: float
) -> tuple[NDArray[np.float32], int, bytes]:
    """Return a part of a recording as mono samples, with its rate and the file's digest.

    Args:
        path: Path of the recording.
        span: Part to read.
        max_duration_s: Maximum duration of the part, in seconds.

    Raises:
        AudioError: The file is unusable, or the part is not within it.
        OSError: The file could not be read.
    """
    recording = _recording(path, span.item)
    start_s = 0.0 if isnan(span.start_s) else span.start_s
    end_s = recording.num_frames / recording.rate if isnan(span.end_s) else span.end_s
    if end_s - start_s > max_duration_s:
        raise AudioError(
            ClipStatus.TOO_LONG,
            f"the part has {end_s - start_s:g} s; max_duration_s allows {max_duration_s:g}",
        )
    return recording.read(span), recording.rate, recording.facts.sha256


def _recording(path: Path, item: int) -> _Recording:
    """Return an open recording, opened by this thread before if it still is the same file."""
    descriptor, _ = open_source(path, _MOST_BYTES)
    with ExitStack() as opened:
        opened.callback(os.close, descriptor)
        key = identify(path, descriptor), item
    known = _opened.recordings
    if key in known:
        known.move_to_end(key)
        return known[key]
    facts = _facts(*key)
    if isinstance(facts, AudioError):
        raise facts
    descriptor, size = _open(path, item)
    with ExitStack() as opened:
        opened.callback(os.close, descriptor)
        recording = _Recording(path, descriptor, facts, size)
        opened.pop_all()
    known[key] = recording
    copies = [key for key in known if key[1] != NO_ITEM]
    for old in (*copies[:-_MOST_COPIES], *list(known)[:-_MOST_OPEN]):
        known.pop(old).close()
    return recording


def _open(path: Path, item: int) -> tuple[int, int]:
    """Open a recording, or a nameless copy of one that lies in a shard: descriptor and size."""
    if item == NO_ITEM:
        return open_source(path, _MOST_BYTES)
    with tempfile.TemporaryFile() as copy:
        size = copy_item(path, item, _MOST_COPIED_BYTES, copy)
        copy.seek(0)
        return os.dup(copy.fileno()), size


@lru_cache(maxsize=1 << 14)
def _facts(key: FileIdentity, item: int) -> _Facts | AudioError:
    """Hash and walk a file, or say why it is of no use: once per process while it stays the same.

    Raises:
        OSError: The file could not be read.
    """
    try:
        descriptor, size = _open(Path(key.path), item)
    except AudioError as error:
        return error
    try:
        digest = file_sha256(descriptor)
        container = walk(Source(descriptor, size), MAX_RECORDING_S)
    except AudioError as error:
        return error
    finally:
        os.close(descriptor)
    if container is None:
        return _Facts(digest, "", Part(0, size))
    if len(container.parts) > 1:
        return AudioError(
            ClipStatus.UNSUPPORTED,
            f"is joined from {len(container.parts)} streams, of which no parts are taken; convert "
            "it to one WAV or FLAC",
        )
    return _Facts(digest, container.name, container.parts[0])
