"""Bilinear image interpolation by two taps an output, along each axis. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Taps:
    """Where each output point lies among the inputs.

    Attributes:
        left: (new_size,) int64, the input at or before it.
        right: (new_size,) int64, the input after it; `left` itself at the end.
        fraction: (new_size,) float32 in [0, 1], how far it lies from left to right.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    fraction: Array


def bilinear_taps(size: int, new_size: int) -> Taps:
    """Linear interpolation of `size` points at `new_size`.

    Half-pixel centres (`align_corners=False`), edges repeated, no antialias: output i samples the
    input at (i + 1/2) · size / new_size - 1/2, whatever the factor.

    Source: PROTOCOL section 1, `resize`; equals torch.nn.functional.interpolate(mode="bilinear").
    """
    position = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    left = position.astype(np.int64)
    return Taps(left, np.minimum(left + 1, size - 1), (position - left).astype(np.float32))


def interpolate(values: Array, taps: Taps, axis: int) -> Array:
    """Interpolate along one of the last two axes (-1 or -2)."""
    result = values.take(taps.left, axis)
    step = values.take(taps.right, axis)
    step -= result
    step *= taps.fraction if axis == -1 else taps.fraction[:, None]
    result += step
    return result


def resize(image: Array, bands: Taps, frames: Taps) -> Array:
    """Interpolate images along both axes.

    Args:
        image: (..., B, T).
        bands: Of B' outputs over B.
        frames: Of T' outputs over T.

    Returns:
        (..., B', T').
    """
    return interpolate(interpolate(image, bands, -2), frames, -1)
