"""Figures by class: recall, confusion matrices and their differences, and the worst mistakes."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurestore.pictures import drawing, fitted, legend, shown
from featurestore.reading.clipfigure import color_bar, draw_array, label_axes
from schemas import FeatureSpec
from trainer.inference.interpret import WrongClip
from trainer.report.comparisons import Agreement
from trainer.report.drawing import (
    DPI,
    FAINT,
    GRID,
    PALETTE,
    WIDTH_INCHES,
    Drawing,
    new_figure,
    plain,
    rendered,
)
from trainer.report.series import Series
from trainer.stats import Matrix, by_class, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX*"
CLASS_INCHES, MARGIN_INCHES, LEGEND_INCHES = 0.24, 1.3, 0.22
LEGEND_COLUMNS = 3


@drawing()
def recall_picture(series: Sequence[Series]) -> Drawing:
    """Draw the recall of each class, highest at the top, with a point per method."""
    recalls = [_recalls(one) for one in series]
    names = dict.fromkeys(name for by_name in recalls for name in by_name)
    ranked = sorted(names, key=lambda name: mean([r[name] for r in recalls if name in r]))
    legend_inches = LEGEND_INCHES * ceil(len(series) / LEGEND_COLUMNS)
    figure = new_figure(CLASS_INCHES * len(ranked) + MARGIN_INCHES + legend_inches)
    axes = figure.subplots()
    _draw_recalls(axes, series, recalls, ranked)
    plain(axes)
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.6)
    axes.set_yticks(range(len(ranked)), map(shown, ranked), fontsize=8)
    axes.set_ylim(-0.7, len(ranked) - 0.3)
    axes.set_xlabel("recall (% of the class's clips)")
    title = f"Recall of each class of {shown(series[0].dataset)}"
    axes.set_title(f"{title}\n{series[0].rule.picked_by}", size=10)
    figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=8)
    return rendered(figure)


def _draw_recalls(
    axes: "Axes",
    series: Sequence[Series],
    recalls: Sequence[Mapping[str, float]],
    ranked: Sequence[str],
) -> None:
    """Draw a grey line per class from the lowest to the highest recall, and the points upon it."""
    for row, name in enumerate(ranked):
        values = [by_name[name] for by_name in recalls if name in by_name]
        axes.plot([min(values), max(values)], [row, row], color=FAINT, linewidth=2, zorder=1)
    looks = zip(cycle(PALETTE), cycle(MARKERS), strict=True)
    for one, by_name, (colour, marker) in zip(series, recalls, looks, strict=False):
        rows = [row for row, name in enumerate(ranked) if name in by_name]
        values = [by_name[ranked[row]] for row in rows]
        axes.plot(values, rows, marker, color=colour, ms=6, alpha=0.85, label=legend(one.label))


def _recalls(series: Series) -> dict[str, float]:
    """Return recall in % by class name, of the classes that have clips."""
    classes = by_class(series.confusion(), series.class_names)
    return {one.class_name: 100 * one.recall for one in classes if one.recall is not None}


NAME_CHARS, TITLE_CHARS = 30, 70
WHO = "#3d6b57", "#b63679", "#3b63b8", "#6b7280"
"""Colours for both correct, only the first, only the second, neither; as on the browsing page."""


@drawing()
def agreement_picture(pair: Agreement) -> Drawing:
    """Draw which of two methods is correct, as a bar per class and per fold."""
    classes = pair.first.class_names
    folds = np.unique(pair.fold).tolist()
    names = [*(shown(name, NAME_CHARS) for name in classes), *(f"fold {fold}" for fold in folds)]
    counts = [pair.counts(pair.label == label) for label in range(len(classes))]
    clips = np.array([*counts, *(pair.counts(pair.fold == fold) for fold in folds)]).T
    shares = 100 * clips / np.maximum(clips.sum(axis=0), 1)
    figure = new_figure(CLASS_INCHES * len(names) + MARGIN_INCHES)
    axes, rows = figure.subplots(), range(len(names))
    methods = legend(pair.first.label), legend(pair.second.label)
    outcomes = "both", *(f"only {method}" for method in methods), "neither"
    for at, (outcome, colour) in enumerate(zip(outcomes, WHO, strict=True)):
        before = shares[:at].sum(axis=0)
        bars = axes.barh(rows, shares[at], left=before, color=colour, label=outcome)
        numbers = [str(number or "") for number in clips[at]]
        axes.bar_label(bars, numbers, label_type="center", color="white", fontsize=7)
    axes.set(xlim=(0, 100), xlabel="clips (%)", ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(rows, names, fontsize=8)
    axes.set_title(f"Who is right where on {shown(pair.first.dataset)}", size=10)
    figure.legend(loc="outside lower center", ncols=len(WHO), frameon=False, fontsize=8)
    return rendered(figure)


DARK = 0.6
"""Fraction of the scale above which numbers are white."""
MOST_WITH_NUMBERS = 20
"""Maximum number of classes for which cells show numbers."""
LEAST_SHADE = 0.05
"""Minimum end of the scale of differences, so that one or two clips do not look like many."""
_MARGIN_INCHES, _CELL_INCHES = 2.6, {True: 0.46, False: 0.19}


@drawing()
def confusion_picture(
    confusion: Matrix,
    class_names: Sequence[str],
    title: Sequence[str],
    other: Matrix | None = None,
) -> Drawing:
    """Draw a confusion matrix: rows are true classes, columns predicted ones, shades fractions.

    With another one of the same clips, draw their difference: clips that the first puts into a cell
    more often than the other.

    Args:
        confusion: (classes, classes) int64, numbers of clips.
        class_names: Class names by class_id.
        title: Lines of the title.
        other: (classes, classes) int64, over the same clips.
    """
    shares, what = _shares(confusion), "share of the true class's clips"
    colours, low, high, sign = "Blues", 0.0, 1.0, ""
    if other is not None:
        confusion, shares = confusion - other, shares - _shares(other)
        high = max(LEAST_SHADE, float(np.abs(shares).max(initial=0)))
        colours, low, sign = "PuOr", -high, "+"
        what = "difference of the shares of the true class's clips"
    numbered = len(class_names) <= MOST_WITH_NUMBERS
    side = _MARGIN_INCHES + _CELL_INCHES[numbered] * len(class_names)
    figure = Figure(figsize=(side + 0.8, side), dpi=DPI, layout="compressed")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap=colours, vmin=low, vmax=high)
    size = 8 if numbered else 6
    ticks = np.arange(len(class_names))
    names = [shown(name, NAME_CHARS) for name in class_names]
    axes.set_xticks(ticks, names, rotation=90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title("\n".join(fitted(line, TITLE_CHARS) for line in title), fontsize=9, loc="left")
    if numbered:
        _write_numbers(axes, confusion, np.abs(shares) / high, sign)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label(what, size=8)
    bar.ax.tick_params(labelsize=8)
    return rendered(figure)


def _shares(confusion: Matrix) -> NDArray[np.float64]:
    """Return each row as fractions of its sum; zeros for a class without clips."""
    shares: NDArray[np.float64] = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return shares


def _write_numbers(axes: "Axes", counts: Matrix, darkness: NDArray[np.float64], sign: str) -> None:
    """Write the clips of each cell that has some; white on the dark ones."""
    for row, column in np.argwhere(counts):
        colour = "white" if darkness[row, column] > DARK else "black"
        number = f"{counts[row, column]:{sign}d}"
        axes.text(column, row, number, ha="center", va="center", fontsize=7, color=colour)


_COLUMNS = 3
_ROW_INCHES, _EDGES_INCHES = 2.2, 0.8
_TAKEN_CHARS, _ID_CHARS = 30, 34


@drawing()
def worst_picture(
    clips: Sequence[WrongClip],
    images: Sequence[NDArray[np.float32]],
    spec: FeatureSpec,
    run: str,
) -> Drawing:
    """Draw the input images of wrong clips, the most confident mistake first.

    Args:
        clips: Clips to draw; may be empty.
        images: Image or feature (bands, frames) of each clip, of its `array`.
        spec: Spec of the store.
        run: Name of the run, for the title.
    """
    rows = max(1, ceil(len(clips) / _COLUMNS))
    height = _EDGES_INCHES + _ROW_INCHES * rows
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")
    grid, drawn = figure.subplots(rows, _COLUMNS, squeeze=False), None
    # Of several networks each may take another array.
    arrays = list(dict.fromkeys(clip.array for clip in clips))
    for axes in grid.flat[len(clips) :]:
        axes.set_axis_off()
    for axes, clip, image in zip(grid.flat, clips, images, strict=False):
        drawn = draw_array(axes, image, clip.array, spec)
        taken = f"{100 * clip.predicted_probability:.0f} % {clip.predicted}"
        own = f"own: {clip.class_name} ({100 * clip.probability:.0f} %)"
        lines = fitted(taken, _TAKEN_CHARS, 1), fitted(own, _TAKEN_CHARS, 1)
        axes.set_title("\n".join(lines), size=8)
        which = f", {shown(clip.array)}" if len(arrays) > 1 else ""
        axes.set_xlabel(f"{shown(clip.clip_id, _ID_CHARS)}, fold {clip.fold}{which}", size=6)
        axes.tick_params(labelsize=6)
    if drawn:
        color_bar(figure, drawn)
        label_axes(grid[:, 0], ())
    title = f"Most confidently wrong of {shown(run)}, {shown(', '.join(arrays))}; across: seconds"
    figure.suptitle(title if clips else f"{shown(run)}: no clip was wrong", size=10)
    return rendered(figure)
