"""Common code of all figures of the trainer (size, colours, files), and box plots.

Box plots show accuracy over folds: with folds connected by lines, and in the style of the paper.
Only Matplotlib's object interface is used: without pyplot there is no global state and no window.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from featurestore.pictures import drawing, fitted, shown
from schemas import CheckpointName
from trainer.report.paper import PaperTable
from trainer.report.series import Series
from trainer.stats import mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

# Of the palette by Okabe and Ito, whose colours are told apart with any colour vision.
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#8C8C8C"
PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
GRID, FAINT, DIM = "#DDDDDD", "#BBBBBB", "#555555"

WIDTH_INCHES = 8.0
# 1280 pixels across: sharp at 800 CSS pixels also on a dense screen.
DPI = 160

BOX_COLOURS: dict[CheckpointName, str] = {"best": BLUE, "last": ORANGE}
POINT: dict[str, Any] = {"ms": 4, "markeredgecolor": "black", "markeredgewidth": 0.6, "zorder": 4}
MEAN: dict[str, Any] = {"ms": 6, "color": "white", "markeredgecolor": "black", "zorder": 5}
BOX_WIDTH = 0.5
# Characters across all labels under the panels of one row, the fewest of one line, the most lines.
LINE_CHARS, LABEL_CHARS, LABEL_LINES = 72, 8, 8
MOST_IN_A_ROW = 14
"""Maximum number of boxes in one row of panels; with more, each panel has a row of its own."""
# The least height of the axes, so that a difference of a clip or two does not look large.
LEAST_POINTS = 10
ROW_INCHES = 3.6


@dataclass(frozen=True)
class Drawing:
    """A finished figure as the bytes of a PNG and of an SVG file; equal figures give equal bytes.

    Text in the SVG is drawn as outlines, so that it looks the same whatever the installed fonts.
    """

    png: bytes
    svg: bytes


def new_figure(height_inches: float) -> Figure:
    """Return an empty figure with the report's width and automatic layout."""
    return Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DPI, layout="constrained")


def rendered(figure: Figure) -> Drawing:
    """Return the figure as PNG and as SVG."""
    png, svg = io.BytesIO(), io.BytesIO()
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    # With a layout engine, if only a placeholder, `savefig` draws everything once more for nothing.
    figure.set_layout_engine(None)
    figure.savefig(png, format="png", metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(png.getvalue(), svg.getvalue())


def plain(axes: "Axes") -> None:
    """Remove all frame and grid lines that do not help reading values."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def annotate(
    axes: "Axes", text: str, place: tuple[float, float], coordinates: tuple[str, str]
) -> "Annotation":
    """Add a small note just above a point, given in Matplotlib's coordinate systems for x and y."""
    above: dict[str, Any] = {"xytext": (0, 3), "textcoords": "offset points"}
    return axes.annotate(text, place, xycoords=coordinates, color=DIM, fontsize=8, **above)


def pale(colour: str) -> tuple[float, float, float]:
    """Return a colour mixed with white, as RGB in [0, 1], for a background of black lines."""
    red, green, blue = (0.55 * part + 0.45 for part in to_rgb(colour))
    return red, green, blue


@dataclass(frozen=True)
class Boxes:
    """A panel: title, colour, and accuracy of every method in % by fold or split."""

    title: str
    colour: str
    values: tuple[Mapping[int, float], ...]


@drawing()
def boxplot(series: Sequence[Series], paper: PaperTable | None) -> Drawing:
    """Draw accuracy over folds by method, with a panel for every score and for the paper's.

    Each fold is a line across methods, as the statistics compare methods fold by fold.
    """
    panels = [
        Boxes(
            score.name, BOX_COLOURS[score.checkpoint], tuple(one.by_fold(score) for one in series)
        )
        for score in series[0].scores
    ]
    if paper and any(one.method in paper.splits for one in series):
        methods = [one.method for one in series]
        published = tuple(
            {} if method in methods[:at] else paper.by_split(method)
            for at, method in enumerate(methods)
        )
        panels.append(Boxes("the paper's, best epoch", GREY, published))
    stacked = len(panels) * len(series) > MOST_IN_A_ROW
    rows, columns = (len(panels), 1) if stacked else (1, len(panels))
    figure = new_figure(0.6 + ROW_INCHES * rows)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    chars = max(LABEL_CHARS, LINE_CHARS // (len(series) * columns))
    for axes, boxes in zip(grid.flat, panels, strict=True):
        plain(axes)
        axes.set_title(boxes.title, size=10)
        _draw_boxes(axes, boxes)
        labels = [fitted(one.label, chars, LABEL_LINES) for one in series]
        small = {"fontsize": 8} if columns > 1 else {}
        axes.set_xticks(range(len(series)), labels, **small)
        axes.set_xlim(-0.6, len(series) - 0.4)
    _mark_chance([*grid.flat], series[0].chance)
    for row in grid:
        row[0].set_ylabel("accuracy (%)")
    title = f"Accuracy over the held-out folds of {shown(series[0].dataset)}"
    figure.suptitle(f"{title}\n{series[0].rule.picked_by}", size=10)
    figure.supxlabel(
        "box: quartiles and median; diamond: mean; points: folds, each joined between methods",
        size=9,
    )
    return rendered(figure)


def _draw_boxes(axes: "Axes", boxes: Boxes) -> None:
    """Draw one box per method that has values, its mean and folds upon it, and the folds' lines."""
    places = [at for at, values in enumerate(boxes.values) if values]
    values = [by_fold for by_fold in boxes.values if by_fold]
    drawn = axes.boxplot(
        [list(by_fold.values()) for by_fold in values],
        positions=places,
        widths=BOX_WIDTH,
        showfliers=False,
        patch_artist=True,
    )
    for box in drawn["boxes"]:
        box.set(facecolor=pale(boxes.colour), edgecolor="black")
    for median in drawn["medians"]:
        median.set(color="black", linewidth=1.6)
    for fold in sorted({fold for by_fold in values for fold in by_fold}):
        path = [(x, y[fold]) for x, y in zip(places, values, strict=True) if fold in y]
        axes.plot(*zip(*path, strict=True), "o-", color=boxes.colour, linewidth=0.7, **POINT)
    means = [mean(list(by_fold.values())) for by_fold in values]
    axes.plot(places, means, "D", **MEAN)


def _mark_chance(panels: Sequence["Axes"], chance: float) -> None:
    """Set the common range of the panels, and draw chance in it, or say that it lies below.

    A line far below all boxes would press them into the upper edge.
    """
    low, high = panels[0].get_ylim()
    missing = max(0.0, LEAST_POINTS - (high - low))
    low, high = low - missing / 2, high + missing / 2
    near = low - LEAST_POINTS <= chance
    if near:
        low, high = min(low, chance - 1), max(high, chance + 1)
    for axes in panels:
        axes.set_ylim(low, high)
        place = chance if near else low
        text = f"chance {chance:.3g} %" if near else f"↓ chance {chance:.3g} %"
        axes.axhline(place, color=DIM, linewidth=1, linestyle=":")
        annotate(axes, text, (0.01, place), ("axes fraction", "data"))


PAPERS_METHODS = ("baseline", "mel", "resize")


@drawing()
def paper_boxplot(series: Sequence[Series], paper: PaperTable) -> Drawing:
    """Draw box plots of the paper's methods in the style of its figures 2 and 3: ours, and its own.

    Plain boxes with whiskers to 1.5 interquartile ranges and outliers as rings, for each method of
    the paper.
    """
    score = series[0].scores[0]
    measured = [(one.label, one.by_fold(score)) for one in series if one.method in PAPERS_METHODS]
    published = [(method, paper.by_split(method)) for method in paper.splits]
    figure = new_figure(ROW_INCHES)
    grid = figure.subplots(1, 2, sharey=True)
    for axes, boxes, title in zip(
        grid, (measured, published), (f"ours, {score.name}", "the paper's, best epoch"), strict=True
    ):
        chars = max(LABEL_CHARS, LINE_CHARS // (2 * len(boxes)))
        axes.boxplot(
            [list(values.values()) for _, values in boxes],
            tick_labels=[fitted(label, chars, LABEL_LINES) for label, _ in boxes],
            widths=BOX_WIDTH,
            medianprops={"color": "#D55E00"},
            boxprops={"color": BLUE},
        )
        axes.set_title(title, size=10)
    grid[0].set_ylabel("accuracy (%)")
    figure.suptitle(f"Accuracy over the folds of {shown(series[0].dataset)}", size=10)
    return rendered(figure)
