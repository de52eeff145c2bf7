"""The learning curves: validation accuracy and training loss by epoch, a row of axes per method."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MaxNLocator

from featurestore.pictures import drawing, fitted, shown
from schemas import EpochMetrics, Selection, Stage
from trainer.report.cells import images_of
from trainer.report.drawing import BLUE, ORANGE, new_figure, plain, to_png
from trainer.report.series import Series
from trainer.stats import mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = dict[int, float]
ROW_INCHES = 2.5
TITLE_CHARS = 44
NAME_CHARS = 24
# Room above the curves for the arrays' names, which hide the lines behind them.
HEADROOM = 0.14
HEADROOM_OF_TWO_LINES = 0.22
WATCHED: dict[Selection, str] = {
    "heldout": "held-out accuracy (%)",
    "validation": "validation accuracy (%)",
    "last": "held-out accuracy (%)",
}
NAME: dict[str, Any] = {"size": 8, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}


@drawing()
def learning_curves(series: Sequence[Series]) -> bytes:
    """Draw every fold thin and their mean thick, with the stages' boundaries; PNG."""
    figure = new_figure(0.4 + ROW_INCHES * len(series))
    grid = figure.subplots(len(series), 2, sharex=True, sharey="col", squeeze=False)
    for (left, right), one in zip(grid, series, strict=True):
        _draw(left, one, _accuracy, BLUE)
        left.set_ylabel(WATCHED[one.selection])
        _draw(right, one, _loss, ORANGE)
        right.set_ylabel("training loss (nats)")
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
        axes.set_ylim(bottom=0)
    return to_png(figure)


def _accuracy(row: EpochMetrics) -> float:
    return 100 * row.valid_accuracy


def _loss(row: EpochMetrics) -> float:
    return row.train_loss


def _draw(
    axes: "Axes", series: Series, value: Callable[[EpochMetrics], float], colour: str
) -> None:
    plain(axes)
    alternates = any(stage.alternate for stage in series.stages)
    axes.margins(y=HEADROOM_OF_TWO_LINES if alternates else HEADROOM)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(fitted(series.label, TITLE_CHARS), size=10)
    curves = list(_curves(series, value))
    for curve in curves:
        axes.plot(list(curve), list(curve.values()), color=colour, linewidth=0.6, alpha=0.45)
    average = _average(curves)
    axes.plot(list(average), list(average.values()), color=colour, linewidth=2)
    _mark_stages(axes, series.stages)


def _curves(series: Series, value: Callable[[EpochMetrics], float]) -> Iterator[Curve]:
    """Yield a curve for each fold of each run."""
    for run in series.runs:
        curves: dict[int, Curve] = defaultdict(dict)
        for row in run.epochs:
            curves[row.fold][row.epoch] = value(row)
        yield from curves.values()


def _average(curves: Sequence[Curve]) -> Curve:
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
            text = f" {shown(name, NAME_CHARS)}".replace("+", " +\n ")
            label = axes.text(at, 1, text, transform=axes.get_xaxis_transform(), va="top", **NAME)
            label.set_in_layout(False)  # it lies within the axes, however long it is
