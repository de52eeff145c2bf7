import math

import librosa
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from featurestore.extraction import features
from featurestore.extraction.features import BandedMatrix
from schemas import FeatureSpec, TrimSpec
from tests.conftest import sound

SPEC = FeatureSpec()
RATE = SPEC.sample_rate


def frames_of(waveform: NDArray[np.float32], spec: FeatureSpec) -> NDArray[np.float32]:
    padded = features.centred(waveform, spec)
    return np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]


def clip(seed: int, seconds: float = 1.0) -> NDArray[np.float32]:
    return sound(seed, seconds, RATE).astype(np.float32)


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman"])
@pytest.mark.parametrize("win_length", [1024, 800, 801])
def test_the_window_is_scipys_periodic_one(name: str, win_length: int) -> None:
    spec = FeatureSpec(window=name, win_length=win_length)
    expected = librosa.util.pad_center(scipy.signal.get_window(name, win_length), size=1024)
    np.testing.assert_allclose(features.window(spec), expected, atol=1e-7)


@pytest.mark.parametrize("n_mels", [40, 64, 96, 128])
@pytest.mark.parametrize("rate", [16_000, 22_000, 44_100])
@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("norm", ["none", "slaney"])
def test_the_filterbank_is_librosas_to_the_bit_and_within_an_ulp_if_normalised(
    n_mels: int, rate: int, scale: str, norm: str
) -> None:
    spec = FeatureSpec(
        sample_rate=rate, mel_scale=scale, mel_norm=norm, fmin=20, fmax=7000, n_fft=4096
    )
    expected = librosa.filters.mel(
        sr=rate,
        n_fft=4096,
        n_mels=n_mels,
        fmin=20,
        fmax=7000,
        htk=scale == "htk",
        norm=None if norm == "none" else norm,
    )
    found = features.mel_filterbank(spec, n_mels)
    # Where a bin lies on an edge of a filter, on Slaney's scale, rounding decides between 0 and
    # 1e-15.
    on_edge = (found < 1e-12) & (expected < 1e-12) if scale == "slaney" else np.False_
    ulps = np.abs(found.view(np.int32).astype(np.int64) - expected.view(np.int32))
    assert np.where(on_edge, 0, ulps).max() <= (norm == "slaney")


def test_the_papers_filters_reach_from_0_hz_to_nyquist_and_peak_under_one() -> None:
    edges = features.mel_edges(SPEC, 128)
    assert edges[0] == pytest.approx(0, abs=1e-9)
    assert edges[-1] == pytest.approx(11_000)
    assert (features.mel_filterbank(SPEC, 128).max(axis=1) > 0).all(), "a filter has no bin"
    assert features.mel_filterbank(SPEC, 128).max() <= 1


def torchaudio_of_2019(n_mels: int, num_bins: int, fmin: float, fmax: float) -> NDArray[np.float64]:
    """Its filters one weight at a time, from the definition: (n_mels, num_bins)."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (fmin, fmax))
    points = [
        700 * (10 ** ((low + i * (high - low) / (n_mels + 1)) / 2595) - 1)
        for i in range(n_mels + 2)
    ]
    filters = np.zeros((n_mels, num_bins))
    for band, (left, centre, right) in enumerate(zip(points, points[1:], points[2:], strict=False)):
        for index in range(num_bins):
            label = fmin + index * (fmax - fmin) / (num_bins - 1)
            if left <= label <= centre:
                filters[band, index] = (label - left) / (centre - left)
            elif centre < label <= right:
                filters[band, index] = (right - label) / (right - centre)
    return filters


@pytest.mark.parametrize("n_mels", [64, 96, 128])
@pytest.mark.parametrize(("fmin", "fmax"), [(0, None), (0, 8000), (300, 22_050)])
def test_the_filterbank_of_2019_labels_the_bins_up_to_fmax_whatever_the_sample_rate(
    n_mels: int, fmin: float, fmax: float | None
) -> None:
    spec = FeatureSpec(mel_scale="torchaudio-2019", fmin=fmin, fmax=fmax)
    expected = torchaudio_of_2019(n_mels, 513, fmin, fmax or 22_050)
    np.testing.assert_allclose(features.mel_filterbank(spec, n_mels), expected, atol=1e-6)
    other = FeatureSpec(mel_scale="torchaudio-2019", fmin=fmin, fmax=fmax, sample_rate=44_100)
    np.testing.assert_array_equal(
        features.mel_filterbank(spec, n_mels), features.mel_filterbank(other, n_mels)
    )


def test_the_filterbank_of_2019_is_right_only_up_to_nyquist_and_stretched_by_default() -> None:
    right = FeatureSpec(mel_scale="torchaudio-2019", fmax=RATE / 2)
    np.testing.assert_allclose(
        features.mel_filterbank(right, 128), features.mel_filterbank(SPEC, 128), atol=1e-6
    )
    of_2019 = FeatureSpec(mel_scale="torchaudio-2019")
    hz = np.array([0.0, 1000, 11_000])
    np.testing.assert_allclose(features.labelled_hz(hz, of_2019), hz * 22_050 / 11_000)
    np.testing.assert_array_equal(features.labelled_hz(hz, SPEC), hz)
    filters = features.mel_filterbank(of_2019, 128)
    assert filters[-1].any(), "the last filter ends at Nyquist, labelled 22050 Hz"
    assert 0 < (~filters.any(axis=1)).sum() < 40, "some of the lowest filters hold no bin"


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_and_hz_are_inverse(scale: str) -> None:
    hz = np.array([0.0, 100, 999, 1000, 1001, 4000, 11_000])
    np.testing.assert_allclose(
        features.mel_to_hz(features.hz_to_mel(hz, scale), scale), hz, atol=1e-6
    )
    np.testing.assert_allclose(
        features.hz_to_mel(hz, scale), librosa.hz_to_mel(hz, htk=scale == "htk"), rtol=1e-9
    )


@settings(max_examples=30)
@given(st.integers(1, 70), st.integers(1, 60), st.integers(1, 9), st.integers(0, 10_000))
def test_the_banded_product_is_the_dense_product(
    rows: int, bins: int, frames: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.random((rows, bins)).astype(np.float32)
    matrix[rng.random((rows, bins)) < 0.7] = 0
    spectrum = rng.random((frames, bins)).astype(np.float32)
    banded = BandedMatrix(matrix)
    np.testing.assert_allclose(banded.apply(spectrum), spectrum @ matrix[banded.order].T, rtol=1e-5)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_the_power_spectrum_is_librosas(power: float, pad_mode: str) -> None:
    spec, waveform = FeatureSpec(power=power, pad_mode=pad_mode), clip(1)
    ours = features.power_spectrum(frames_of(waveform, spec), features.window(spec), power)
    theirs = np.abs(librosa.stft(waveform, n_fft=1024, hop_length=256, pad_mode=pad_mode)) ** power
    np.testing.assert_allclose(ours.T, theirs, atol=1e-5 * theirs.max())


@pytest.mark.parametrize("num_samples", [513, 1199, 22_000, 110_000])
def test_a_clip_of_n_samples_has_1_plus_n_over_256_frames(num_samples: int) -> None:
    assert len(frames_of(np.zeros(num_samples, np.float32), SPEC)) == 1 + num_samples // 256


@pytest.mark.parametrize("num_samples", [0, 1, 255, 512])
def test_a_clip_too_short_to_be_reflected_is_followed_by_zeros_first(num_samples: int) -> None:
    waveform = np.ones(num_samples, np.float32)
    padded = features.centred(waveform, SPEC)
    assert padded.size == 513 + 1024
    np.testing.assert_array_equal(padded[512 : 512 + num_samples], waveform)


def quiet_ends(lead: float, tail: float, seed: int) -> NDArray[np.float32]:
    waveform = clip(seed, 3.0)
    waveform[: int(lead * RATE)] *= 1e-3
    waveform[waveform.size - int(tail * RATE) :] *= 1e-3
    return waveform


@settings(max_examples=25)
@given(st.floats(0, 1.4), st.floats(0, 1.4), st.integers(0, 1000))
def test_trimming_is_librosas_split_with_padding(lead: float, tail: float, seed: int) -> None:
    waveform = quiet_ends(lead, tail, seed)
    start, stop = features.trim_bounds(waveform, RATE, TrimSpec())
    parts = librosa.effects.split(waveform, top_db=20, frame_length=2048, hop_length=4400)
    assert start == max(parts[0, 0] - 4400, 0)
    assert stop == min(parts[-1, 1] + 4400, waveform.size)


@pytest.mark.parametrize(
    ("level_db", "is_kept"), [(-15, True), (-19, True), (-21, False), (-35, False)]
)
def test_what_is_20_db_under_the_loudest_frame_is_trimmed_and_what_is_above_is_kept(
    level_db: float, is_kept: bool
) -> None:
    """Not of its energy, where 20 dB would be another factor."""
    waveform = np.full(20 * 4400, 0.5 * 10 ** (level_db / 20), np.float32)
    waveform[8 * 4400 : 12 * 4400] = 0.5
    start, stop = features.trim_bounds(waveform, RATE, TrimSpec(top_db=20))
    assert ((start, stop) == (0, waveform.size)) == is_kept


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9000), st.integers(1, 3000), st.integers(1, 5000), st.integers(0, 1000))
def test_the_frames_that_trimming_compares_are_summed_as_one_by_one_to_the_bit(
    num_samples: int, frame_length: int, hop: int, seed: int
) -> None:
    waveform = np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32)
    starts = range(-(frame_length // 2), num_samples + 1 - frame_length // 2, hop)
    frames = [waveform[max(start, 0) : start + frame_length] for start in starts]
    np.testing.assert_array_equal(
        features._frame_powers(waveform, frame_length, hop), [frame @ frame for frame in frames]
    )


def test_trimming_cuts_only_the_ends_and_keeps_200_ms_of_silence() -> None:
    waveform = np.zeros(10 * 4400, np.float32)
    waveform[4 * 4400 : 5 * 4400] = 0.5
    start, stop = features.trim_bounds(waveform, RATE, TrimSpec())
    assert start <= 3 * 4400
    assert 6 * 4400 <= stop < waveform.size
    gap = np.concatenate([waveform[: 6 * 4400], waveform])
    assert features.trim_bounds(gap, RATE, TrimSpec())[1] == 6 * 4400 + stop, "the middle was cut"


@pytest.mark.parametrize("num_samples", [0, 1, 4399])
def test_a_clip_shorter_than_the_padding_is_left_as_it_is(num_samples: int) -> None:
    assert features.trim_bounds(np.zeros(num_samples, np.float32), RATE, TrimSpec()) == (
        0,
        num_samples,
    )


def test_silence_is_not_trimmed_away() -> None:
    assert features.trim_bounds(np.zeros(50_000, np.float32), RATE, TrimSpec()) == (0, 50_000)


def scaled(energy: NDArray[np.float32], spec: FeatureSpec = SPEC) -> NDArray[np.float32]:
    return features.min_max_level(energy, energy.min(), energy.max(), spec)


def test_min_max_before_the_logarithm_is_min_max_after_it() -> None:
    energy = np.random.default_rng(0).lognormal(0, 6, (8, 40)).astype(np.float32)
    level = librosa.power_to_db(energy, amin=1e-10, top_db=100)
    expected = (level - level.min()) / (level.max() - level.min())
    np.testing.assert_allclose(scaled(energy), expected, atol=1e-5)


def test_levels_of_magnitudes_are_scaled_like_levels_of_energies() -> None:
    magnitude = np.random.default_rng(1).lognormal(0, 3, (8, 40)).astype(np.float32)
    level = librosa.amplitude_to_db(magnitude, amin=1e-5, top_db=100)
    expected = (level - level.min()) / (level.max() - level.min())
    ours = scaled(magnitude, FeatureSpec(power=1.0, amin=1e-5))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_what_is_100_db_under_the_loudest_becomes_zero() -> None:
    energy = np.array([[1e4, 1e-5, 1e-6, 1e-9]], np.float32)
    result = scaled(energy)
    assert result[0, 0] == 1
    assert result[0, 1] == pytest.approx(0.1, abs=1e-6)
    assert result[0, 2] == pytest.approx(0, abs=1e-6)
    assert result[0, 3] == 0


@pytest.mark.parametrize("value", [0.0, 1e-10, 3.0])
def test_a_constant_clip_becomes_zeros(value: float) -> None:
    assert not scaled(np.full((4, 5), value, np.float32)).any()


def test_a_long_spectrogram_is_cut_and_a_short_one_is_tiled() -> None:
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(features.fit_frames(image, 2, "tile"), image[:, :2])
    np.testing.assert_array_equal(
        features.fit_frames(image, 7, "tile"), image[:, [0, 1, 2, 0, 1, 2, 0]]
    )
    assert not features.fit_frames(image, 7, "zeros")[:, 3:].any()
    stacked = np.stack([image, image + 1])
    np.testing.assert_array_equal(
        features.fit_frames(stacked, 5, "tile")[1], features.fit_frames(stacked[1], 5, "tile")
    )
