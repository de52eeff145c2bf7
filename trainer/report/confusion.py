"""The confusion matrix as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurestore.pictures import drawing, fitted, shown
from trainer.inference.confusion import Matrix
from trainer.report.drawing import DPI, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME_CHARS, TITLE_CHARS = 30, 70
MOST_WITH_NUMBERS = 20
"""Most classes with which every cell shows its clips."""
_MARGIN_INCHES, _CELL_INCHES = 2.6, {True: 0.46, False: 0.19}


@drawing()
def confusion_picture(confusion: Matrix, class_names: Sequence[str], title: Sequence[str]) -> bytes:
    """Draw a PNG: rows are true classes, columns predicted ones, shades the fraction of the row.

    Args:
        confusion: (classes, classes), clips.
        class_names: By class_id.
        title: Lines above it.
    """
    numbered = len(class_names) <= MOST_WITH_NUMBERS
    side = _MARGIN_INCHES + _CELL_INCHES[numbered] * len(class_names)
    figure = Figure(figsize=(side + 0.8, side), dpi=DPI, layout="compressed")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 8 if numbered else 6
    ticks = np.arange(len(class_names))
    names = [shown(name, NAME_CHARS) for name in class_names]
    axes.set_xticks(ticks, names, rotation=90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title("\n".join(fitted(line, TITLE_CHARS) for line in title), fontsize=9, loc="left")
    if numbered:
        _write_numbers(axes, confusion, shares)
    bar = figure.colorbar(image, ax=axes, shrink=0.6)
    bar.set_label("share of the true class's clips")
    return to_png(figure)


def _write_numbers(axes: "Axes", confusion: Matrix, shares: NDArray[np.float64]) -> None:
    """Write the clips of each cell that has some; white on the dark ones."""
    for row, column in np.argwhere(confusion):
        axes.text(
            column,
            row,
            str(confusion[row, column]),
            ha="center",
            va="center",
            fontsize=7,
            color="white" if shares[row, column] > 0.5 else "black",
        )
