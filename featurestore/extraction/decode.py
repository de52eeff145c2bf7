"""From an open file to mono samples, by libsndfile: the only module that calls it.

The number of decoded samples is compared with that found in the container, so that a part never
passes for the whole sound.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from featurestore.errors import AudioError
from featurestore.extraction.containers import Part, Source, ends_whole, unsupported, walk
from featurestore.extraction.notes import decoder_notes
from schemas import ClipStatus

MOST_SAMPLES_A_SECOND = 384_000
"""192 kHz in stereo, or 48 kHz in eight channels. Files with more must be shorter."""
_PIECE = 1 << 20
"""Number of samples decoded at once, over all channels."""
UNKNOWN_FRAMES = 2**63 - 1
"""Number of frames reported by libsndfile if the header does not declare it."""
_UNRECOGNISED, _UNSUPPORTED_ENCODING = 1, 4
"""Error codes of libsndfile."""
_UNSUPPORTED = re.compile(r"unimplemented|not supported|unsupported|unknown (?:format|codec)", re.I)

_HIGHEST_RATE = 10_000_000
"""Maximum sample rate in Hz; what declares more is damaged."""
_ADDED_IN_PAIRS = 8
"""Number of channels from which on NumPy's `mean` uses pairwise summation."""

_NOT_RECOGNISED = re.compile(r"resource fork|not recognised|does not exist", re.I)


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that is read from start to end.

    soundfile seeks after each read of a file that can be. That takes time, and some decoders
    (DWVW, FLAC of unknown length) cannot seek, and their files would pass for damaged.
    """

    def seekable(self) -> bool:
        """Return False: the stream cannot seek."""
        return False


def decode(source: Source, max_duration_s: float, name: str) -> tuple[NDArray[np.float32], int]:
    """Walk the container of an open file, and decode all its parts.

    Args:
        source: The open file.
        max_duration_s: Maximum total duration, in seconds.
        name: Name of the file, for messages of the decoder.

    Returns:
        Mono samples (N,) float32, contiguous, and their sample rate in Hz.

    Raises:
        AudioError: The file is truncated, damaged, too long or not supported, or its parts differ
            in sample rate or number of channels.
        OSError: The file could not be read.
    """
    container = walk(source, max_duration_s)
    if container is None:
        raise _unknown(source)
    if container.name != "MPEG":
        return _decode_parts(source, container.parts, max_duration_s)
    with decoder_notes() as notes:
        decoded = _decode_parts(source, container.parts, max_duration_s)
    judge_notes(notes, name)
    return decoded


def _unknown(source: Source) -> AudioError:
    """Return the error of a container that was not walked.

    The decoder may know it (IRCAM, PAF, PVF, HTK, MAT): its headers give no length, or one that the
    decoder does not compare with what is there, so it is not read.

    Raises:
        AudioError: The decoder does not know it, either.
    """
    with _opened(source, Part(0, source.size)) as file:
        name = file.format_info.partition(" (")[0]
    return unsupported(
        f"{name} is not supported, for nothing tells a whole file of it from one cut short"
    )


def judge_notes(notes: list[str], name: str) -> None:
    """Report the messages of libmpg123, with the file's name.

    Raises:
        AudioError: One is an error, in which case the decoder returned silence for a frame.
    """
    for note in notes:
        if "error: " in note and "ID3" not in note:  # which of a tag is no loss of sound
            raise AudioError(
                ClipStatus.UNREADABLE,
                f"a frame is damaged: {note.partition('error: ')[2]}",
            )
    if notes:
        more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
        from featurestore.terminal import Terminal  # Rich, which hardly any file needs

        Terminal(stderr=True).say(f"{name}: the decoder notes: {notes[0]}{more}")


def _decode_parts(
    source: Source, parts: tuple[Part, ...], max_duration_s: float
) -> tuple[NDArray[np.float32], int]:
    waveforms: list[NDArray[np.float32]] = []
    form: tuple[int, int] | None = None
    left = max_duration_s
    for number, part in enumerate(parts, start=1):
        with _naming_cuts(source, part), _opened(source, part) as file:
            waveform = _downmixed(file, left, part)
            rate = file.samplerate
            if form not in (None, (rate, file.channels)):
                raise AudioError(
                    ClipStatus.UNREADABLE,
                    f"part {number} of {len(parts)} is at {rate} Hz in {file.channels} channels, "
                    f"the first at {form[0]} Hz in {form[1]}; split them",
                )
            form = rate, file.channels
        left -= waveform.size / rate
        waveforms.append(waveform)
    assert form is not None, "a container has at least one part"  # noqa: S101
    return (waveforms[0] if len(waveforms) == 1 else np.concatenate(waveforms)), form[0]


@contextmanager
def _naming_cuts(source: Source, part: Part) -> Iterator[None]:
    """Tell a file that lacks its end from one that the decoder finds damaged."""
    try:
        yield
    except AudioError as error:
        if error.status is not ClipStatus.UNREADABLE or ends_whole(source, part):
            raise
        raise AudioError(
            ClipStatus.TRUNCATED,
            f"the last FLAC frame, at byte {part.last_at}, is cut short or damaged",
        ) from error


@contextmanager
def _opened(source: Source, part: Part) -> Iterator[_Stream]:
    """Open the part with libsndfile, whose errors become ours.

    libsndfile reads a descriptor itself. Reading through Python callbacks would lose a Ctrl-C that
    arrives in one, and the clip would pass for damaged.
    """
    with part_descriptor(source, part) as descriptor:
        os.lseek(descriptor, 0, os.SEEK_SET)
        with soundfile_errors(), _Stream(soundfile_name(descriptor), closefd=False) as file:
            yield file


@contextmanager
def soundfile_errors() -> Iterator[None]:
    """Translate libsndfile's errors into AudioError."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        raise _translated(error) from error


@contextmanager
def part_descriptor(source: Source, part: Part) -> Iterator[int]:
    """Yield the file's own descriptor for a whole file, else that of a temporary copy."""
    if not part.prefix and part.start == 0 and part.stop == source.size:
        yield source.descriptor
        return
    with tempfile.TemporaryFile() as copy:
        copy.write(part.prefix)
        position = part.start
        while position < part.stop:
            piece = source.at(position, min(1 << 20, part.stop - position))
            if not piece:
                break
            copy.write(piece)
            position += len(piece)
        copy.flush()
        yield copy.fileno()


def soundfile_name(descriptor: int) -> int | str:
    """Return the argument for libsndfile: a path for an MP3 without a tag, else a descriptor."""
    sync = os.pread(descriptor, 2, 0)
    return f"/dev/fd/{descriptor}" if sync >= b"\xff\xe0" else descriptor


def _translated(error: soundfile.LibsndfileError) -> AudioError:
    text = error.error_string
    if error.code == _UNSUPPORTED_ENCODING or _UNSUPPORTED.search(text):
        return AudioError(
            ClipStatus.UNSUPPORTED,
            f"the decoder says: {text.rstrip('.')}; convert it to WAV or FLAC",
        )
    if error.code == _UNRECOGNISED or _NOT_RECOGNISED.search(text):
        # For other bytes libsndfile tries formats that it knows by a name or a second file.
        text = "it begins like no sound file"
    return AudioError(ClipStatus.UNREADABLE, text)


def frame_limit(rate: int, channels: int, frames: int, max_duration_s: float) -> int:
    """Return the maximum number of sample frames of a file.

    Raises:
        AudioError: Its header declares more, or a rate that no sound has.
    """
    if rate > _HIGHEST_RATE:
        raise AudioError(ClipStatus.UNREADABLE, f"its header gives a sample rate of {rate} Hz")
    limit = int(max_duration_s * min(rate, MOST_SAMPLES_A_SECOND // max(2, channels)))
    if limit < frames < UNKNOWN_FRAMES:
        raise AudioError(
            ClipStatus.TOO_LONG,
            f"{frames} samples in {channels} channels at {rate} Hz; max_duration_s allows {limit}",
        )
    return limit


def _downmixed(file: _Stream, max_duration_s: float, part: Part) -> NDArray[np.float32]:
    """Return the mean of the channels, read in pieces so that a lying header cannot exhaust memory.

    16-bit samples are taken as they are: libsndfile needs longer to make floats of them than to
    read them, and dividing by 2^15 here is as exact.
    """
    limit = frame_limit(file.samplerate, file.channels, file.frames, max_duration_s)
    waveform = read_mixed(file, min(file.frames, limit + 1))
    length = waveform.size
    frame_limit(file.samplerate, file.channels, length, max_duration_s)
    if length < file.frames < UNKNOWN_FRAMES and part.num_frames is None:
        raise AudioError(ClipStatus.TRUNCATED, f"{length} of {file.frames} samples")
    return _compared(waveform[part.skip :], file.samplerate, part)


def read_mixed(file: soundfile.SoundFile, num_frames: int) -> NDArray[np.float32]:
    """Read up to `num_frames` frames of an open file in pieces, as the mean of the channels."""
    # Pages that are never written cost nothing, should the header have promised too much.
    waveform = np.empty(num_frames, np.float32)
    dtype = "int16" if file.subtype == "PCM_16" else "float32"
    size = max(1, _PIECE // file.channels)
    length = 0
    while length < num_frames:
        piece = file.read(min(size, num_frames - length), dtype=dtype, always_2d=True)
        if not len(piece):
            break
        mix(piece, waveform[length : length + len(piece)])
        length += len(piece)
    return waveform[:length]


def _compared(waveform: NDArray[np.float32], rate: int, part: Part) -> NDArray[np.float32]:
    """Return the samples, provided that the decoder gave as many as the container holds."""
    if part.num_frames is None:
        return waveform
    expected = part.num_frames
    if part.rate is not None:
        expected = expected * rate // part.rate
    if waveform.size + part.tolerance < expected:
        raise AudioError(
            ClipStatus.UNREADABLE,
            f"the decoder gave {waveform.size} of {expected} samples: the rest is damaged",
        )
    if part.exact and waveform.size > expected:
        raise AudioError(
            ClipStatus.UNREADABLE,
            f"the header holds {expected} samples by their size, {waveform.size} by their format",
        )
    return waveform[:expected] if part.at_most else waveform


def mix(piece: NDArray[Any], mono: NDArray[np.float32]) -> None:
    """Write the mean over the channels of (n, channels) to (n,); integers are divided by 2^15."""
    integer = piece.dtype == np.int16
    channels = piece.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):  # the peak will tell
        if channels == 1:
            mono[:] = piece[:, 0]
        elif channels < _ADDED_IN_PAIRS:  # a mean along so short an axis takes ten times as long
            np.add(piece[:, 0], piece[:, 1], out=mono, dtype=np.float32)
            for channel in range(2, channels):
                mono += piece[:, channel]
            if not integer:
                mono += np.float32(0)  # where `mean` begins: it makes 0.0 of nothing but -0.0
            mono /= np.float32(channels)
        else:
            piece.mean(axis=1, dtype=np.float32, out=mono)
    if integer:
        mono *= np.float32(2**-15)
