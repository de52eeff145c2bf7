"""Image interpolation as two small matrix products. Pure."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def bilinear_matrix(size: int, new_size: int) -> Array:
    """Linear interpolation of `size` points at `new_size`: (new_size, size), rows sum to 1.

    Half-pixel centres (`align_corners=False`), edges repeated, no antialias: output i samples the
    input at (i + 1/2) · size / new_size - 1/2, whatever the factor.

    Source: PROTOCOL section 1, `resize`; equals torch.nn.functional.interpolate(mode="bilinear").
    """
    position = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    left = np.minimum(position.astype(np.int64), max(size - 2, 0))
    fraction = position - left
    matrix = np.zeros((new_size, size))
    rows = np.arange(new_size)
    matrix[rows, left] = 1 - fraction
    matrix[rows, np.minimum(left + 1, size - 1)] += fraction
    return matrix.astype(np.float32)


def resize(image: Array, bands: Array, frames: Array) -> Array:
    """Interpolate images along both axes.

    Args:
        image: (..., B, T).
        bands: (B', B), as `bilinear_matrix` makes them.
        frames: (T', T).

    Returns:
        (..., B', T').
    """
    return bands @ (image @ frames.T)
