"""Damaged MPEG streams, with checksums and without. Never `ok` with less."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import AudioError
from featurestore.extraction.containers.crc16 import crc16
from schemas import ClipStatus
from tests.decoded import outcome, seconds, status
from tests.sound_files import (
    encoded,
    frame_positions,
    sound_files,
)


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
