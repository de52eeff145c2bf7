"""Plain WAV files are read without libsndfile, and give what libsndfile gives."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import FeatureSpec, load
from featurestore.errors import AudioError
from featurestore.extraction.wav import plain_pcm16


def wav(frames: int, channels: int = 1, rate: int = 22_000, subtype: str = "PCM_16") -> bytes:
    values = np.random.default_rng(frames).integers(-(2**15), 2**15, (frames, channels), np.int16)
    file = io.BytesIO()
    soundfile.write(file, values, rate, format="WAV", subtype=subtype)
    return file.getvalue()


@given(frames=st.integers(1, 300), channels=st.integers(1, 2), rate=st.integers(1000, 192_000))
def test_samples_and_rate_are_libsndfiles(frames: int, channels: int, rate: int) -> None:
    data = wav(frames, channels, rate)
    plain = plain_pcm16(data)
    expected, expected_rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    assert plain is not None
    assert plain.rate == expected_rate
    np.testing.assert_array_equal(plain.samples, expected)


def test_chunks_before_the_samples_are_skipped_with_their_padding() -> None:
    data = wav(50)
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    plain = plain_pcm16(data[:36] + odd + data[36:])
    assert plain is not None
    np.testing.assert_array_equal(plain.samples, plain_pcm16(data).samples)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "data",
    [
        wav(20, subtype="PCM_24"),
        wav(20, subtype="FLOAT"),
        wav(20, channels=3),
        wav(20)[:-1],
        wav(20)[:30],
        b"RIFF",
        b"",
    ],
    # libsndfile writes the time into the second one: processes would disagree about its name.
    ids=["24 bits", "floats", "three channels", "a byte short", "cut header", "RIFF", "empty"],
)
def test_what_is_not_plain_is_left_to_libsndfile(data: bytes) -> None:
    assert plain_pcm16(data) is None


@settings(max_examples=300)
@given(place=st.integers(0, 60), value=st.integers(0, 255))
def test_a_changed_byte_is_judged_as_libsndfile_judges_it(place: int, value: int) -> None:
    data = bytearray(wav(30))
    data[place] = value
    plain = plain_pcm16(bytes(data))
    if plain is None:
        return
    expected, rate = soundfile.read(io.BytesIO(bytes(data)), dtype="int16", always_2d=True)
    assert plain.rate == rate
    np.testing.assert_array_equal(plain.samples, expected)


def test_a_plain_file_is_held_to_the_longest_duration(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(22_001))
    assert load(tmp_path / "a.wav", FeatureSpec(max_duration_s=1.5)).duration_s > 1
    with pytest.raises(AudioError, match="max_duration_s"):
        load(tmp_path / "a.wav", FeatureSpec(max_duration_s=1))
