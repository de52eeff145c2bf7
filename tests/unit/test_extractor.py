from typing import get_args

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from featurestore.extraction import features
from featurestore.extraction.extractor import Extractor, quantize
from featurestore.extraction.resize import RESIZES, bilinear_taps, resize, resizer
from schemas import FeatureSpec, Resolution, Variant
from tests.conftest import sound

SPEC = FeatureSpec()
EVERYTHING = FeatureSpec(variants=get_args(Variant))
PAPERS_SIZES = {
    "R1/mel": (64, 128),
    "R1/resize": (64, 128),
    "R2/mel": (96, 214),
    "R2/resize": (96, 214),
    "R3/full": (128, 300),
}


def clip(seed: int, seconds: float) -> NDArray[np.float32]:
    return sound(seed, seconds, SPEC.sample_rate).astype(np.float32)


def reference(
    waveform: NDArray[np.float32], n_mels: int, num_frames: int, *, trim: bool = True
) -> NDArray[np.float64]:
    """PROTOCOL section 1 written with librosa, step by step."""
    if trim:
        parts = librosa.effects.split(waveform, top_db=20, frame_length=2048, hop_length=4400)
        waveform = waveform[max(parts[0, 0] - 4400, 0) : parts[-1, 1] + 4400]
    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=22_000,
        n_fft=1024,
        hop_length=256,
        n_mels=n_mels,
        htk=True,
        norm=None,
        power=2,
        pad_mode="reflect",
    )
    level = librosa.power_to_db(mel, amin=1e-10, top_db=100)
    image = (level - level.min()) / (level.max() - level.min())
    return np.tile(image, -(-num_frames // image.shape[1]))[:, :num_frames]


@pytest.mark.parametrize(
    "seconds",
    [0.0545, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.7, 1.5, 3.4, 5.0)), 3.5, 12.0],
)
def test_every_image_is_the_protocols_computed_with_librosa(seconds: float) -> None:
    waveform = clip(3, seconds)
    images = Extractor(SPEC)(waveform)
    full = reference(waveform, 128, 300)
    expected = {
        "R1/mel": reference(waveform, 64, 128),
        "R2/mel": reference(waveform, 96, 214),
        "R3/full": full,
        "R1/resize": resize(full, bilinear_taps(128, 64), bilinear_taps(300, 128)),
        "R2/resize": resize(full, bilinear_taps(128, 96), bilinear_taps(300, 214)),
    }
    assert {name: image.shape for name, image in images.items()} == PAPERS_SIZES
    for name, image in expected.items():
        np.testing.assert_allclose(images[name], image, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("trim", [True, False])
def test_silence_at_both_ends_is_trimmed_unless_the_spec_says_no(trim: bool) -> None:
    spec = SPEC if trim else FeatureSpec(trim=None)
    waveform = clip(3, 4.0)
    waveform[:20_000] *= 1e-4
    waveform[60_000:] *= 1e-4
    image = Extractor(spec)(waveform)["R3/full"]
    np.testing.assert_allclose(image, reference(waveform, 128, 300, trim=trim), atol=1e-5)
    assert np.abs(image - reference(waveform, 128, 300, trim=not trim)).max() > 0.1


@pytest.mark.parametrize("seconds", [0.0545, 1.5, 2.9, 5.0])
def test_the_ablations_change_bands_or_time_alone(seconds: float) -> None:
    waveform = clip(3, seconds)
    images = Extractor(EVERYTHING)(waveform)
    expected = {
        "R1/mel-bands": reference(waveform, 64, 300),
        "R2/mel-bands": reference(waveform, 96, 300),
        "R1/mel-time": reference(waveform, 128, 128),
        "R2/mel-time": reference(waveform, 128, 214),
    }
    for name, image in expected.items():
        np.testing.assert_allclose(images[name], image, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(images["R1/mel-time"], images["R3/full"][:, :128])
    np.testing.assert_array_equal(images["R1/mel-bands"][:, :128], images["R1/mel"])


def test_every_operator_resizes_the_image_that_is_stored_as_full() -> None:
    images = Extractor(EVERYTHING)(clip(3, 2.0))
    for variant in RESIZES:
        expected = resizer(variant, (128, 300), (96, 214))(images["R3/full"])
        np.testing.assert_array_equal(images[f"R2/{variant}"], expected)


@pytest.mark.parametrize("seconds", [0.3, 2.0, 5.0])
def test_more_variants_change_no_bit_of_the_others(seconds: float) -> None:
    alone, among = Extractor(SPEC)(clip(3, seconds)), Extractor(EVERYTHING)(clip(3, seconds))
    assert tuple(among) == tuple(EVERYTHING.arrays)
    assert {name: image.shape for name, image in among.items()} == EVERYTHING.arrays
    for name, image in alone.items():
        np.testing.assert_array_equal(among[name], image, err_msg=name)


@pytest.mark.parametrize("variant", get_args(Variant))
def test_a_variant_alone_is_what_it_is_among_all(variant: Variant) -> None:
    alone = Extractor(FeatureSpec(variants=(variant,)))(clip(3, 2.0))
    among = Extractor(EVERYTHING)(clip(3, 2.0))
    assert set(alone) == {f"R1/{variant}", f"R2/{variant}", "R3/full"}
    for name, image in alone.items():
        np.testing.assert_allclose(image, among[name], atol=1e-6, err_msg=name)


def test_the_filterbank_of_2019_gives_images_in_0_to_1_though_some_filters_are_empty() -> None:
    spec = EVERYTHING.model_copy(update={"mel_scale": "torchaudio-2019"})
    images, right = Extractor(spec)(clip(3, 2.0)), Extractor(EVERYTHING)(clip(3, 2.0))
    for name, image in images.items():
        assert 0 <= image.min() < image.max() <= 1
        assert np.abs(image - right[name]).max() > 0.1, name
    empty = ~features.mel_filterbank(spec, 128).any(axis=1)
    assert empty.any()
    assert not images["R3/full"][empty].any()


@pytest.mark.parametrize("num_samples", [0, 1, 100, 512, 513])
def test_a_clip_of_any_length_gives_finite_images_in_0_to_1(num_samples: int) -> None:
    for image in Extractor(EVERYTHING)(clip(4, 1.0)[:num_samples]).values():
        assert np.isfinite(image).all()
        assert 0 <= image.min() <= image.max() <= 1


def test_silence_becomes_zeros() -> None:
    assert not any(
        image.any() for image in Extractor(EVERYTHING)(np.zeros(30_000, np.float32)).values()
    )


def test_loudness_does_not_matter() -> None:
    extractor, waveform = Extractor(SPEC), clip(5, 2.0)
    for name, image in extractor(waveform).items():
        np.testing.assert_allclose(extractor(waveform * 4)[name], image, atol=1e-5, err_msg=name)


def test_a_long_clip_done_in_pieces_is_the_same_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor, waveform = Extractor(SPEC), clip(6, 4.0)
    pieces = extractor(waveform)
    monkeypatch.setattr("featurestore.extraction.extractor._FRAMES_AT_ONCE", 10_000)
    for name, image in extractor(waveform).items():
        np.testing.assert_allclose(pieces[name], image, atol=1e-6, err_msg=name)


def test_the_extractor_keeps_nothing_of_the_clip_before() -> None:
    extractor, first, second = Extractor(SPEC), clip(7, 2.0), clip(8, 1.0)
    alone = Extractor(SPEC)(second)
    extractor(first)
    after = extractor(second)
    assert all((alone[name] == after[name]).all() for name in alone)
    assert not (alone["R3/full"] == extractor(first)["R3/full"]).all()


def test_another_spec_gives_its_own_arrays() -> None:
    spec = FeatureSpec(
        sample_rate=16_000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        trim=None,
        short_clips="zeros",
        variants=("resize",),
        resolutions=(
            Resolution(name="low", n_mels=20, num_frames=50),
            Resolution(name="high", n_mels=40, num_frames=100),
        ),
    )
    images = Extractor(spec)(clip(9, 0.5)[:8000])
    assert {k: v.shape for k, v in images.items()} == {
        "low/resize": (20, 50),
        "high/full": (40, 100),
    }
    assert not images["high/full"][:, 51:].any()


def test_rounding_to_float16_is_numpys_to_the_bit() -> None:
    every_half = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    between = (every_half[1:] + every_half[:-1]) / 2
    rng = np.random.default_rng(0)
    random = np.concatenate([rng.random(200_000), rng.random(200_000) ** 9]).astype(np.float32)
    near = np.nextafter(between, np.float32(0)), np.nextafter(between, np.float32(1))
    for values in (every_half, between, *near, random, random.reshape(2, -1)[:, ::3]):
        ours = quantize(values, "float16")
        np.testing.assert_array_equal(
            ours.view(np.uint16), values.astype(np.float16).view(np.uint16)
        )


@pytest.mark.parametrize("dtype", ["float16", "uint8", "float32"])
def test_the_images_of_a_clip_are_stored_as_each_alone_would_be(dtype: str) -> None:
    extractor = Extractor(FeatureSpec(dtype=dtype, variants=("mel", "mel-time", "resize")))
    images, stored = extractor(clip(3, 2.0)), extractor.stored(clip(3, 2.0))
    assert list(stored) == list(images)
    for name, image in images.items():
        assert stored[name].dtype == dtype
        np.testing.assert_array_equal(stored[name], quantize(image, dtype), err_msg=name)


def test_storing_costs_no_more_than_the_dtype_promises() -> None:
    image = np.random.default_rng(0).random((128, 300)).astype(np.float32)

    def rmse(dtype: str, scale: float = 1) -> float:
        stored = quantize(image, dtype).astype(np.float32) * np.float32(scale)
        return float(np.sqrt(np.mean((stored - image) ** 2)))

    assert rmse("float32") == 0
    assert rmse("float16") < 1.5e-4
    assert rmse("uint8", 1 / 255) < 1.2e-3
    assert quantize(np.array([0, 1], np.float32), "uint8").tolist() == [0, 255]
