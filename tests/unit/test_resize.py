import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.resize import bilinear_matrix, resize


@pytest.mark.parametrize("size", [(64, 128), (96, 214), (128, 300), (200, 411)])
def test_resizing_is_torchs_bilinear_interpolation_without_antialias(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((128, 300)).astype(np.float32)
    ours = resize(image, bilinear_matrix(128, size[0]), bilinear_matrix(300, size[1]))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(image).double()[None, None], size, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=1e-6, rtol=0)


def test_halving_averages_neighbours() -> None:
    np.testing.assert_array_equal(bilinear_matrix(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_every_output_is_a_weighted_mean_of_inputs(size: int, new_size: int) -> None:
    matrix = bilinear_matrix(size, new_size)
    assert matrix.shape == (new_size, size)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


@given(st.integers(1, 40))
def test_the_same_size_is_the_identity(size: int) -> None:
    np.testing.assert_array_equal(bilinear_matrix(size, size), np.eye(size, dtype=np.float32))


def test_a_batch_is_resized_as_each_image_alone_and_the_images_differ() -> None:
    batch = np.random.default_rng(2).random((3, 12, 20)).astype(np.float32)
    bands, frames = bilinear_matrix(12, 5), bilinear_matrix(20, 7)
    together = resize(batch, bands, frames)
    np.testing.assert_allclose(
        together, np.stack([resize(i, bands, frames) for i in batch]), atol=1e-6
    )
    assert len({image.tobytes() for image in together}) == 3
