"""Every container: whole, cut short, damaged, joined. Never `ok` with less."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.mutate import repair_ogg
from featurestore import SUFFIXES
from featurestore.errors import AudioError
from schemas import ClipStatus
from tests.conftest import SHARED_DATA, needs_real_audio
from tests.decoded import outcome, seconds, status
from tests.pairs import each_in_turn
from tests.sound_files import (
    RATE,
    SECONDS,
    encoded,
    page_positions,
    sound_files,
    vbr_mp3,
)

NAMES = sorted(sound_files())
ODD = SHARED_DATA / "odd-audio"


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
