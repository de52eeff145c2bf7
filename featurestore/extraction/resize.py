"""Separable resize operators of the variants of a FeatureSpec. Pure.

The bilinear operator uses two taps per output point; the others are a small matrix per axis.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Taps:
    """Position of each output point relative to the input points, for interpolation.

    Attributes:
        left: (new_size,) int64, index of the input at or before the output.
        right: (new_size,) int64, index of the input after it; equal to `left` at the end.
        fraction: (new_size,) float32 in [0, 1], relative position from left to right.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    fraction: Array


def bilinear_taps(size: int, new_size: int) -> Taps:
    """Return the taps for linear interpolation of `size` points at `new_size` points.

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
        bands: Taps of B' outputs among B bands.
        frames: Taps of T' outputs among T frames.

    Returns:
        (..., B', T').
    """
    return interpolate(interpolate(image, bands, -2), frames, -1)


def area_matrix(size: int, new_size: int) -> NDArray[np.float64]:
    """Return weights (new_size, size) that average all points touched by an output's span.

    Output i spans the points floor(i · size / new_size) to ceil((i + 1) · size / new_size), all
    with equal weight, even if a point lies in two spans.

    Source: equals torch.nn.functional.interpolate(mode="area"), which is adaptive_avg_pool2d.
    """
    edges, points = np.arange(new_size + 1)[:, None] * size, np.arange(size)
    inside = (points >= edges[:-1] // new_size) & (points < -(-edges[1:] // new_size))
    return np.asarray(inside / inside.sum(axis=1, keepdims=True))


def nearest_matrix(size: int, new_size: int) -> NDArray[np.float64]:
    """Return weights (new_size, size) that select the point nearest to an output's centre.

    Half-pixel centres: output i takes point floor((i + 1/2) · size / new_size).

    Source: equals torch.nn.functional.interpolate(mode="nearest-exact"); its mode "nearest" takes
    floor(i · size / new_size), half a pixel off.
    """
    points = (2 * np.arange(new_size) + 1) * size // (2 * new_size)
    return np.eye(size)[points]


def bicubic_matrix(size: int, new_size: int) -> NDArray[np.float64]:
    """Return weights (new_size, size) of cubic convolution with a = -0.75 on four points.

    Half-pixel centres, edges repeated, no antialiasing. Some weights are negative, so values may
    exceed the range of the input.

    Source: R. Keys 1981, equals torch.nn.functional.interpolate(mode="bicubic").
    """
    position = (np.arange(new_size)[:, None] + 0.5) * size / new_size - 0.5
    taps = np.floor(position).astype(np.int64) + np.arange(-1, 3)
    far, a = np.abs(position - taps), -0.75
    near = ((a + 2) * far - (a + 3)) * far**2 + 1
    weights = np.where(far <= 1, near, a * (((far - 5) * far + 8) * far - 4))
    result = np.zeros((new_size, size))
    np.add.at(result, (np.arange(new_size)[:, None], np.clip(taps, 0, size - 1)), weights)
    return result


def antialias_matrix(size: int, new_size: int) -> NDArray[np.float64]:
    """Return weights (new_size, size) of a triangle two outputs wide, or at least two points.

    Half-pixel centres; triangles truncated at the edges are renormalised to a sum of one.

    Source: equals torch.nn.functional.interpolate(mode="bilinear", antialias=True).
    """
    centres = (np.arange(new_size)[:, None] + 0.5) * size / new_size
    distance = np.abs(np.arange(size) + 0.5 - centres) / max(size / new_size, 1)
    weights = np.maximum(0, 1 - distance)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


_MATRICES: Mapping[str, Callable[[int, int], NDArray[np.float64]]] = {
    "resize-area": area_matrix,
    "resize-nearest": nearest_matrix,
    "resize-bicubic": bicubic_matrix,
    "resize-antialias": antialias_matrix,
}
RESIZES = ("resize", *_MATRICES)
"""Variants of a FeatureSpec that are the resized full image."""


def resize_by(image: Array, bands: Array, frames: Array) -> Array:
    """Return images in [0, 1] multiplied by a matrix along each axis.

    Args:
        image: (..., B, T).
        bands: (B', B) weights.
        frames: (T, T') weights.

    Returns:
        (..., B', T'), clipped to [0, 1], as cubic interpolation overshoots.
    """
    result = np.asarray(bands @ image @ frames, np.float32)
    return np.clip(result, 0, 1, out=result)


def resizer(
    variant: str, shape: tuple[int, int], new_shape: tuple[int, int]
) -> Callable[[Array], Array]:
    """Return a function from images (..., *shape) to images (..., *new_shape), all in [0, 1].

    Args:
        variant: One of `RESIZES`.
        shape: (B, T).
        new_shape: (B', T').
    """
    if variant == "resize":
        taps = [bilinear_taps(*sizes) for sizes in zip(shape, new_shape, strict=True)]
        return partial(resize, bands=taps[0], frames=taps[1])
    matrices = [_MATRICES[variant](*sizes) for sizes in zip(shape, new_shape, strict=True)]
    bands, frames = (np.ascontiguousarray(m, np.float32) for m in (matrices[0], matrices[1].T))
    return partial(resize_by, bands=bands, frames=frames)
