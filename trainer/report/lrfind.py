"""The picture of an LR range test."""

import math
from collections.abc import Sequence

from featurestore.pictures import drawing, fitted
from trainer.report.drawing import BLUE, GREY, ORANGE, new_figure, plain, to_png

_HEIGHT_INCHES = 4.5
_HEADROOM = 0.15
_TITLE_CHARS = 90


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
    axes.set_title(fitted(title, _TITLE_CHARS), size=10, loc="left")
    axes.legend(loc="best", fontsize=9)
    return to_png(figure)
