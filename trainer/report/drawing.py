"""Style of the figures: their colours, their size, and how they become PNG.

Matplotlib's object interface only: no pyplot, so no global state and no window.
"""

import io
from typing import TYPE_CHECKING

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the palette by Okabe and Ito, whose colours are told apart with any colour vision.
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#8C8C8C"
PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")

WIDTH_INCHES = 8.0
# 1280 pixels across: sharp at 800 CSS pixels also on a dense screen.
DPI = 160


def pale(colour: str) -> tuple[float, float, float]:
    """Mix the colour with white, as red, green and blue in [0, 1]: a ground for black lines."""
    red, green, blue = (0.55 * part + 0.45 for part in to_rgb(colour))
    return red, green, blue


def new_figure(height_inches: float) -> Figure:
    """Return an empty figure of the report's width that arranges its axes by itself."""
    return Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DPI, layout="constrained")


def plain(axes: "Axes") -> None:
    """Draw only the frame and grid lines that help reading values."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
