"""The box plot of accuracy over folds, as the paper has it, with all the scores there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.patches import Patch

from featurestore.pictures import drawing, fitted, shown
from schemas import CheckpointName
from trainer.paper import PaperTable
from trainer.report.drawing import BLUE, GREY, ORANGE, new_figure, pale, plain, to_png
from trainer.report.scores import PICKED_BY
from trainer.report.series import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BOX_WIDTH = 0.22
STEP = 0.27
# Characters across all labels under the axes, the fewest of one line, and the most lines.
LINE_CHARS, LABEL_CHARS, LABEL_LINES = 72, 8, 8
COLOURS: dict[CheckpointName, str] = {"best": BLUE, "last": ORANGE}
POINT: dict[str, Any] = {"ms": 4, "markeredgecolor": "black", "markeredgewidth": 0.6, "zorder": 3}
# The least height of the axes, so that a difference of a clip or two does not look large.
LEAST_POINTS = 10


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
        Boxes(score.name, COLOURS[score.checkpoint], tuple(one.by_fold(score) for one in series))
        for score in series[0].scores
    ]
    if paper and any(one.method in paper.splits for one in series):
        theirs = tuple(paper.by_split(one.method) for one in series)
        kinds.append(Boxes("paper (best epoch)", GREY, theirs))
    figure = new_figure(4.5)
    axes = figure.subplots()
    for at, kind in enumerate(kinds):
        _draw(axes, kind, STEP * (at - (len(kinds) - 1) / 2))
    _dress(axes, series)
    handles = [Patch(facecolor=pale(kind.colour), label=kind.name) for kind in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds), frameon=False)
    return to_png(figure)


def _draw(axes: "Axes", boxes: Boxes, shift: float) -> None:
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


def _dress(axes: "Axes", series: Sequence[Series]) -> None:
    plain(axes)
    title = f"Accuracy over the held-out folds of {shown(series[0].dataset)}"
    axes.set_title(f"{title}\n{PICKED_BY[series[0].selection]}", size=10)
    axes.set_ylabel("accuracy (%)")
    axes.set_xlabel("method; box: quartiles and median, points: folds")
    chars = max(LABEL_CHARS, LINE_CHARS // len(series))
    axes.set_xticks(range(len(series)), [fitted(one.label, chars, LABEL_LINES) for one in series])
    axes.set_xlim(-0.6, len(series) - 0.4)
    low, high = axes.get_ylim()
    missing = max(0.0, LEAST_POINTS - (high - low))
    axes.set_ylim(low - missing / 2, high + missing / 2)
