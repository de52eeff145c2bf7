"""Parts of recordings: the samples of the whole file, found by seeking."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import AudioError
from featurestore.extraction import recordings
from featurestore.extraction.audio import load
from featurestore.extraction.recordings import Span, read_part
from schemas import ClipStatus, FeatureSpec
from tests.sound_files import frame_positions

SECONDS = 20
FORMATS = {
    "wav": ("WAV", "PCM_16", 22_050),
    "float.wav": ("WAV", "FLOAT", 22_050),
    "flac": ("FLAC", "PCM_16", 22_050),
    "ogg": ("OGG", "VORBIS", 22_050),
    "opus": ("OGG", "OPUS", 48_000),
    "mp3": ("MP3", "MPEG_LAYER_III", 44_100),
    "slow.mp3": ("MP3", "MPEG_LAYER_III", 22_050),
}
CUT = ("mp3", "slow.mp3", "bare.mp3", "tagged.mp3")
TOLERANCE = dict.fromkeys(CUT, 1e-6)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for name, (container, subtype, rate) in FORMATS.items():
        time = np.arange(SECONDS * rate) / rate
        sweep = 0.4 * np.sin(2 * np.pi * (200 + 100 * time[:, None]) * time[:, None])
        data = sweep + 0.05 * rng.standard_normal((time.size, 2))
        file = place / f"r.{name}"
        soundfile.write(file, data, rate, format=container, subtype=subtype)
    data = (place / "r.mp3").read_bytes()
    frames = frame_positions(data)
    (place / "r.bare.mp3").write_bytes(data[frames[1] :])  # without the header that LAME wrote
    tag = b"ID3\4\0\0\0\0\0\x0a" + bytes(10)
    (place / "r.tagged.mp3").write_bytes(data[frames[1] : frames[400]] + tag + data[frames[400] :])
    return {name: place / f"r.{name}" for name in (*FORMATS, *CUT)}


def whole(path: Path) -> tuple[np.ndarray, int]:
    """The file's samples as a clip of all of it has them."""
    rate = soundfile.info(path).samplerate
    return load(path, FeatureSpec(sample_rate=rate)).waveform, rate


@pytest.mark.parametrize("name", [*FORMATS, "bare.mp3", "tagged.mp3"])
def test_parts_in_any_order_have_the_samples_of_the_whole_file(
    files: dict[str, Path], name: str
) -> None:
    expected, rate = whole(files[name])
    rng = np.random.default_rng(1)
    starts = [0.0, 9.5, 2.0, 2.5, 3.0, *rng.uniform(0, SECONDS - 1, 12).round(3)]
    for start in starts:
        span = Span(start, min(start + 0.5, SECONDS))
        waveform, found_rate, _ = read_part(files[name], span, 60)
        first = round(start * rate)
        assert found_rate == rate
        assert waveform.size == round(span.end_s * rate) - first
        difference = np.abs(waveform - expected[first : first + waveform.size]).max()
        assert difference <= TOLERANCE.get(name, 0)


@pytest.mark.parametrize("name", CUT)
def test_a_part_of_an_mp3_is_read_without_the_frames_far_before_it(
    files: dict[str, Path], name: str
) -> None:
    """Not where a tag lies among its frames: the decoder then looks for the place itself."""
    read_part(files[name], Span(10.2, 10.7), 60)
    recording = next(reversed(recordings._opened.recordings.values()))
    assert ("_file" in vars(recording)) == (name == "tagged.mp3")


@given(st.floats(0, SECONDS), st.floats(0, SECONDS))
@settings(max_examples=40)
def test_every_part_of_a_file_of_a_sample_per_millisecond_is_where_it_should_be(
    tmp_path_factory: pytest.TempPathFactory, one: float, other: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "ramp.wav"
    if not path.exists():
        ramp = np.arange(SECONDS * 1000, dtype=np.int16)
        soundfile.write(path, ramp, 1000, subtype="PCM_16")
    start, end = sorted((one, other))
    first, stop = round(start * 1000), round(end * 1000)
    if first == SECONDS * 1000:
        return
    waveform = read_part(path, Span(start, end), 60)[0]
    assert (waveform * 2**15).astype(int).tolist() == list(range(first, stop))


def test_an_open_start_or_end_is_that_of_the_file(files: dict[str, Path]) -> None:
    expected, rate = whole(files["wav"])
    path = files["wav"]
    assert np.array_equal(read_part(path, Span(end_s=1), 60)[0], expected[:rate])
    assert np.array_equal(read_part(path, Span(start_s=19), 60)[0], expected[19 * rate :])


@pytest.mark.parametrize(
    ("span", "status"),
    [
        (Span(20, 21), ClipStatus.TRUNCATED),
        (Span(19, 20.5), ClipStatus.TRUNCATED),
        (Span(0, 9), ClipStatus.TOO_LONG),
    ],
)
def test_a_part_that_is_not_there_or_too_long_is_refused(
    files: dict[str, Path], span: Span, status: ClipStatus
) -> None:
    with pytest.raises(AudioError) as caught:
        read_part(files["flac"], span, 8)
    assert caught.value.status == status


def test_a_part_that_ends_a_rounding_after_its_file_ends_with_it(files: dict[str, Path]) -> None:
    assert read_part(files["wav"], Span(19, 20.004), 60)[0].size == 22_050


def test_a_file_is_walked_and_hashed_once_for_all_of_its_parts(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    walked = []
    monkeypatch.setattr(recordings, "walk", lambda *a, w=recordings.walk: walked.append(a) or w(*a))
    recordings._facts.cache_clear()
    recordings._opened.recordings.clear()
    digests = {read_part(files["mp3"], Span(i, i + 1), 60)[2] for i in range(10)}
    assert len(walked) == len(digests) == 1


def test_a_file_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(2000, 0.25), 1000)
    before = read_part(path, Span(0, 1), 60)
    soundfile.write(tmp_path / "b.wav", np.full(2000, 0.5), 1000)
    os.replace(tmp_path / "b.wav", path)  # noqa: PTH105
    after = read_part(path, Span(0, 1), 60)
    assert (before[0].max(), after[0].max()) == (0.25, 0.5)
    assert before[2] != after[2]


def test_no_more_files_stay_open_than_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "_MOST_OPEN", 3)
    for number in range(8):
        soundfile.write(tmp_path / f"{number}.wav", np.full(1000, 0.1), 1000)
    read_part(tmp_path / "0.wav", Span(0, 1), 60)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for number in range(8):
        read_part(tmp_path / f"{number}.wav", Span(0, 1), 60)
    assert len(recordings._opened.recordings) == 3
    assert len(os.listdir("/proc/self/fd")) <= before + 3  # noqa: PTH208


@pytest.mark.parametrize("parts", [1, 5])
def test_a_damaged_file_gives_every_part_its_reason_and_is_walked_once(
    tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    data = files["flac"].read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    walked = []
    monkeypatch.setattr(recordings, "walk", lambda *a, w=recordings.walk: walked.append(a) or w(*a))
    for start in range(parts):
        with pytest.raises(AudioError) as caught:
            read_part(tmp_path / "cut.flac", Span(start, start + 1), 60)
        assert caught.value.status == ClipStatus.TRUNCATED
    assert len(walked) == 1


def test_joined_streams_are_refused_with_what_to_do(tmp_path: Path, files: dict[str, Path]) -> None:
    path = tmp_path / "two.ogg"
    path.write_bytes(files["ogg"].read_bytes() * 2)
    with pytest.raises(AudioError, match=r"joined from 2 streams.*convert"):
        read_part(path, Span(0, 1), 60)
