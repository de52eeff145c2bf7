"""What all pictures of the trainer share: size, colours, and how a figure becomes files.

Matplotlib's object interface only: no pyplot, so no global state and no window.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the palette by Okabe and Ito, whose colours are told apart with any colour vision.
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#8C8C8C"
PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
GRID, FAINT, DIM = "#DDDDDD", "#BBBBBB", "#555555"

WIDTH_INCHES = 8.0
# 1280 pixels across: sharp at 800 CSS pixels also on a dense screen.
DPI = 160


@dataclass(frozen=True)
class Drawing:
    """A finished figure as the bytes of a PNG and of an SVG file; equal figures give equal bytes.

    Text in the SVG is drawn as outlines: it looks the same on every machine, whatever its fonts.
    """

    png: bytes
    svg: bytes


def new_figure(height_inches: float) -> Figure:
    """Return an empty figure of the report's width that arranges its axes by itself."""
    return Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DPI, layout="constrained")


def rendered(figure: Figure) -> Drawing:
    """Return the figure as PNG and as SVG."""
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    figure.set_layout_engine("none")  # keep the places found; finding them again doubles the time
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(png.getvalue(), svg.getvalue())


def plain(axes: "Axes") -> None:
    """Draw only the frame and grid lines that help reading values."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def pale(colour: str) -> tuple[float, float, float]:
    """Mix the colour with white, as red, green and blue in [0, 1]: a ground for black lines."""
    red, green, blue = (0.55 * part + 0.45 for part in to_rgb(colour))
    return red, green, blue
