"""Every container: whole, cut short, damaged, joined, of unknown length. Never `ok` with less."""

import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mutate import repair_ogg, sources, spoilt
from featurestore import SUFFIXES
from featurestore.errors import AudioError
from featurestore.extraction import audio
from featurestore.extraction.containers import Source, walk
from featurestore.extraction.containers.crc16 import crc16
from schemas import ClipStatus, FeatureSpec
from tests.conftest import SHARED_DATA, needs_real_audio
from tests.pairs import each_in_turn
from tests.sound_files import (
    RATE,
    SECONDS,
    encoded,
    frame_positions,
    mpeg_frames,
    page_positions,
    sound_files,
    vbr_mp3,
)

CHUNK = st.tuples(st.sampled_from([b"fmt ", b"data", b"LIST", b"\0\0\0\0"]), st.binary(max_size=9))
LIE = st.sampled_from([0, 1, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])
SPEC = FeatureSpec()
NAMES = sorted(sound_files())
ODD = SHARED_DATA / "odd-audio"


def outcome(tmp_path: Path, data: bytes) -> float | AudioError:
    """The seconds that were read, or the error."""
    file = tmp_path / "clip"
    file.write_bytes(data)
    try:
        return audio.load(file, SPEC).duration_s
    except AudioError as error:
        return error


def status(tmp_path: Path, data: bytes) -> ClipStatus:
    found = outcome(tmp_path, data)
    assert isinstance(found, AudioError), f"ok, {found} s"
    return found.status


def seconds(tmp_path: Path, data: bytes) -> float:
    found = outcome(tmp_path, data)
    assert isinstance(found, float), str(found)
    return found


# A table over every container.


def test_the_table_has_every_suffix_that_folder_takes() -> None:
    assert {name.split()[0] for name in NAMES} == SUFFIXES


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_is_read_whole(tmp_path: Path, name: str) -> None:
    whole = 21 * 1152 / 44_100 if name in (".mp2", ".mp3 CBR") else SECONDS
    # An encoder of blocks adds up to one and its delay.
    assert whole - 0.001 < seconds(tmp_path, sound_files()[name]) < whole + 0.08


@pytest.mark.parametrize("share", [0.6, 0.99])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_cut_short_is_truncated(tmp_path: Path, name: str, share: float) -> None:
    data = sound_files()[name]
    found = status(tmp_path, data[: int(len(data) * share)])
    assert found == ClipStatus.TRUNCATED


@pytest.mark.parametrize("container", ["WVE", "MPC2K"])
def test_rarer_files_cut_short_are_truncated(tmp_path: Path, container: str) -> None:
    data = encoded(container, "ALAW" if container == "WVE" else "PCM_16")
    seconds(tmp_path, data)
    for share in (0.6, 0.99):
        assert status(tmp_path, data[: int(len(data) * share)]) == ClipStatus.TRUNCATED


@pytest.mark.parametrize("name", NAMES)
def test_two_files_joined_are_read_both_or_refused(tmp_path: Path, name: str) -> None:
    data = sound_files()[name]
    found, one = outcome(tmp_path, data + data), seconds(tmp_path, data)
    if isinstance(found, AudioError):
        assert "a second file begins at byte" in str(found)
        assert not name.startswith((".ogg", ".oga", ".opus", ".mp3", ".mp2", ".mpga", ".flac"))
    else:
        assert found == pytest.approx(2 * one, abs=1e-3)


@pytest.mark.parametrize("name", [*NAMES, "AVR", "MPC2K", "NIST", "W64", "WVE"])
def test_what_follows_the_declared_end_is_never_sound(tmp_path: Path, name: str) -> None:
    data = sound_files().get(name) or encoded(name, "ALAW" if name == "WVE" else "PCM_16")
    whole = seconds(tmp_path, data)
    for tail in (bytes(100), bytes(5000), b"a note of a recorder's program", b"\xfe\x01" * 9):
        found = outcome(tmp_path, data + tail)
        if isinstance(found, AudioError):
            assert name.startswith((".mp", ".ogg", ".oga", ".opus")), found
        else:
            assert found == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if " " not in name])
def test_a_file_of_another_kind_behind_one_is_never_left_out(tmp_path: Path, name: str) -> None:
    for other in (".wav", ".aiff", ".au", ".caf", ".w64", ".voc", ".flac", ".ogg", ".sph"):
        found = outcome(tmp_path, sound_files()[name] + sound_files()[other])
        if isinstance(found, float):
            assert found > 1.9 * SECONDS, other  # of one kind, in another suffix


KINDS = sorted({data: name for name, data in sound_files().items() if " " not in name}.values())
TAILS = {
    "small MP3": vbr_mp3(0.1),
    "small MPC": encoded("MPC2K", "PCM_16", seconds=0.05),
    "small WAV": encoded("WAV", "PCM_16", seconds=0.01),
    "WVE": encoded("WVE", "ALAW"),
    "Musepack": b"MPCKSH\x0e\x01\x02\x03" + bytes(range(1, 250)) * 40,
    "MP4": b"\0\0\0\x20ftypM4A " + bytes(range(1, 250)) * 40,
}
GAPS = {
    "nothing": b"",
    "zeros": bytes(700),
    "a tag": b"TAG" + bytes(125),
    "tag and zeros": b"TAG" + bytes(325),
    "text": b"note by me\n",
    "junk": bytes(range(1, 100)),
}


@pytest.mark.parametrize(("name", "gap"), each_in_turn([*KINDS, "MPC2K", "WVE"], [*GAPS]))
def test_sound_behind_sound_is_never_left_out(tmp_path: Path, name: str, gap: str) -> None:
    """Sound in any format after any other, directly or after what programs put in between."""
    data = sound_files().get(name) or encoded(name, "ALAW" if name == "WVE" else "PCM_16")
    one = seconds(tmp_path, data)
    others = {other: sound_files()[other] for other in (".mp3", ".mp2", ".aiff", ".ogg", ".flac")}
    for other, tail in (TAILS | others).items():
        found = outcome(tmp_path, data + GAPS[gap] + tail)
        if isinstance(found, float):
            assert found > one + 0.09, other  # of one kind
            assert other in (".mp3", ".mp2", ".ogg", ".flac", "small MP3")
        elif gap == "nothing":
            assert found.status == ClipStatus.UNREADABLE, other


def test_sound_between_two_parts_of_a_stream_is_not_left_out(tmp_path: Path) -> None:
    for name in (".ogg", ".opus", ".flac", ".mp3"):
        data = sound_files()[name]
        for between in (vbr_mp3() if name != ".mp3" else TAILS["small WAV"], TAILS["WVE"]):
            assert "a second file begins" in str(outcome(tmp_path, data + between + data)), name


def test_silence_behind_a_size_that_is_too_small_is_not_lost(tmp_path: Path) -> None:
    """Samples that begin with zeros look like padding."""
    for name, tag, order in ((".wav", b"data", "little"), (".aiff", b"SSND", "big")):
        data = sound_files()[name]
        at = data.index(tag) + 8
        size = int.from_bytes(data[at - 4 : at], order)  # type: ignore[arg-type]
        put = (size // 4).to_bytes(4, order)  # type: ignore[arg-type]
        quiet = data[: at + size // 4] + bytes(2000) + data[at + size // 4 + 2000 :]
        assert status(tmp_path, quiet[: at - 4] + put + quiet[at:]) == ClipStatus.UNREADABLE


def test_the_name_of_another_format_among_the_samples_is_chance(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, 4096, np.int16)
    noise[2000:2006] = np.frombuffer(b"RIFFabcdWAVE", ">i2")
    soundfile.write(tmp_path / "verbatim.flac", noise, RATE)
    data = (tmp_path / "verbatim.flac").read_bytes()
    assert b"RIFFabcdWAVE" in data
    assert seconds(tmp_path, data) == pytest.approx(4096 / RATE)


def test_a_voc_without_its_end_is_cut_short(tmp_path: Path) -> None:
    data = encoded("VOC", "PCM_U8")
    assert seconds(tmp_path, data) == pytest.approx(SECONDS, abs=0.01)  # whole µs per sample
    assert status(tmp_path, data[:-1]) == ClipStatus.TRUNCATED


@pytest.mark.parametrize("name", [".ogg", ".opus", ".flac"])
def test_a_byte_flipped_anywhere_in_a_file_with_checksums_is_damage(
    tmp_path: Path, name: str
) -> None:
    data = sound_files()[name]
    for position in range(0, len(data), max(1, len(data) // 40)):
        spoiled = bytearray(data)
        spoiled[position] ^= 0x10
        assert status(tmp_path, bytes(spoiled)).failed, position


@pytest.mark.parametrize("name", NAMES)
def test_a_byte_flipped_anywhere_never_gives_less(tmp_path: Path, name: str) -> None:
    data = sound_files()[name]
    whole = seconds(tmp_path, data)
    header = range(0, min(len(data), 120), 7)
    for position in [*header, *range(120, len(data), max(1, len(data) // 12))]:
        spoiled = bytearray(data)
        spoiled[position] ^= 0x04
        found = outcome(tmp_path, bytes(spoiled))
        # A header may be another one, of another rate or more channels, with as many samples.
        if isinstance(found, float):
            with soundfile.SoundFile(tmp_path / "clip") as file:
                rate = file.samplerate * file.channels
            assert found * rate >= whole * _rate(name) - 1, position


def _rate(name: str) -> int:
    """Samples per second, of all channels."""
    rates = {".opus": 48_000, ".mp2": 44_100, ".mp3 CBR": 44_100, ".wav extensible": 2 * RATE}
    return rates.get(name, RATE)


@pytest.mark.parametrize("name", [".mp3 VBR", ".mp3 CBR", ".mp2", ".mp3"])
def test_a_damaged_header_of_any_mpeg_frame_but_the_last_is_damage(
    tmp_path: Path, name: str
) -> None:
    data = sound_files()[name]
    for position in frame_positions(data)[:-1:4]:
        spoiled = bytearray(data)
        spoiled[position + 1] ^= 0xFF
        assert status(tmp_path, bytes(spoiled)) in (ClipStatus.UNREADABLE, ClipStatus.TRUNCATED)


@pytest.mark.parametrize("name", [".mp3 VBR", ".mp3", ".mp2"])
def test_zeroed_bytes_in_the_middle_of_an_mpeg_stream_are_damage(tmp_path: Path, name: str) -> None:
    data = bytearray(sound_files()[name])
    middle = len(data) // 2
    data[middle : middle + 900] = bytes(900)
    assert status(tmp_path, bytes(data)) == ClipStatus.UNREADABLE


@pytest.mark.parametrize("size", [3, 8, 20, 40])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_few_zeroed_bytes_anywhere_in_an_mp3_with_a_checksum_are_damage(
    tmp_path: Path, channels: int, size: int
) -> None:
    data = encoded("MP3", "MPEG_LAYER_III", channels=channels, rate=44_100)
    for position in range(frame_positions(data)[1], len(data) - size, 97):
        spoiled = data[:position] + bytes(size) + data[position + size :]
        if spoiled != data:
            assert status(tmp_path, spoiled).failed, position


def test_an_mp3_whose_loudness_another_program_changed_is_read(tmp_path: Path) -> None:
    data = bytearray(encoded("MP3", "MPEG_LAYER_III"))
    position = frame_positions(bytes(data))[9]
    assert status(tmp_path, _louder(bytes(data), position)) == ClipStatus.UNREADABLE
    foot = b"APETAGEX" + struct.pack("<IIII", 2000, 64, 1, 0) + bytes(8)
    tag = b"\x0c\0\0\0\0\0\0\0MP3GAIN_UNDO\0+001,+001,N"[:32].ljust(32, b"\0") + foot
    changed = _louder(bytes(data), position) + tag
    assert seconds(tmp_path, changed) == seconds(tmp_path, bytes(data))


def _louder(data: bytes, position: int) -> bytes:
    """Raise the gain of a mono frame's first granule by a step, as mp3gain does."""
    side = int.from_bytes(data[position + 4 : position + 13])  # MPEG 2: 8 + 1 bits, 12, 9, then it
    changed = side + (1 << 72 - 9 - 21 - 8)
    return data[: position + 4] + changed.to_bytes(9) + data[position + 13 :]


@pytest.mark.parametrize("size", [18, 40])
def test_zeros_within_the_samples_of_an_mp3_without_any_checksum_are_damage(
    tmp_path: Path, size: int
) -> None:
    data = encoded("MP3", "MPEG_LAYER_III", rate=44_100)
    bare = data[frame_positions(data)[1] :]
    for position in frame_positions(bare)[2:-4]:
        start = position + 30
        spoiled = bare[:start] + bytes(size) + bare[start + size :]
        assert status(tmp_path, spoiled) == ClipStatus.UNREADABLE


def test_an_mpeg_frame_that_is_gone_from_a_stream_without_a_header_is_missed(
    tmp_path: Path,
) -> None:
    data = encoded("MP3", "MPEG_LAYER_III", rate=44_100)
    bare = data[frame_positions(data)[1] :]
    positions = frame_positions(bare)
    gone = [bare[: positions[k]] + bare[positions[k + 1] :] for k in range(3, len(positions) - 3)]
    missed = [isinstance(outcome(tmp_path, data), AudioError) for data in gone]
    assert sum(missed) > len(missed) // 2  # a frame that lent no room to others cannot be missed


def test_frames_whose_own_checksum_does_not_fit_are_damage_unless_none_does(
    tmp_path: Path,
) -> None:
    """Checksums that an encoder computes in another way say nothing."""
    head, side = bytes((0xFF, 0xFA, 0x90, 0xC0)), bytes(17)
    frame = head + crc16(head[2:] + side, 0xFFFF).to_bytes(2) + side
    whole = frame.ljust(417, b"\0") * 21
    length = 21 * 1152 / 44_100
    assert seconds(tmp_path, whole) == pytest.approx(length)
    spoiled = bytearray(whole)
    spoiled[7 * 417 + 12] ^= 0x04
    assert "checksum of 1 MPEG frame" in str(outcome(tmp_path, bytes(spoiled)))
    other = (head + b"\1\2" + side).ljust(417, b"\0") * 21
    assert seconds(tmp_path, other) == pytest.approx(length)


@given(data=st.binary(max_size=2000), start=st.integers(0, 0xFFFF))
def test_a_crc16_of_rows_side_by_side_is_that_of_byte_after_byte(data: bytes, start: int) -> None:
    crc = start
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005) & 0xFFFF if crc & 0x8000 else crc << 1
    assert crc16(data, start) == crc
    assert crc16(data + crc.to_bytes(2), start) == 0


@pytest.mark.parametrize("hidden", [1, 3, 9])
@pytest.mark.parametrize("name", [".mp3", ".mp3 VBR"])
def test_a_tag_whose_size_is_too_large_hides_no_frames(
    tmp_path: Path, name: str, hidden: int
) -> None:
    data = sound_files()[name]
    for extra in (frame_positions(data)[hidden], frame_positions(data)[hidden] - 50):
        size = 90 + extra
        sizes = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
        tag = b"ID3\x04\0\0" + sizes + bytes(90)
        found = outcome(tmp_path, tag + data)
        assert isinstance(found, AudioError), extra
        assert "its size is wrong" in str(found) or found.status.failed


@pytest.mark.parametrize(
    "container", sorted(set(soundfile.available_formats()) - {"RAW", "SD2", "WAVEX"})
)
def test_of_every_format_the_decoder_knows_a_file_cut_short_is_never_ok(
    tmp_path: Path, container: str
) -> None:
    data = _any_encoded(container)
    for share in (0.3, 0.6, 0.9, 0.99):
        assert status(tmp_path, data[: int(len(data) * share)]).failed


def _any_encoded(container: str) -> bytes:
    for subtype in ("PCM_16", "ULAW", "ALAW", "VORBIS", "MPEG_LAYER_III", "DPCM_16"):
        if soundfile.check_format(container, subtype):
            return encoded(container, subtype)
    raise AssertionError(container)


@pytest.mark.parametrize("container", ["HTK", "IRCAM", "MAT4", "PAF", "PVF"])
def test_a_format_that_does_not_say_how_much_it_holds_is_not_read(
    tmp_path: Path, container: str
) -> None:
    found = outcome(tmp_path, encoded(container, "PCM_16"))
    assert isinstance(found, AudioError)
    assert found.status == ClipStatus.UNSUPPORTED
    assert "convert it to WAV or FLAC" in str(found)


# Unknown length.


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


@pytest.mark.parametrize("name", NAMES)
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


# Chunks.


def test_a_second_chunk_of_sound_is_not_lost(tmp_path: Path) -> None:
    for name, first in ((".wav", b"data"), (".aiff", b"SSND")):
        data = sound_files()[name]
        assert status(tmp_path, data + data[data.index(first) :]) == ClipStatus.UNSUPPORTED


def test_sound_behind_sizes_that_are_too_small_is_not_lost(tmp_path: Path) -> None:
    """As a recorder leaves it that wrote its last sizes before its last samples."""
    data = encoded("WAV", "PCM_16")
    kept = len(data) // 4 * 2 - 44
    small = data[:4] + struct.pack("<I", 36 + kept) + data[8:40] + struct.pack("<I", kept)
    assert status(tmp_path, small + data[44:]) == ClipStatus.UNREADABLE
    au = encoded("AU", "PCM_16")
    assert status(tmp_path, au[:8] + struct.pack(">I", kept) + au[12:]) == ClipStatus.UNREADABLE


@pytest.mark.parametrize(
    "tail",
    [bytes(9000), b"\x91\x01\xff" * 11, b"TAG" + bytes(125), b"note " * 2000],
    ids=["zeros", "few bytes", "ID3v1", "text"],
)
def test_what_programs_leave_behind_a_wav_is_no_damage(tmp_path: Path, tail: bytes) -> None:
    data = encoded("WAV", "PCM_16")
    assert seconds(tmp_path, data + tail) == seconds(tmp_path, data)


# Ogg.


def test_a_page_that_ends_a_packet_without_a_position_is_damage(tmp_path: Path) -> None:
    data = sound_files()[".ogg"]
    last = page_positions(data)[-1]
    spoiled = bytearray(data)
    spoiled[last + 6 : last + 14] = b"\xff" * 8
    repair_ogg(spoiled)
    assert status(tmp_path, bytes(spoiled)) == ClipStatus.UNREADABLE


def test_an_ogg_without_the_end_mark_or_with_a_long_tail_is_read_whole(tmp_path: Path) -> None:
    data = sound_files()[".ogg"]
    endless = bytearray(data)
    endless[page_positions(data)[-1] + 5] &= ~4
    repair_ogg(endless)
    assert seconds(tmp_path, bytes(endless)) == SECONDS
    assert seconds(tmp_path, data + bytes(100_000)) == SECONDS
    assert seconds(tmp_path, data + b"written by a program " * 10_000) == SECONDS


def test_a_missing_page_is_damage(tmp_path: Path) -> None:
    data = encoded("OGG", "VORBIS", seconds=2)
    pages = page_positions(data)
    assert len(pages) > 4
    found = outcome(tmp_path, data[: pages[2]] + data[pages[3] :])
    assert "pages are missing" in str(found)


def test_parts_of_different_rates_are_refused_and_both_named(tmp_path: Path) -> None:
    for one, other in (
        (encoded("OGG", "VORBIS"), encoded("OGG", "VORBIS", rate=44_100)),
        (encoded("FLAC", "PCM_16"), encoded("FLAC", "PCM_16", channels=2)),
    ):
        found = outcome(tmp_path, one + other)
        assert isinstance(found, AudioError)
        assert "part 2 of 2" in str(found)


# What is not read, and what is broken, are two things.


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x20ftypM4A " + bytes(1000),
        b"\x1aE\xdf\xa3" + bytes(1000),
        b"0&\xb2u\x8ef\xcf\x11" + bytes(1000),
        b"wvpk" + bytes(1000),
        b"#!AMR\n" + bytes(1000),
        b"MThd" + bytes(1000),
        (b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(10)) * 50,
        b"RIFF\x3c\x04\0\0WAVEfmt \x10\0\0\0\x61\x01\x01\0\x22\x56\0\0\x22\x56\0\0\x01\0\x08\0"
        b"data\x18\x04\0\0" + bytes(1048),
    ],
    ids=["MP4", "WebM", "WMA", "WavPack", "AMR", "MIDI", "AAC", "WMA in WAV"],
)
def test_a_format_that_is_not_read_is_unsupported_and_says_what_to_do(
    tmp_path: Path, data: bytes
) -> None:
    found = outcome(tmp_path, data)
    assert isinstance(found, AudioError)
    assert found.status == ClipStatus.UNSUPPORTED, str(found)
    assert "convert it to WAV or FLAC" in str(found)


@needs_real_audio
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ok.wav", 2.0),
        ("vbr_no_header.mp3", 3.5),
        ("vbr_header.mp3", 3.5),
        ("zeros_first.mp3", 3.5),
        ("header_promises_hour.mp3", ClipStatus.TRUNCATED),
        ("cut_header.mp3", ClipStatus.TRUNCATED),
        ("one_frame.mp3", ClipStatus.UNREADABLE),
        ("cut.aiff", ClipStatus.TRUNCATED),
        ("ogg_one_byte.ogg", ClipStatus.UNREADABLE),
        ("chained.ogg", 4.0),
        ("flac_in_ogg.oga", ClipStatus.UNSUPPORTED),
        ("no_last_page.ogg", 2.0),
        ("unknown_length.flac", 2.0),
        ("size_0.wav", 2.0),
        ("size_7fffff00_arecord.wav", 2.0),
    ],
)
def test_odd_files_are_read_or_refused_honestly(
    tmp_path: Path, name: str, expected: float | ClipStatus
) -> None:
    data = (ODD / name).read_bytes()
    if isinstance(expected, ClipStatus):
        assert status(tmp_path, data) == expected
    else:
        assert seconds(tmp_path, data) == pytest.approx(expected, abs=0.06)


def test_what_the_decoder_prints_does_not_reach_the_terminal_without_a_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(sound_files()[".mp3"])
    for position in range(600, len(data) - 400, 37):
        spoiled = bytearray(data)
        spoiled[position : position + 9] = b"\xaa" * 9
        outcome(tmp_path, bytes(spoiled))
    for line in capfd.readouterr().err.splitlines():
        assert line.startswith(str(tmp_path / "clip")), line


# Any bytes at all.


def check(data: bytes) -> None:
    descriptor = os.memfd_create("container")
    try:
        os.write(descriptor, data)
        container = walk(Source(descriptor, len(data), data[:100]), SPEC.max_duration_s)
    except AudioError:
        return
    finally:
        os.close(descriptor)
    for part in container.parts if container else ():
        assert 0 <= part.start <= part.stop <= len(data)


@given(
    start=st.sampled_from(
        [
            b"",
            b"RIFF\0\0\0\0WAVE",
            b"OggS\0",
            b"fLaC\0\0\0\x22",
            b"FORM\0\0\0\0AIFF",
            b"caff",
            b".snd",
            b"NIST_1A\n   1024\n",
            b"Creative Voice File\x1a",
            b"\xff\xfb\x90\xc0",
            b"ID3\x04\0\0",
        ]
    ),
    rest=st.binary(max_size=200),
)
def test_any_bytes_get_an_answer_within_the_file(start: bytes, rest: bytes) -> None:
    check(start + rest)


@given(chunks=st.lists(CHUNK), lies=st.lists(LIE), end=st.binary(max_size=9))
def test_chunks_of_any_size_get_an_answer(
    chunks: list[tuple[bytes, bytes]], lies: list[int], end: bytes
) -> None:
    data = b"RIFF\0\0\0\0WAVE"
    for (name, body), size in zip(chunks, lies + [len(body) for _, body in chunks], strict=False):
        data += name + struct.pack("<I", size) + body
    check(data + end)


@given(
    pages=st.lists(
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=40)), max_size=4
    )
)
def test_ogg_pages_of_any_shape_get_an_answer(pages: list[tuple[int, int, bytes]]) -> None:
    data = bytearray(
        b"".join(
            b"OggS\0" + bytes([flags]) + bytes(20) + bytes([len(body)]) + bytes(len(body))
            for flags, _, body in pages
        )
    )
    check(bytes(data))
    repair_ogg(data)
    check(bytes(data))


@given(number=st.integers(0, 10**6))
def test_spoilt_files_get_an_answer(number: int) -> None:
    check(spoilt(0, number)[1])


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF\0\0\0\0WAVE" + (b"JUNK" + bytes(4)) * 1_000_000,
        b"Creative Voice File\x1a\x1a\0\x0a\x01\x29\x11" + b"\x05\0\0\0" * 2_000_000,
        b"\xff" * 4_000_000,
        b"\xff\xfb\x90\xc0" * 1_000_000,
        bytes(8_000_000),
        b"OggS\0" * 800_000,
        b"fLaC\0\0\0\x22" + bytes(34) + b"\xff\xf8" * 2_000_000,
    ],
    ids=["RIFF chunks", "VOC blocks", "ones", "headers", "zeros", "Ogg", "FLAC"],
)
def test_a_hostile_file_of_many_megabytes_takes_bounded_time(data: bytes) -> None:
    started = time.process_time()
    check(data)
    assert time.process_time() - started < 3


def test_a_repaired_page_has_the_checksum_its_encoder_gave_it() -> None:
    data = sources()["OGG VORBIS 1"]
    spoiled = bytearray(data)
    spoiled[22:26] = b"junk"
    repair_ogg(spoiled)
    assert bytes(spoiled) == data
