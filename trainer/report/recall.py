"""The picture of every class's recall by method: which classes a method gains or loses."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from math import ceil
from typing import TYPE_CHECKING

from featurestore.pictures import drawing, legend, shown
from schemas import CheckpointName
from trainer.inference.confusion import by_class
from trainer.report.drawing import PALETTE, new_figure, plain, to_png
from trainer.report.scores import PICKED_BY
from trainer.report.series import Series
from trainer.stats import mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX*"
ROW_INCHES, MARGIN_INCHES, LEGEND_INCHES = 0.24, 1.3, 0.22
LEGEND_COLUMNS = 3


@drawing()
def recall_picture(series: Sequence[Series]) -> bytes:
    """Draw a row per class, the best recognised at the top, and a point per method; PNG."""
    score = series[0].scores[0]
    recalls = [_recalls(one, score.checkpoint) for one in series]
    names = dict.fromkeys(name for found in recalls for name in found)
    ranked = sorted(names, key=lambda name: mean([r[name] for r in recalls if name in r]))
    height = (
        ROW_INCHES * len(ranked)
        + MARGIN_INCHES
        + LEGEND_INCHES * ceil(len(series) / LEGEND_COLUMNS)
    )
    figure = new_figure(height)
    axes = figure.subplots()
    _draw(axes, series, recalls, ranked)
    plain(axes)
    axes.grid(visible=True, axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_yticks(range(len(ranked)), map(shown, ranked), fontsize=8)
    axes.set_ylim(-0.7, len(ranked) - 0.3)
    axes.set_xlabel("recall (% of the class's clips)")
    title = f"Recall of each class of {shown(series[0].dataset)}"
    axes.set_title(f"{title}\n{PICKED_BY[series[0].selection]}", size=10)
    figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=8)
    return to_png(figure)


def _draw(
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
