"""Sound whose length was unknown when it was written, and streams without a header."""

import struct
from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import AudioError
from featurestore.extraction import audio
from schemas import ClipStatus
from tests.decoded import SPEC, outcome, seconds, status
from tests.sound_files import (
    RATE,
    SECONDS,
    encoded,
    frame_positions,
    mpeg_frames,
    sound_files,
    vbr_mp3,
)


def _with_size(data: bytes, tag: bytes, size: int, order: str, width: int = 4) -> bytes:
    at = data.index(tag) + len(tag)
    return data[:at] + size.to_bytes(width, order) + data[at + width :]  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 0x7FFFFF00, 0x7FFFFFFF, 0x80000000, 0xFFFFFFDB, 0xFFFFFFFF])
@pytest.mark.parametrize(
    ("name", "tag", "order"),
    [
        (".wav", b"data", "little"),
        (".wav 24 bits", b"data", "little"),
        (".wav RIFX", b"data", "big"),
    ],
)
def test_a_riff_whose_size_was_unknown_is_read_whole(
    tmp_path: Path, name: str, tag: bytes, order: str, size: int
) -> None:
    data = _with_size(sound_files()[name], tag, size, order)
    assert seconds(tmp_path, data) == pytest.approx(SECONDS, abs=1e-3)
    assert seconds(tmp_path, data[:-1000]) == pytest.approx(SECONDS, abs=0.03)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])
def test_an_au_file_whose_size_was_unknown_is_read_whole(tmp_path: Path, size: int) -> None:
    data = bytearray(sound_files()[".au"])
    data[8:12] = size.to_bytes(4)
    assert seconds(tmp_path, bytes(data)) == SECONDS


@pytest.mark.parametrize("size", [0, 2**64 - 1])
def test_an_rf64_and_a_caf_whose_size_was_unknown_are_read_whole(tmp_path: Path, size: int) -> None:
    rf64 = bytearray(sound_files()[".rf64"])
    at = rf64.index(b"ds64") + 8
    rf64[at : at + 16] = size.to_bytes(8, "little") * 2
    caf = bytearray(sound_files()[".caf"])
    at = caf.index(b"data") + 4
    caf[at : at + 8] = b"\xff" * 8
    assert seconds(tmp_path, bytes(rf64)) == pytest.approx(SECONDS, abs=1e-3)
    assert seconds(tmp_path, bytes(caf)) == pytest.approx(SECONDS, abs=1e-3)


SIZES: dict[str, tuple[str, list[tuple[bytes, int, int, int]]]] = {
    ".wav": ("little", [(b"RIFF", 4, 4, 0), (b"data", 4, 4, 0)]),
    ".wav float": ("little", [(b"RIFF", 4, 4, 0), (b"fact", 8, 4, 0), (b"data", 4, 4, 0)]),
    ".wav ADPCM": ("little", [(b"RIFF", 4, 4, 0), (b"fact", 8, 4, 0), (b"data", 4, 4, 0)]),
    ".wav RIFX": ("big", [(b"RIFX", 4, 4, 0), (b"data", 4, 4, 0)]),
    ".rf64": (
        "little",
        [
            (b"RF64", 4, 4, 0),
            *((b"ds64", offset, 8, 0) for offset in (8, 16, 24)),
            (b"data", 4, 4, 0),
        ],
    ),
    ".w64": ("little", [(b"riff", 16, 8, 24), (b"data", 16, 8, 24)]),
    ".aiff": ("big", [(b"FORM", 4, 4, 0), (b"COMM", 10, 4, 0), (b"SSND", 4, 4, 8)]),
    ".aifc": ("big", [(b"FORM", 4, 4, 0), (b"COMM", 10, 4, 0), (b"SSND", 4, 4, 8)]),
    ".caf": ("big", [(b"data", 4, 8, 4)]),
    ".caf ALAC": ("big", [(b"data", 4, 8, 4)]),
    ".au": ("big", [(b".snd", 8, 4, 0)]),
    ".au little": ("little", [(b"dns.", 8, 4, 0)]),
    ".voc": ("little", [(b"Creative", 27, 3, 0)]),
    ".svx": ("big", [(b"FORM", 4, 4, 0), (b"VHDR", 8, 4, 0), (b"BODY", 4, 4, 0)]),
    ".avr": ("big", [(b"2BIT", 26, 4, 0)]),
    "MPC2K": ("little", [(b"\1\4", 30, 4, 0)]),
    "WVE": ("big", [(b"ALaw", 18, 4, 0)]),
}
"""Byte order, and where sizes are: their mark, how far behind it, how wide; the size of nothing."""


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_are_unknown_at_any_level_leave_nothing_out(tmp_path: Path, name: str) -> None:
    """Nothing, all ones, and the largest number with a sign: of each level, and of all at once."""
    data = sound_files().get(name) or encoded(name, "ALAW" if name == "WVE" else "PCM_16")
    order, places = SIZES[name]
    whole = seconds(tmp_path, data)
    for chosen in [*([place] for place in places), places]:
        for value in (0, -1, "signed", "empty"):
            spoiled = data
            for tag, offset, width, empty in chosen:
                largest = (1 << 8 * width) - 1
                size = {-1: largest, "signed": largest >> 1, "empty": empty}.get(value, 0)
                at = data.index(tag) + offset
                put = size.to_bytes(width, order)  # type: ignore[arg-type]
                spoiled = spoiled[:at] + put + spoiled[at + width :]
            assert seconds(tmp_path, spoiled) == pytest.approx(whole, abs=0.03), (chosen, value)


@pytest.mark.parametrize("name", [".wav", ".rf64", ".w64", ".aiff", ".aifc", ".caf", ".svx"])
def test_a_file_behind_sound_of_unknown_length_is_not_read_as_samples(
    tmp_path: Path, name: str
) -> None:
    data = sound_files()[name]
    for tag, offset, width, _ in SIZES[name][1]:
        at = data.index(tag) + offset
        data = data[:at] + bytes(width) + data[at + width :]
    for other in (name, ".wav", ".flac", ".ogg"):
        for gap in (b"", bytes(300)):
            found = outcome(tmp_path, data + gap + sound_files()[other])
            assert "a second file begins at byte" in str(found), other


@pytest.mark.parametrize("count", [b"0", b"-1", b"4294967295", b"2147483647"])
def test_a_sphere_file_whose_number_of_samples_was_unknown_is_read_whole(
    tmp_path: Path, count: bytes
) -> None:
    data = sound_files()[".sph"]
    head = data[:1024].replace(b"-i 11025\n", b"-i " + count + b"\n")
    assert seconds(tmp_path, head.ljust(1024, b"\0")[:1024] + data[1024:]) == SECONDS


@pytest.mark.parametrize("size", [0, (1 << 36) - 1])
def test_a_flac_as_a_pipe_writes_it_is_read_to_the_sample(tmp_path: Path, size: int) -> None:
    data = bytearray(sound_files()[".flac"])
    whole = tmp_path / "whole.flac"
    whole.write_bytes(data)
    data[18:26] = (int.from_bytes(data[18:26]) >> 36 << 36 | size).to_bytes(8)
    pipe = tmp_path / "pipe.flac"
    pipe.write_bytes(data)
    np.testing.assert_array_equal(audio.load(pipe, SPEC).waveform, audio.load(whole, SPEC).waveform)
    assert status(tmp_path, bytes(data[: len(data) * 6 // 10])).failed


def test_a_vbr_mp3_without_a_header_is_read_to_the_end(tmp_path: Path) -> None:
    data = vbr_mp3(2.0)
    frames = len(frame_positions(data))
    assert seconds(tmp_path, data) == frames * 576 / RATE


def test_an_mp3_without_a_header_begins_with_its_first_sample(tmp_path: Path) -> None:
    """Samples the decoder drops from a stream with a header are not dropped from one without."""
    whole, bare = encoded("MP3", "MPEG_LAYER_III"), vbr_mp3()
    for name, data in (("whole", whole), ("bare", bare)):
        (tmp_path / name).write_bytes(data)
    expected = audio.load(tmp_path / "whole", SPEC).waveform
    found = audio.load(tmp_path / "bare", SPEC).waveform
    delay = int(np.argmax(np.correlate(found[:6000], expected[:4000], "valid")))
    assert 1000 < delay < 1210  # the encoder's delay and the decoder's, resampled to 22 kHz


@pytest.mark.parametrize("frames", [30, 200_000])
def test_an_mp3_whose_header_promises_too_much_is_truncated(tmp_path: Path, frames: int) -> None:
    data = encoded("MP3", "MPEG_LAYER_III")
    at = next(data.index(name) for name in (b"Info", b"Xing") if name in data)
    spoiled = data[: at + 8] + frames.to_bytes(4) + data[at + 12 :]
    found = outcome(tmp_path, spoiled)
    assert isinstance(found, AudioError)
    assert found.status == ClipStatus.TRUNCATED
    assert f" of {frames} MPEG frames" in str(found)


@pytest.mark.parametrize(
    "before",
    [
        bytes(5000),
        b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0xA0000000) + bytes(2008),
        b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0xA0000000) + bytes(8 + 32),
        b"ID3\x04\0\0\0\0\0\x0a" + bytes(10),
        # A size that is not coded as version 4 demands, as iTunes wrote it.
        b"ID3\x04\0\0\0\0\x02\x0aAPIC\0\0\0\xff\0\0" + bytes(256),
        b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + bytes(700),
        bytes(range(1, 200)) * 3,
    ],
    ids=["zeros", "APE tag", "small APE tag", "ID3", "unsafe ID3", "ID3 and zeros", "junk"],
)
@pytest.mark.parametrize("name", [".mp3 VBR", ".mp3"])
def test_an_mp3_behind_something_else_is_read_whole(
    tmp_path: Path, name: str, before: bytes
) -> None:
    data = sound_files()[name]
    assert seconds(tmp_path, before + data) == seconds(tmp_path, data)


@pytest.mark.parametrize("name", sorted(sound_files()))
def test_a_tag_in_front_hides_no_container(tmp_path: Path, name: str) -> None:
    data, tag = sound_files()[name], b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
    assert seconds(tmp_path, tag + data) == seconds(tmp_path, data)
    assert status(tmp_path, tag + data[: len(data) * 6 // 10]) == ClipStatus.TRUNCATED


def test_an_mp3_cut_out_of_a_longer_stream_is_read_whole(tmp_path: Path) -> None:
    """Its first frames refer to bytes that are not there, as in every recorded stream."""
    data = encoded("MP3", "MPEG_LAYER_III")
    positions = frame_positions(data)
    for first in range(2, 12):
        found = seconds(tmp_path, data[positions[first] :])
        assert found == pytest.approx((len(positions) - first) * 1152 / 44_100)


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 1), (48_000, 2), (22_050, 2), (12_000, 1)])
def test_frames_that_lack_what_lay_before_a_cut_are_silent_and_no_damage(
    tmp_path: Path, rate: int, channels: int
) -> None:
    data = encoded("MP3", "MPEG_LAYER_III", rate=rate, channels=channels, seconds=1.5)
    positions = frame_positions(data)
    (tmp_path / "whole").write_bytes(data)
    whole = audio.load(tmp_path / "whole", SPEC).waveform
    for first in range(2, 14):
        samples = 1152 if rate > 30_000 else 576
        found = seconds(tmp_path, data[positions[first] :])
        assert found == pytest.approx((len(positions) - first) * samples / rate)
        cut = audio.load(tmp_path / "clip", SPEC).waveform
        np.testing.assert_allclose(cut[-8000:-3000].std(), whole[-8000:-3000].std(), rtol=0.1)


def test_tags_between_two_streams_of_an_mp3_are_no_damage(tmp_path: Path) -> None:
    unsafe = b"ID3\x04\0\0\0\0\x02\x0aAPIC\0\0\0\xff\0\0" + bytes(256)
    data = vbr_mp3()
    assert seconds(tmp_path, data + unsafe + data) == 2 * seconds(tmp_path, data)


def test_tags_at_the_end_of_an_mp3_and_a_flac_are_no_sound_and_no_damage(tmp_path: Path) -> None:
    foot = b"APETAGEX" + struct.pack("<IIII", 2000, 64, 1, 0) + bytes(8)
    tags = bytes(32) + foot + b"TAG" + bytes(125)
    for name in (".mp3", ".mp3 VBR", ".mp3 CBR", ".flac"):
        data = sound_files()[name]
        assert seconds(tmp_path, data + tags[64:]) == seconds(tmp_path, data)


def test_one_mpeg_frame_is_too_short_to_be_recognised(tmp_path: Path) -> None:
    found = outcome(tmp_path, mpeg_frames(1, layer=3))
    assert "too short to be recognised" in str(found)
