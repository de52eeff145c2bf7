import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featurestore.resize import bilinear_taps, resize


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
