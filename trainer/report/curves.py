"""Learning curves of a report, and the curve of an LR range test."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from featurestore.pictures import drawing, fitted, shown
from schemas import EpochMetrics
from trainer.report.drawing import (
    BLUE,
    DIM,
    GREY,
    ORANGE,
    Drawing,
    annotate,
    new_figure,
    plain,
    rendered,
)
from trainer.report.series import Series
from trainer.report.tables import images_of
from trainer.selection import reported_epoch
from trainer.stats import mean
from trainer.training.schedule import OneCycle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ByEpoch = dict[int, float]
CURVES_INCHES, RATES_INCHES = 2.2, 0.7
CURVE_TITLE_CHARS = 44
ARRAY_CHARS = 24
POINTS_PER_EPOCH = 20
"""Number of points per epoch of the drawn learning rate, whatever the number of batches."""
LOWEST_DECADES = 4
"""Number of decades of the learning rate that are shown; each cycle ends far below."""
PICKED: dict[str, Any] = {"ms": 4.5, "color": "black", "zorder": 5, "linestyle": "none"}


@drawing()
def learning_curves(series: Sequence[Series]) -> Drawing:
    """Draw every fold as a thin line and their mean as a thick one, above the learning rate.

    Stages are separated by lines; the array of each stage is named above the axes.
    """
    figure = new_figure(0.6 + (CURVES_INCHES + RATES_INCHES + 0.5) * len(series))
    heights = [CURVES_INCHES, RATES_INCHES] * len(series)
    grid = figure.subplots(
        *(2 * len(series), 2), sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for (left, right), rates, one in zip(grid[::2], grid[1::2], series, strict=True):
        _draw_curves(left, one, lambda row: 100 * row.score, BLUE)
        watched = one.rule.watched.replace("accuracy", "mAP" if one.multilabel else "accuracy")
        left.set_ylabel(f"{watched} (%)", size=9)
        _draw_curves(right, one, lambda row: row.train_loss, ORANGE)
        right.set_ylabel("training loss (nats)", size=9)
        _mark_picked(left, one)
        for axes in rates:
            _draw_rates(axes, one)
        rates[0].set_ylabel("λ", size=9)
    for column, top in ((0, 100.0), (1, math.inf)):
        panels = [row[column] for row in grid[::2]]
        highest = max(axes.get_ylim()[1] for axes in panels)
        for axes in panels:
            axes.set_ylim(0, min(highest, top))
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    line = "thin: a fold; thick: their mean; dotted: next stage; dashed: next stage, other images"
    picked = "; dots: the epoch picked in each fold" if series[0].config.selection != "last" else ""
    figure.supxlabel(line + picked, size=9)
    return rendered(figure)


def _draw_curves(
    axes: "Axes", series: Series, value: Callable[[EpochMetrics], float], colour: str
) -> None:
    plain(axes)
    axes.margins(x=0.01)
    curves = [{row.epoch: value(row) for row in rows} for rows in series.epochs()]
    for curve in curves:
        axes.plot(list(curve), list(curve.values()), color=colour, linewidth=0.6, alpha=0.45)
    average = _average(curves)
    axes.plot(list(average), list(average.values()), color=colour, linewidth=2)
    _part_stages(axes, series)
    _name_images(axes, series)
    lines = 2 if any(stage.alternate for stage in series.stages) else 1
    axes.set_title(fitted(series.label, CURVE_TITLE_CHARS), size=10, pad=4 + 11 * lines)


def _average(curves: Sequence[ByEpoch]) -> ByEpoch:
    """Return the mean over the curves that have the epoch."""
    epochs = sorted({epoch for curve in curves for epoch in curve})
    return {epoch: mean([c[epoch] for c in curves if epoch in c]) for epoch in epochs}


def _mark_picked(axes: "Axes", series: Series) -> None:
    """Draw a dot on each fold's curve at the epoch whose network counts, where one is picked."""
    for rows in series.epochs():
        if row := reported_epoch(rows, series.config):
            axes.plot(row.epoch, 100 * row.score, "o", **PICKED)


def _stage_ends(series: Series) -> list[float]:
    """Return where each stage begins, and where the last one ends, between two epochs."""
    return [0.5 + end for end in accumulate((s.epochs for s in series.stages), initial=0)]


def _part_stages(axes: "Axes", series: Series) -> None:
    """Draw dotted lines between stages, dashed if the images change too."""
    names = [images_of(stage) for stage in series.stages]
    for (before, after), at in zip(pairwise(names), _stage_ends(series)[1:], strict=False):
        style = ":" if before == after else "--"
        axes.axvline(at, color=DIM, linewidth=0.8, linestyle=style)


def _name_images(axes: "Axes", series: Series) -> None:
    """Write each stage's images above the axes, once for neighbours that have the same."""
    names = [images_of(stage) for stage in series.stages]
    for name, last, at in zip(names, ["", *names], _stage_ends(series), strict=False):
        if name != last:
            text = shown(name, ARRAY_CHARS).replace("+", " +\n")
            label = annotate(axes, text, (at, 1), ("data", "axes fraction"))
            label.set_in_layout(False)  # the title keeps the room free


def _draw_rates(axes: "Axes", series: Series) -> None:
    """Draw the head's learning rate over the epochs."""
    plain(axes)
    axes.set_yscale("log")
    for stage, start in zip(series.stages, _stage_ends(series), strict=False):
        cycle = OneCycle(stage.epochs * POINTS_PER_EPOCH, stage.max_lr)
        x = [start + step / POINTS_PER_EPOCH for step in range(cycle.num_steps)]
        rates = [cycle.lr(step) for step in range(cycle.num_steps)]
        axes.plot(x, rates, color=GREY, linewidth=1.2)
    _part_stages(axes, series)
    highest = [stage.max_lr for stage in series.stages]
    axes.set_ylim(min(highest) / 10**0.7, max(highest) * 10**0.3)
    axes.yaxis.set_major_locator(LogLocator(numticks=LOWEST_DECADES))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


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
) -> Drawing:
    """Draw losses and smoothed losses over learning rates on a logarithmic axis.

    The loss axis starts at or above 0, and covers the smoothed curve from its start to its minimum:
    where the loss rises beyond, or single batches jump, the curve leaves the figure.

    Args:
        lrs: Learning rate of each step.
        losses: Loss of each step; non-finite ones are not drawn.
        smoothed: Smoothed loss of each step.
        marks: Names and values of learning rates to mark, at most two.
        title: Title of the figure.
    """
    figure = new_figure(_HEIGHT_INCHES)
    axes = figure.subplots()
    plain(axes)
    axes.set_xscale("log")
    axes.plot(lrs, losses, color=GREY, linewidth=1, marker=".", label="of each step's batch")
    axes.plot(lrs, smoothed, color=BLUE, linewidth=2, label="smoothed")
    for (name, lr), colour, style in zip(marks, (ORANGE, "black"), ("-", "--"), strict=False):
        axes.axvline(lr, color=colour, linestyle=style, label=f"{name}: {lr:.2g}")
    axes.set_ylim(*useful_range(losses, smoothed))
    axes.set_xlabel("learning rate λ")
    axes.set_ylabel("training loss (nats)")
    axes.set_title(fitted(title, _LR_TITLE_CHARS), size=10, loc="left")
    axes.legend(loc="best", fontsize=9)
    return rendered(figure)


_QUANTILES = (2, 98)


def useful_range(losses: Sequence[float], smoothed: Sequence[float]) -> tuple[float, float]:
    """Return the range of losses, in nats, that shows their decrease; it starts at 0 or above.

    Up to the minimum of the smoothed loss, it covers the smoothed curve and all but the most
    extreme batches; after that, it shows the start of the rise.
    """
    finite = [value if math.isfinite(value) else math.inf for value in smoothed]
    fallen = finite.index(min(finite)) + 1
    curve = [value for value in finite[:fallen] if math.isfinite(value)] or [0.0]
    batches = [value for value in losses[:fallen] if math.isfinite(value)] or curve
    least, most = (float(value) for value in np.percentile(batches, _QUANTILES))
    low, high = min(least, *curve), max(most, *curve)
    margin = _HEADROOM * (high - low) or 0.1 * high or 1.0
    return max(0.0, low - margin), high + margin
