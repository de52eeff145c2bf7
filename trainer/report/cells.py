"""Numbers as the text of table cells. Ours are rounded."""

from collections.abc import Iterable, Sequence

from schemas import Stage
from trainer.stats import mean, sample_std

NOTHING = "-"
TINY_P = 0.001


def percent(value: float | None) -> str:
    """Format an accuracy or a difference of accuracies: two decimals, without a unit."""
    return NOTHING if value is None else f"{value:.2f}"


def signed(value: float) -> str:
    """Format a difference in points, or t, with its sign."""
    return f"{value:+.2f}"


def mean_std(values: Sequence[float]) -> str:
    """Format mean ± sample standard deviation; the mean alone of a single value."""
    if not values:
        return NOTHING
    std = sample_std(values)
    return percent(mean(values)) if std is None else f"{mean(values):.2f} ± {std:.2f}"


def interval(low: float, high: float) -> str:
    """Format the ends of a confidence interval of a difference, in points."""
    return f"{signed(low)} to {signed(high)}"


def p_value(p: float | None) -> str:
    """Format a p-value to three decimals."""
    if p is None:
        return NOTHING
    return f"< {TINY_P}" if p < TINY_P else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Format a time in the unit that suits it."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def numbers(values: Iterable[int]) -> str:
    """Format whole numbers with runs of neighbours drawn together: 1-3, 5."""
    spans: list[tuple[int, int]] = []
    for value in sorted(set(values)):
        if spans and spans[-1][1] == value - 1:
            spans[-1] = (spans[-1][0], value)
        else:
            spans.append((value, value))
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def schedule(epochs_scale: float) -> str:
    """Describe what fraction of the paper's schedule was trained."""
    return "full" if epochs_scale == 1 else f"{100 * epochs_scale:g} % of the paper's"


def images_of(stage: Stage) -> str:
    """Return the array that a stage sees, or the two it sees in turn: R1/mel, R1/mel+resize."""
    if stage.alternate is None:
        return stage.array
    (place, _, _), (other, _, variant) = (
        stage.array.rpartition("/"),
        stage.alternate.rpartition("/"),
    )
    return f"{stage.array}+{variant if other == place else stage.alternate}"
