"""The tables of paired differences between methods, ours and the paper's."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from schemas import PairedDifference
from trainer.paper import PaperTable
from trainer.report.cells import NOTHING, TINY_P, interval, p_value, percent, signed
from trainer.report.content import Column, Table
from trainer.report.scores import Score
from trainer.report.series import Series
from trainer.stats import PairedTest, least_rank_p, paired_test, sample_std

# Of two methods, the one further on in this list is expected to be better: it comes first in the
# difference, as in the paper.
STRENGTH = ("baseline", "control", "resize", "mel")
COLUMNS = (
    *(Column("difference", numeric=False), Column("folds"), Column("mean"), Column("95 % CI")),
    *(Column("p of t"), Column("p of ranks"), Column("d_z"), Column("t"), Column("std")),
)
OVER_SEEDS = Column("std over seeds")
NOTES = (
    "Differences are paired over folds, seeds averaged first. 95 % CI: of the mean difference, by "
    "Student's t. p of t: of the paired t-test; p of ranks: of Wilcoxon's signed-rank test; both "
    "two-sided, without correction for several tests. d_z: mean over std, the gain in units of its "
    "own spread over folds; Cohen calls 0.2 small, 0.5 medium and 0.8 large.",
    "Folds share most of their training clips, so the intervals are somewhat too narrow and p is "
    "somewhat too small.",
)
SEEDS_NOTE = (
    "std over seeds: of the mean difference, over the seeds that both have with every fold."
)
TOO_FEW = "Fewer than two common folds allow no test."
UNDEFINED = "t and d_z are not defined where every fold differs by the same amount."


def pairs(series: Sequence[Series]) -> Iterator[tuple[Series, Series]]:
    """Yield pairs (better, worse expected) that differ in the method or in settings, not both."""
    for a, b in combinations(series, 2):
        if a.method == b.method or a.settings == b.settings:
            yield (b, a) if _strength(a.method) <= _strength(b.method) else (a, b)


def _strength(method: str) -> int:
    return STRENGTH.index(method) if method in STRENGTH else len(STRENGTH)


def difference_tables(series: Sequence[Series], paper: PaperTable | None) -> Iterator[Table]:
    """Yield a table per score, with a row per pair, and the paper's own; none without pairs."""
    compared = list(pairs(series))
    if not compared:
        return
    for score in series[0].scores:
        yield _our_table(score, compared)
    if paper and (methods := _methods_of(compared, paper)):
        yield _paper_table(methods, paper)


def _our_table(score: Score, compared: Sequence[tuple[Series, Series]]) -> Table:
    """Return differences of one score; with the spread over seeds if there are several."""
    by_fold = [(a.by_fold(score), b.by_fold(score)) for a, b in compared]
    spreads = [_std_over_seeds(score, a, b) for a, b in compared]
    with_seeds = any(spread is not None for spread in spreads)
    columns = (*COLUMNS, OVER_SEEDS) if with_seeds else COLUMNS
    rows = tuple(
        (f"{a.label} - {b.label}", *_cells(*values), percent(spread))[: len(columns)]
        for (a, b), values, spread in zip(compared, by_fold, spreads, strict=True)
    )
    title = f"Paired differences, points: {score.name}"
    return Table(title, columns, rows, _note(by_fold, SEEDS_NOTE if with_seeds else ""))


def _paper_table(methods: Sequence[tuple[str, str]], paper: PaperTable) -> Table:
    splits = [(paper.by_split(a), paper.by_split(b)) for a, b in methods]
    rows = tuple(
        (f"{a} - {b}", *_cells(*values)) for (a, b), values in zip(methods, splits, strict=True)
    )
    return Table("Paired differences in the paper, points: best epoch", COLUMNS, rows)


def _methods_of(
    compared: Sequence[tuple[Series, Series]], paper: PaperTable
) -> list[tuple[str, str]]:
    """Return the pairs of different methods that the paper has, each once."""
    pairs_of = {(a.method, b.method): None for a, b in compared if a.method != b.method}
    return [pair for pair in pairs_of if set(pair) <= set(paper.splits)]


def _std_over_seeds(score: Score, a: Series, b: Series) -> float | None:
    """Return the std of the difference of means over seeds that both have with the same folds."""
    if a.folds != b.folds:
        return None
    ours, theirs = a.over_folds(score), b.over_folds(score)
    return sample_std([ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()])


def _cells(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[str, ...]:
    """Return everything of a row except its name."""
    return (str(len(first.keys() & second.keys())), *comparison_cells(paired_test(first, second)))


def comparison_cells(
    test: PairedTest | PairedDifference | None, scale: float = 1.0
) -> tuple[str, ...]:
    """Return a comparison as mean, interval, p of t, p of ranks, d_z, t and std.

    Args:
        test: None if there were too few folds.
        scale: What makes points of its differences.
    """
    if test is None:
        return (NOTHING,) * (len(COLUMNS) - 2)
    return (
        signed(scale * test.mean),
        interval(scale * test.low, scale * test.high),
        p_value(test.p),
        p_value(test.rank_p),
        *(NOTHING if value is None else signed(value) for value in (test.d_z, test.t)),
        percent(scale * test.std),
    )


def _note(by_fold: Sequence[tuple[Mapping[int, float], Mapping[int, float]]], seeds: str) -> str:
    counts = [len(first.keys() & second.keys()) for first, second in by_fold]
    tests = [paired_test(first, second) for first, second in by_fold]
    parts = [
        least_note(max(counts)),
        seeds,
        TOO_FEW if min(counts) < 2 else "",
        UNDEFINED if any(_same_everywhere(test) for test in tests) else "",
    ]
    return " ".join(part for part in parts if part)


def least_note(num_folds: int) -> str:
    """Return the smallest p that Wilcoxon's test can give, in words; empty if it says nothing."""
    least = least_rank_p(num_folds) if num_folds > 1 else 0.0
    if least < TINY_P:
        return ""
    return f"With {num_folds} folds the rank test cannot give a p below {p_value(least)}."


def _same_everywhere(test: PairedTest | None) -> bool:
    return test is not None and test.t is None
