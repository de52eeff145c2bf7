import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from featurestore.extraction.resize import RESIZES, bilinear_taps, resize, resizer

TORCHS = {
    "resize": {"mode": "bilinear", "align_corners": False},
    "resize-area": {"mode": "area"},
    "resize-nearest": {"mode": "nearest-exact"},
    "resize-bicubic": {"mode": "bicubic", "align_corners": False},
    "resize-antialias": {"mode": "bilinear", "align_corners": False, "antialias": True},
}
SIZES = [((128, 300), (64, 128)), ((128, 300), (96, 214)), ((33, 50), (33, 7)), ((9, 5), (20, 11))]


def torchs(variant: str, images: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float64]:
    tensor = torch.from_numpy(images).double()[:, None]
    resized = torch.nn.functional.interpolate(tensor, size, **TORCHS[variant])  # type: ignore[arg-type]
    return resized[:, 0].numpy()


@pytest.mark.parametrize("variant", RESIZES)
@pytest.mark.parametrize(("size", "new_size"), SIZES)
def test_every_operator_is_torchs_and_stays_within_0_and_1(
    variant: str, size: tuple[int, int], new_size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    rough = (rng.random((2, *size)) < 0.5).astype(np.float32)
    images = np.concatenate([rng.random((2, *size)).astype(np.float32), rough])
    ours, theirs = resizer(variant, size, new_size)(images), torchs(variant, images, new_size)
    assert ours.dtype == np.float32
    assert 0 <= ours.min() <= ours.max() <= 1
    np.testing.assert_allclose(ours, np.clip(theirs, 0, 1), atol=2e-6, rtol=0)
    assert (theirs.max() > 1.05) == (variant == "resize-bicubic"), "only the cubic one overshoots"


def test_the_operators_differ_from_one_another() -> None:
    image = np.random.default_rng(1).random((128, 300)).astype(np.float32)
    results = [resizer(variant, (128, 300), (64, 128))(image) for variant in RESIZES]
    for i, one in enumerate(results):
        assert all(np.abs(one - other).mean() > 0.01 for other in results[:i])


@pytest.mark.parametrize("variant", RESIZES)
@given(size=st.integers(1, 60), new_size=st.integers(1, 60))
def test_a_constant_image_stays_so_in_any_size(variant: str, size: int, new_size: int) -> None:
    resized = resizer(variant, (size, 3), (new_size, 2))(np.full((size, 3), 0.7, np.float32))
    np.testing.assert_allclose(resized, np.full((new_size, 2), 0.7), atol=1e-6)


@pytest.mark.parametrize("size", [(64, 128), (96, 214), (128, 300), (200, 411)])
def test_resizing_is_torchs_bilinear_interpolation_without_antialias(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((128, 300)).astype(np.float32)
    ours = resize(image, bilinear_taps(128, size[0]), bilinear_taps(300, size[1]))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(image).double()[None, None], size, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=1e-6, rtol=0)


def test_halving_averages_neighbours() -> None:
    image = np.array([[1, 3, 10, 20]], np.float32)
    halved = resize(image, bilinear_taps(1, 1), bilinear_taps(4, 2))
    np.testing.assert_array_equal(halved, [[2, 15]])


@given(st.integers(1, 60), st.integers(1, 60))
def test_every_output_lies_between_two_neighbouring_inputs(size: int, new_size: int) -> None:
    taps = bilinear_taps(size, new_size)
    assert len(taps.left) == new_size
    assert (taps.left >= 0).all()
    assert (taps.right < size).all()
    assert np.isin(taps.right - taps.left, (0, 1)).all()
    assert (taps.fraction >= 0).all()
    assert (taps.fraction < 1).all()


@given(st.integers(1, 40))
def test_the_same_size_changes_nothing(size: int) -> None:
    image = np.random.default_rng(size).random((size, size + 1)).astype(np.float32)
    same = resize(image, bilinear_taps(size, size), bilinear_taps(size + 1, size + 1))
    np.testing.assert_array_equal(same, image)


def test_a_batch_is_resized_as_each_image_alone_and_the_images_differ() -> None:
    batch = np.random.default_rng(2).random((3, 12, 20)).astype(np.float32)
    bands, frames = bilinear_taps(12, 5), bilinear_taps(20, 7)
    together = resize(batch, bands, frames)
    np.testing.assert_allclose(
        together, np.stack([resize(i, bands, frames) for i in batch]), atol=1e-6
    )
    assert len({image.tobytes() for image in together}) == 3
