"""The data after the sound of a file: padding, tags, text, or other sound, which would be lost.

Files get concatenated, and recorders write a size before they have written all samples. So whatever
the decoder leaves unread is searched, in every container.
"""

import re
from collections.abc import Iterator

from featurestore.extraction.containers.foreign import foreign_format
from featurestore.extraction.containers.mpegframe import SYNC, follow
from featurestore.extraction.containers.parts import damaged
from featurestore.extraction.containers.source import Source
from featurestore.extraction.containers.tags import skip_tags

_MOST_TAIL = 4096
"""Maximum number of bytes after the end of the sound that are accepted as junk."""
_SEARCHED = 1 << 20
"""Bytes after the end that are searched for other sound."""
_MOST_GAPS = 100
_STARTS = re.compile(
    rb"RI(?:FF|FX)....WAVE|RF64....WAVE|BW64....WAVE|FORM....(?:AIF[FC]|8SVX|16SV)|caff\0[\x01\x02]"
    rb"|\.snd\0|dns\..{3}\0|NIST_1A\n|2BIT|riff\x2e\x91\xcf\x11|Creative Voice File\x1a"
    rb"|ALawSoundFile\*\*\0|\x01\x04[ -~]{16}|fLaC[\0\x80]\0\0\x22|OggS\0|\0\0..ftyp"
    rb"|MPCKSH|MP\+[\x07\x17]|wvpk....[\x02-\x10]\x04"
    rb"|TTA1[\x01\x02]\0|MAC .\x0f|\x1aE\xdf\xa3|0&\xb2u\x8ef\xcf\x11",
    re.DOTALL,
)
"""First bytes of the containers that are walked, except MPEG audio, and of some that are not."""
_IN_SAMPLES = re.compile(
    rb"(?:RI(?:FF|FX)|RF64)....WAVE|FORM....(?:AIF[FC]|8SVX|16SV)|caff\0\x01\0\0desc"
    rb"|riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb|fLaC[\0\x80]\0\0\x22|OggS\0\x02\0{8}",
    re.DOTALL,
)
"""First bytes that are not found by chance among the samples of a long file, either."""
_FRAMES = 2
"""Consecutive MPEG frames that are not found by chance in so few bytes."""


def check_tail(source: Source, end: int, stop: int | None = None) -> None:
    """Check that only a few bytes, a tag, text or zeros follow the end of the sound.

    Args:
        source: The file.
        end: Position after the sound.
        stop: Position up to which to check; the end of the file by default.

    Raises:
        AudioError: Something else follows, which may be sound that the decoder would not read.
    """
    stop = source.size if stop is None else min(stop, source.size)
    if end >= stop:
        return
    refuse_joined(source, end, stop)
    behind = _after_padding(source, end, stop)
    if stop - behind > _MOST_TAIL and not _is_text(source.at(behind, 4)):
        raise damaged(
            f"{stop - end} bytes follow the end of the sound, at byte {end}, and are neither "
            "padding nor a tag: the size is wrong, or something else was put behind the file"
        )


def refuse_joined(source: Source, end: int, stop: int | None = None) -> None:
    """Raise an error if other sound follows the end, at once or after padding, tags or text.

    Raises:
        AudioError: It does; the decoder would read the first sound only.
    """
    stop = source.size if stop is None else min(stop, source.size)
    behind = _after_padding(source, end, stop)
    if behind < stop and foreign_format(source, behind):
        _raise_joined(behind)
    for begin in sorted({end, behind}):
        for position in find_starts(source, begin, min(stop, begin + _SEARCHED)):
            _raise_joined(position)


def joined(source: Source, positions: set[int]) -> None:
    """Raise an error if another sound file begins at a position where this one may end.

    Raises:
        AudioError: One does; the decoder would read the first file only.
    """
    for position in sorted(positions):
        if 0 < position < source.size and _STARTS.match(source.at(position, 32)):
            _raise_joined(position)


def refuse_within(source: Source, start: int) -> None:
    """Raise an error if another file begins among samples whose end is unknown.

    Raises:
        AudioError: One does; the decoder would read its header as sound.
    """
    for position in range(start, source.size, _SEARCHED):
        if match := _IN_SAMPLES.search(source.at(position, _SEARCHED + 32)):
            _raise_joined(position + match.start())


def _raise_joined(position: int) -> None:
    raise damaged(
        f"a second file begins at byte {position}: only the first would be read; split them"
    )


def find_starts(source: Source, start: int, stop: int) -> Iterator[int]:
    """Yield the positions in [start, stop) at which a container or MPEG frames begin."""
    data = source.at(start, stop - start)
    for match in _STARTS.finditer(data):
        yield start + match.start()
    for match in SYNC.finditer(data):
        if follow(source, start + match.start(), _FRAMES):
            yield start + match.start()


def _after_padding(source: Source, position: int, stop: int) -> int:
    """Return the position after all zeros and tags that begin at a position, in any order."""
    for _ in range(_MOST_GAPS):
        behind = source.after_zeros(skip_tags(source, position), stop)
        if behind == position:
            break
        position = behind
    return position


def _is_text(data: bytes) -> bool:
    """Return whether these bytes may name a chunk, or begin a text."""
    return all(0x20 <= byte < 0x7F or byte in b"\t\n\r\xa9" for byte in data)
