"""Each kind of file gives samples, or the failure its row gets."""

import gc
import hashlib
import io
import os
import re
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import librosa
import numpy as np
import pytest
import soundfile

from featurestore.errors import AudioError
from featurestore.extraction import audio, decode
from schemas import ClipStatus, FeatureSpec
from tests.conftest import SHARED_DATA, needs_real_audio, sound

SPEC = FeatureSpec()


def encoded(
    suffix: str, subtype: str | None = None, rate: int = 44_100, channels: int = 1
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(1, 1.0, rate, channels), rate, format=suffix, subtype=subtype)
    return file.getvalue()


def load(tmp_path: Path, data: bytes) -> audio.Recording:
    path = tmp_path / "clip"
    path.write_bytes(data)
    return audio.load(path, SPEC)


def status_of(tmp_path: Path, data: bytes) -> ClipStatus:
    with pytest.raises(AudioError) as caught:
        load(tmp_path, data)
    return caught.value.status


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAVEX", "PCM_24"),
        ("WAV", "PCM_32"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAV", "ULAW"),
        ("WAV", "MS_ADPCM"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("AIFF", "PCM_16"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_every_format_gives_the_same_sound(tmp_path: Path, suffix: str, subtype: str) -> None:
    rate = 48_000 if subtype == "OPUS" else 44_100
    recording = load(tmp_path, encoded(suffix, subtype, rate))
    expected = load(tmp_path, encoded("WAV", "FLOAT", rate))
    size = min(recording.waveform.size, expected.waveform.size)
    assert recording.waveform.dtype == np.float32
    assert abs(recording.duration_s - 1) < 0.03
    correlation = np.corrcoef(recording.waveform[:size], expected.waveform[:size])[0, 1]
    assert correlation > 0.97


def test_downmixing_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    left, right = sound(1, 0.5, 22_000), sound(2, 0.5, 22_000)
    file = io.BytesIO()
    soundfile.write(file, np.stack([left, right], 1), 22_000, format="WAV", subtype="FLOAT")
    waveform = load(tmp_path, file.getvalue()).waveform
    np.testing.assert_allclose(waveform, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7, 8, 9])
def test_downmixing_rounds_as_numpys_mean_does(channels: int, dtype: str) -> None:
    bits = np.random.default_rng(channels).integers(0, 2**16, (5000, 2 * channels), np.uint16)
    piece = bits.view(dtype)[:, :channels]  # of floats, any: also infinite ones, and none
    mono = np.empty(len(piece), np.float32)
    decode.mix(piece, mono)
    scale = np.float32(2**-15 if dtype == "int16" else 1)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(mono, piece.mean(axis=1, dtype=np.float32) * scale)


def test_negative_zeros_of_several_channels_are_one_positive_zero() -> None:
    for channels in range(2, 8):  # as in stores of earlier versions, to the bit
        mono = np.empty(3, np.float32)
        decode.mix(np.full((3, channels), -0.0, np.float32), mono)
        assert not np.signbit(mono).any()


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000])
def test_resampling_is_librosas_soxr(rate: int) -> None:
    waveform = sound(3, 1.0, rate).astype(np.float32)
    ours = audio.resample(waveform, rate, SPEC)
    theirs = librosa.resample(waveform, orig_sr=rate, target_sr=22_000, res_type="soxr_hq")
    assert abs(ours.size - theirs.size) <= 1
    size = min(ours.size, theirs.size)
    np.testing.assert_allclose(ours[:size], theirs[:size], atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", ["WAV", "FLAC"])
def test_16_bit_samples_are_what_libsndfile_makes_of_them(
    tmp_path: Path, suffix: str, channels: int
) -> None:
    data = encoded(suffix, "PCM_16", 22_000, channels)
    expected = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]
    np.testing.assert_array_equal(load(tmp_path, data).waveform, expected.mean(axis=1))


def test_a_file_longer_than_one_piece_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded("WAV", "PCM_16")
    whole = load(tmp_path, data).waveform
    monkeypatch.setattr(decode, "_PIECE", 1000)
    np.testing.assert_array_equal(load(tmp_path, data).waveform, whole)


def test_the_recording_says_how_long_how_loud_and_which_bytes(tmp_path: Path) -> None:
    data = encoded("WAV", "PCM_16")
    recording = load(tmp_path, data)
    assert recording.source_sha256 == hashlib.sha256(data).digest()
    assert recording.duration_s == 1.0
    assert recording.peak == pytest.approx(np.abs(sound(1, 1.0, 44_100)).max(), abs=1e-3)


def test_a_missing_file_and_a_directory_are_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.wav", tmp_path, tmp_path / "absent" / "deep.wav"):
        with pytest.raises(AudioError) as caught:
            audio.load(path, SPEC)
        assert caught.value.status == ClipStatus.MISSING


def test_an_empty_file_and_a_file_without_samples_are_empty(tmp_path: Path) -> None:
    header_only = io.BytesIO()
    soundfile.write(header_only, np.empty(0), 44_100, format="WAV")
    assert status_of(tmp_path, b"") == ClipStatus.EMPTY
    assert status_of(tmp_path, header_only.getvalue()) == ClipStatus.EMPTY


@pytest.mark.parametrize(
    "data", [b"this is text, not sound\n" * 50, b"RIFF", b"\0" * 5000, b"OggS" * 9]
)
def test_what_is_no_audio_is_unreadable(tmp_path: Path, data: bytes) -> None:
    assert status_of(tmp_path, data) == ClipStatus.UNREADABLE


@pytest.mark.parametrize("suffix", ["WAV", "OGG"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_file_cut_short_is_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    data = encoded(suffix)
    assert status_of(tmp_path, data[: int(len(data) * share)]) == ClipStatus.TRUNCATED


def test_a_flac_file_cut_short_fails_too(tmp_path: Path) -> None:
    data = encoded("FLAC")
    assert status_of(tmp_path, data[: len(data) // 2]).failed


def test_a_wav_written_to_a_pipe_has_no_length_and_is_accepted(tmp_path: Path) -> None:
    data = bytearray(encoded("WAV", "PCM_16"))
    position = data.index(b"data") + 4
    data[position : position + 4] = struct.pack("<I", 0xFFFFFFFF)
    assert load(tmp_path, bytes(data)).waveform.size == 22_000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    samples = sound(1, 0.2, 22_000)
    samples[100] = value
    file = io.BytesIO()
    soundfile.write(file, samples, 22_000, format="WAV", subtype="FLOAT")
    assert status_of(tmp_path, file.getvalue()) == ClipStatus.NON_FINITE


def test_silence_is_a_sound(tmp_path: Path) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(5000), 22_000, format="WAV")
    assert load(tmp_path, file.getvalue()).peak == 0


def test_a_clip_longer_than_the_limit_is_refused_before_it_is_decoded_whole(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(encoded("FLAC"))
    with pytest.raises(AudioError) as caught:
        audio.load(path, FeatureSpec(max_duration_s=0.5))
    assert caught.value.status == ClipStatus.TOO_LONG


@contextmanager
def memory_grown() -> Iterator[Callable[[], float]]:
    """Yield a function that returns by how many MB resident memory rose at most inside."""

    def value(name: str) -> float:
        return int(re.search(rf"^{name}:\s+(\d+)", status.read_text(), re.MULTILINE)[1]) / 1024  # type: ignore[index]

    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("memory is measured on Linux only")
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before, peak = value("VmRSS"), []
    yield lambda: peak[0]
    peak.append(value("VmHWM") - before)


def header(rate: int, channels: int, size: int, bits: int = 8) -> bytes:
    """Return the header of a WAV file of `size` bytes of samples, whatever follows it."""
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * width % 2**32, width % 2**16, bits)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt \x10\0\0\0" + form + b"data"


def lying(tmp_path: Path, rate: int, channels: int, size: int) -> Path:
    """A WAV of that many bytes of samples, none of which takes room on the disk."""
    path = tmp_path / "clip"
    path.write_bytes(header(rate, channels, size) + struct.pack("<I", size))
    os.truncate(path, 44 + size)
    return path


@pytest.mark.parametrize(
    ("rate", "channels", "size"),
    [
        (1, 1, 1000),  # 1000 s
        (44_100, 1, 600 * 44_100 + 1),
        # 300 s, of more samples than 600 s of 192 kHz have; and 50 s
        pytest.param(768_000, 1, 300 * 768_000, marks=pytest.mark.slow),
        pytest.param(10_000_000, 1, 500_000_000, marks=pytest.mark.slow),
        (8000, 1000, 240_000_000),  # 30 s
    ],
)
def test_a_header_that_claims_too_much_is_refused_before_anything_is_decoded(
    tmp_path: Path, rate: int, channels: int, size: int
) -> None:
    path = lying(tmp_path, rate, channels, size)
    told = pytest.raises(AudioError, match=f"in {channels} channels at {rate} Hz")
    with memory_grown() as grown, told as caught:
        audio.load(path, SPEC)
    assert caught.value.status == ClipStatus.TOO_LONG
    assert grown() < 10


@pytest.mark.parametrize("rate", [1, 99, 768_000, 10_000_000])
def test_a_rate_of_any_size_is_resampled(tmp_path: Path, rate: int) -> None:
    samples = 500 * SPEC.sample_rate // rate
    resampled = audio.load(lying(tmp_path, rate, 1, 500), SPEC).waveform
    assert abs(resampled.size - samples) <= 1


@pytest.mark.parametrize("rate", [10_000_001, 536_892_962, 2**31 - 1])
def test_a_rate_that_no_sound_has_is_damage_and_not_an_empty_file(
    tmp_path: Path, rate: int
) -> None:
    with pytest.raises(AudioError, match=f"a sample rate of {rate} Hz") as caught:
        audio.load(lying(tmp_path, rate, 1, 500), SPEC)
    assert caught.value.status == ClipStatus.UNREADABLE


def test_too_few_samples_for_one_at_the_specs_rate_are_empty(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="5 samples at 768000 Hz") as caught:
        audio.load(lying(tmp_path, 768_000, 1, 5), SPEC)
    assert caught.value.status == ClipStatus.EMPTY


def test_a_thousand_channels_are_read_in_pieces_of_bounded_size(tmp_path: Path) -> None:
    with memory_grown() as grown:
        assert audio.load(lying(tmp_path, 44_100, 1000, 44_100_000), SPEC).duration_s == 1.0
    assert grown() < 30


def test_a_flac_whose_header_lies_about_its_length_is_truncated_and_costs_no_memory(
    tmp_path: Path,
) -> None:
    data = bytearray(encoded("FLAC"))
    data[21] &= 0xF0
    data[22:26] = struct.pack(">I", 26_000_000)  # low 32 bits of the 36 in STREAMINFO
    with memory_grown() as grown:
        assert status_of(tmp_path, bytes(data)) == ClipStatus.TRUNCATED
    assert grown() < 30


def test_infinities_that_cancel_in_the_downmix_are_refused_without_a_warning(
    tmp_path: Path,
) -> None:
    for pair in ([np.inf, -np.inf], [3e38, 3e38]):
        file = io.BytesIO()
        soundfile.write(file, np.array([pair] * 50), 22_000, format="WAV", subtype="FLOAT")
        assert status_of(tmp_path, file.getvalue()) == ClipStatus.NON_FINITE


def test_decoding_runs_no_python_in_which_an_interrupt_could_be_lost(tmp_path: Path) -> None:
    """An exception in a callback of libsndfile is swallowed, and the file then seems damaged."""
    path = tmp_path / "clip"
    path.write_bytes(encoded("FLAC"))
    inside: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and "vio" in frame.f_code.co_name:
            inside.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        audio.load(path, SPEC)
    finally:
        sys.setprofile(None)
    assert inside == []


def test_too_many_open_files_is_not_the_clips_fault(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(encoded("WAV"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            audio.load(path, SPEC)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@needs_real_audio
def test_every_real_file_can_be_read() -> None:
    places = [SHARED_DATA / name for name in ("esc10", "urbansound8k-originals")]
    files = [p for place in places for p in place.rglob("*") if p.suffix in (".wav", ".ogg")]
    assert len(files) == 437
    for path in files[::8]:
        recording = audio.load(path, SPEC)
        assert recording.waveform.size > 1000
        assert recording.peak > 0
