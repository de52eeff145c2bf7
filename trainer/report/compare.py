"""The table of paired differences between methods, ours and the paper's."""

from collections.abc import Iterator, Sequence
from itertools import chain, combinations

from trainer.paper import PaperTable
from trainer.report.cells import NOTHING, p_value, percent, signed
from trainer.report.content import Column, Table
from trainer.report.series import Series
from trainer.stats import PairedTest, paired_test

# Of two methods, the one further on in this list is expected to be better: it comes first in the
# difference, as in the paper.
STRENGTH = ("baseline", "control", "resize", "mel")
GROUPS = ("best epoch", "last epoch", "paper")
CELLS = ("mean", "std", "t", "p")
NOTE = (
    "Paired over the folds both methods have (the paper's over its splits, best epoch): sample "
    "standard deviation of the differences, two-sided t-test, no correction for several tests."
)
TOO_FEW = " Fewer than two common folds allow no test."
UNDEFINED = " t is not defined where every fold differs by the same amount."


def pairs(series: Sequence[Series]) -> Iterator[tuple[Series, Series]]:
    """Pairs (better, worse expected) that differ in the method or in settings, not in both."""
    for a, b in combinations(series, 2):
        if a.method == b.method or a.settings == b.settings:
            yield (b, a) if _strength(a) <= _strength(b) else (a, b)


def _strength(series: Series) -> int:
    return STRENGTH.index(series.method) if series.method in STRENGTH else len(STRENGTH)


def difference_table(series: Sequence[Series], paper: PaperTable | None) -> Table | None:
    """One row a pair: its differences for best and last epoch and in the paper; None without."""
    compared = list(pairs(series))
    if not compared:
        return None
    tests = [_tests(a, b, paper) for a, b in compared]
    if not any(theirs for _, _, theirs in tests):
        tests = [ours[:2] for ours in tests]
    rows = tuple(
        (
            f"{a.label} - {b.label}",
            str(len(_common(a, b))),
            *chain(*map(_cells, found)),
        )
        for (a, b), found in zip(compared, tests, strict=True)
    )
    return Table(
        "Paired differences, points", _columns(len(tests[0])), rows, _note(compared, tests)
    )


def _common(a: Series, b: Series) -> set[int]:
    return set(a.folds) & set(b.folds)


def _tests(a: Series, b: Series, paper: PaperTable | None) -> tuple[PairedTest | None, ...]:
    """Tests of best epoch, last epoch, and the paper's splits."""
    theirs = None
    if paper and a.method != b.method:
        theirs = paired_test(paper.by_split(a.method), paper.by_split(b.method))
    return paired_test(a.best(), b.best()), paired_test(a.last(), b.last()), theirs


def _cells(test: PairedTest | None) -> tuple[str, ...]:
    if test is None:
        return (NOTHING,) * len(CELLS)
    t = NOTHING if test.t is None else signed(test.t)
    return (signed(test.mean), percent(test.std), t, p_value(test.p))


def _columns(num_groups: int) -> tuple[Column, ...]:
    groups = GROUPS[:num_groups]
    cells = (Column(name, group) for group in groups for name in CELLS)
    return (Column("difference", numeric=False), Column("folds"), *cells)


def _note(
    compared: Sequence[tuple[Series, Series]], tests: Sequence[Sequence[PairedTest | None]]
) -> str:
    few = any(len(_common(a, b)) < 2 for a, b in compared)
    undefined = any(test and test.t is None for found in tests for test in found)
    return NOTE + TOO_FEW * few + UNDEFINED * undefined
