"""The pictures of a report, of an evaluation and of an LR range test, as PNG.

Matplotlib's object interface only: no pyplot, so no global state and no window.
"""

import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle, pairwise
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from featurestore.pictures import drawing, fitted, legend, shown
from schemas import CheckpointName, EpochMetrics, Stage
from trainer.report.paper import PaperTable
from trainer.report.series import Series
from trainer.report.tables import images_of
from trainer.stats import Matrix, by_class, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the palette by Okabe and Ito, whose colours are told apart with any colour vision.
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#8C8C8C"
PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")

WIDTH_INCHES = 8.0
# 1280 pixels across: sharp at 800 CSS pixels also on a dense screen.
DPI = 160

BOX_WIDTH = 0.22
BOX_STEP = 0.27
# Characters across all labels under the axes, the fewest of one line, and the most lines.
LINE_CHARS, LABEL_CHARS, LABEL_LINES = 72, 8, 8
BOX_COLOURS: dict[CheckpointName, str] = {"best": BLUE, "last": ORANGE}
POINT: dict[str, Any] = {"ms": 4, "markeredgecolor": "black", "markeredgewidth": 0.6, "zorder": 3}
# The least height of the axes, so that a difference of a clip or two does not look large.
LEAST_POINTS = 10


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


@dataclass(frozen=True)
class Boxes:
    """One kind of box: its name in the legend, its colour, and a method's values by fold."""

    name: str
    colour: str
    values: tuple[Mapping[int, float], ...]


@drawing()
def boxplot(series: Sequence[Series], paper: PaperTable | None) -> bytes:
    """Draw accuracy over folds by method: every score, and the paper's; PNG."""
    kinds = [
        Boxes(
            score.name, BOX_COLOURS[score.checkpoint], tuple(one.by_fold(score) for one in series)
        )
        for score in series[0].scores
    ]
    if paper and any(one.method in paper.splits for one in series):
        theirs = tuple(paper.by_split(one.method) for one in series)
        kinds.append(Boxes("paper (best epoch)", GREY, theirs))
    figure = new_figure(4.5)
    axes = figure.subplots()
    for at, kind in enumerate(kinds):
        _draw_boxes(axes, kind, BOX_STEP * (at - (len(kinds) - 1) / 2))
    _dress_boxes(axes, series)
    handles = [Patch(facecolor=pale(kind.colour), label=kind.name) for kind in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds), frameon=False)
    return to_png(figure)


def _draw_boxes(axes: "Axes", boxes: Boxes, shift: float) -> None:
    """Draw one box per method that has values, its folds as points upon it."""
    places = [at + shift for at, values in enumerate(boxes.values) if values]
    values = [list(by_fold.values()) for by_fold in boxes.values if by_fold]
    drawn = axes.boxplot(
        values, positions=places, widths=BOX_WIDTH, showfliers=False, patch_artist=True
    )
    for box in drawn["boxes"]:
        box.set(facecolor=pale(boxes.colour), edgecolor="black")
    for median in drawn["medians"]:
        median.set(color="black", linewidth=1.6)
    for place, points in zip(places, values, strict=True):
        axes.plot([place] * len(points), points, "o", color=boxes.colour, **POINT)


def _dress_boxes(axes: "Axes", series: Sequence[Series]) -> None:
    plain(axes)
    title = f"Accuracy over the held-out folds of {shown(series[0].dataset)}"
    axes.set_title(f"{title}\n{series[0].rule.picked_by}", size=10)
    chance = series[0].chance
    axes.set_ylabel(f"accuracy (%); chance: {chance:.3g} %")
    axes.set_xlabel("method; box: quartiles and median, points: folds")
    chars = max(LABEL_CHARS, LINE_CHARS // len(series))
    axes.set_xticks(range(len(series)), [fitted(one.label, chars, LABEL_LINES) for one in series])
    axes.set_xlim(-0.6, len(series) - 0.4)
    low, high = axes.get_ylim()
    missing = max(0.0, LEAST_POINTS - (high - low))
    low, high = low - missing / 2, high + missing / 2
    # A line far below all boxes would press them into the upper edge: the label then says it alone.
    if low - LEAST_POINTS <= chance:
        axes.axhline(chance, color="#555555", linewidth=0.8, linestyle=":")
        low, high = min(low, chance - 1), max(high, chance + 1)
    axes.set_ylim(low, high)


ByEpoch = dict[int, float]
CURVES_INCHES = 2.5
CURVE_TITLE_CHARS = 44
ARRAY_CHARS = 24
# Room above the curves for the arrays' names, which hide the lines behind them.
HEADROOM = 0.14
HEADROOM_OF_TWO_LINES = 0.22
ARRAY_TEXT: dict[str, Any] = {
    "size": 8,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
}


@drawing()
def learning_curves(series: Sequence[Series]) -> bytes:
    """Draw every fold thin and their mean thick, with the stages' boundaries; PNG."""
    figure = new_figure(0.4 + CURVES_INCHES * len(series))
    grid = figure.subplots(len(series), 2, sharex=True, sharey="col", squeeze=False)
    for (left, right), one in zip(grid, series, strict=True):
        _draw_curves(left, one, _curve_accuracy, BLUE)
        left.set_ylabel(f"{one.rule.watched} (%)")
        _draw_curves(right, one, _curve_loss, ORANGE)
        right.set_ylabel("training loss (nats)")
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
        axes.set_ylim(bottom=0)
    return to_png(figure)


def _curve_accuracy(row: EpochMetrics) -> float:
    return 100 * row.valid_accuracy


def _curve_loss(row: EpochMetrics) -> float:
    return row.train_loss


def _draw_curves(
    axes: "Axes", series: Series, value: Callable[[EpochMetrics], float], colour: str
) -> None:
    plain(axes)
    alternates = any(stage.alternate for stage in series.stages)
    axes.margins(y=HEADROOM_OF_TWO_LINES if alternates else HEADROOM)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(fitted(series.label, CURVE_TITLE_CHARS), size=10)
    curves = list(_curves(series, value))
    for curve in curves:
        axes.plot(list(curve), list(curve.values()), color=colour, linewidth=0.6, alpha=0.45)
    average = _average(curves)
    axes.plot(list(average), list(average.values()), color=colour, linewidth=2)
    _mark_stages(axes, series.stages)


def _curves(series: Series, value: Callable[[EpochMetrics], float]) -> Iterator[ByEpoch]:
    """Yield a curve for each fold of each run."""
    for run in series.runs:
        curves: dict[int, ByEpoch] = defaultdict(dict)
        for row in run.epochs:
            curves[row.fold][row.epoch] = value(row)
        yield from curves.values()


def _average(curves: Sequence[ByEpoch]) -> ByEpoch:
    """Return the mean over the curves that have the epoch."""
    epochs = sorted({epoch for curve in curves for epoch in curve})
    return {epoch: mean([c[epoch] for c in curves if epoch in c]) for epoch in epochs}


def _mark_stages(axes: "Axes", stages: Sequence[Stage]) -> None:
    """Draw dotted lines between stages, dashed if the images change too; name each image."""
    ends = [0.5 + end for end in accumulate((stage.epochs for stage in stages), initial=0)]
    names = [images_of(stage) for stage in stages]
    for (before, after), at in zip(pairwise(names), ends[1:], strict=False):
        style = ":" if before == after else "--"
        axes.axvline(at, color="#555555", linewidth=0.8, linestyle=style)
    for name, last, at in zip(names, ["", *names], ends, strict=False):
        if name != last:
            text = f" {shown(name, ARRAY_CHARS)}".replace("+", " +\n ")
            label = axes.text(
                at, 1, text, transform=axes.get_xaxis_transform(), va="top", **ARRAY_TEXT
            )
            label.set_in_layout(False)  # it lies within the axes, however long it is


MARKERS = "osD^vPX*"
CLASS_INCHES, MARGIN_INCHES, LEGEND_INCHES = 0.24, 1.3, 0.22
LEGEND_COLUMNS = 3


@drawing()
def recall_picture(series: Sequence[Series]) -> bytes:
    """Draw a row per class, the best recognised at the top, and a point per method; PNG."""
    score = series[0].scores[0]
    recalls = [_recalls(one, score.checkpoint) for one in series]
    names = dict.fromkeys(name for found in recalls for name in found)
    ranked = sorted(names, key=lambda name: mean([r[name] for r in recalls if name in r]))
    height = (
        CLASS_INCHES * len(ranked)
        + MARGIN_INCHES
        + LEGEND_INCHES * ceil(len(series) / LEGEND_COLUMNS)
    )
    figure = new_figure(height)
    axes = figure.subplots()
    _draw_recalls(axes, series, recalls, ranked)
    plain(axes)
    axes.grid(visible=True, axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_yticks(range(len(ranked)), map(shown, ranked), fontsize=8)
    axes.set_ylim(-0.7, len(ranked) - 0.3)
    axes.set_xlabel("recall (% of the class's clips)")
    title = f"Recall of each class of {shown(series[0].dataset)}"
    axes.set_title(f"{title}\n{series[0].rule.picked_by}", size=10)
    figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=8)
    return to_png(figure)


def _draw_recalls(
    axes: "Axes",
    series: Sequence[Series],
    recalls: Sequence[Mapping[str, float]],
    ranked: Sequence[str],
) -> None:
    """Draw a grey line per class from the lowest to the highest recall, and the points upon it."""
    for row, name in enumerate(ranked):
        values = [found[name] for found in recalls if name in found]
        axes.plot([min(values), max(values)], [row, row], color="#BBBBBB", linewidth=2, zorder=1)
    looks = zip(cycle(PALETTE), cycle(MARKERS), strict=True)
    for one, found, (colour, marker) in zip(series, recalls, looks, strict=False):
        rows = [row for row, name in enumerate(ranked) if name in found]
        values = [found[ranked[row]] for row in rows]
        axes.plot(values, rows, marker, color=colour, ms=6, alpha=0.85, label=legend(one.label))


def _recalls(series: Series, checkpoint: CheckpointName) -> dict[str, float]:
    """Return recall in % by class name, of the classes that have clips."""
    classes = by_class(series.confusion(checkpoint), series.class_names)
    return {one.class_name: 100 * one.recall for one in classes if one.recall is not None}


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


_HEIGHT_INCHES = 4.5
_HEADROOM = 0.15
_LR_TITLE_CHARS = 90


@drawing()
def lr_picture(
    lrs: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    marks: Sequence[tuple[str, float]],
    title: str,
) -> bytes:
    """Draw a PNG: the losses and their smoothed curve over λ on a logarithmic axis, some λ marked.

    The loss axis ends where the smoothed curve does: single losses may leave it at a divergence.

    Args:
        lrs: λ of each step.
        losses: Losses of each step; one that is no finite number is not drawn.
        smoothed: The same, smoothed.
        marks: Names and λ of what is marked, at most two.
        title: Above it.
    """
    figure = new_figure(_HEIGHT_INCHES)
    axes = figure.subplots()
    plain(axes)
    axes.set_xscale("log")
    axes.plot(lrs, losses, color=GREY, linewidth=1, marker=".", label="of each step's batch")
    axes.plot(lrs, smoothed, color=BLUE, linewidth=2, label="smoothed")
    for (name, lr), colour, style in zip(marks, (ORANGE, "black"), ("-", "--"), strict=False):
        axes.axvline(lr, color=colour, linestyle=style, label=f"{name}: {lr:.2g}")
    drawn = [*filter(math.isfinite, [*smoothed, *losses[: len(losses) // 2]])]
    margin = _HEADROOM * (max(drawn) - min(drawn)) or 1.0
    axes.set_ylim(min([*filter(math.isfinite, losses), *drawn]) - margin, max(drawn) + margin)
    axes.set_xlabel("learning rate λ")
    axes.set_ylabel("training loss (nats)")
    axes.set_title(fitted(title, _LR_TITLE_CHARS), size=10, loc="left")
    axes.legend(loc="best", fontsize=9)
    return to_png(figure)
