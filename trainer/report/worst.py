"""The picture of a run's worst mistakes: each clip's image, its class, and the one predicted."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurestore.pictures import drawing, fitted, shown
from schemas import FeatureSpec
from trainer.inference.interpret import WrongClip
from trainer.report.drawing import DPI, WIDTH_INCHES, Drawing, rendered

_COLUMNS = 3
_ROW_INCHES, _MARGIN_INCHES = 2.2, 0.8
_TITLE_CHARS, _ID_CHARS = 30, 34


@drawing()
def worst_picture(
    clips: Sequence[WrongClip],
    images: Sequence[NDArray[np.float32]],
    array: str,
    spec: FeatureSpec,
    run: str,
) -> Drawing:
    """Draw the images that the network saw, the most confident mistake first.

    Args:
        clips: What is drawn; may be empty.
        images: (bands, frames) in [0, 1] of each clip.
        array: Name of the array that they are of.
        spec: Gives the sample rate and the hop.
        run: Name of the run, for the title.
    """
    rows = max(1, ceil(len(clips) / _COLUMNS))
    height = _MARGIN_INCHES + _ROW_INCHES * rows
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in grid.flat[len(clips) :]:
        axes.set_axis_off()
    for axes, clip, image in zip(grid.flat, clips, images, strict=False):
        bands, frames = image.shape
        seconds = frames * spec.hop_length / spec.sample_rate
        axes.imshow(
            image,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=0,
            vmax=1,
            extent=(0, seconds, 0, bands),
        )
        taken = f"{100 * clip.predicted_probability:.0f} % {clip.predicted}"
        own = f"is {clip.class_name} ({100 * clip.probability:.0f} %)"
        lines = fitted(taken, _TITLE_CHARS, 1), fitted(own, _TITLE_CHARS, 1)
        axes.set_title("\n".join(lines), size=8)
        axes.set_xlabel(f"{shown(clip.clip_id, _ID_CHARS)}, fold {clip.fold}", size=6)
        axes.tick_params(labelsize=6)
    title = f"Most confidently wrong of {shown(run)}, {shown(array)}; across: seconds, up: bands"
    figure.suptitle(title if clips else f"{shown(run)}: no clip was wrong", size=10)
    return rendered(figure)
