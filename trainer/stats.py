"""Statistics over folds: mean, sample standard deviation, paired t-test. Pure functions."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import ttest_rel

# Differences closer together than this are rounding errors of equal ones.
SAME = 1e-9


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value, in their unit."""
    return statistics.fmean(values)


def sample_std(values: Sequence[float]) -> float | None:
    """Standard deviation with n - 1 in the denominator; None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class PairedTest:
    """A paired comparison of two methods over the folds both have.

    Args:
        num_pairs: Folds compared, at least two.
        mean: Mean of the differences, in the unit of the values.
        std: Sample standard deviation of the differences.
        t: Student's t with `num_pairs - 1` degrees of freedom; None where all differences are
            equal, since t is then not defined.
        p: Two-sided p-value; None where t is.
    """

    num_pairs: int
    mean: float
    std: float
    t: float | None
    p: float | None


def paired_test(first: Mapping[int, float], second: Mapping[int, float]) -> PairedTest | None:
    """Paired t-test of first - second over the keys (folds) they share.

    Args:
        first: Value by fold.
        second: Value by fold, in the same unit.

    Returns:
        The comparison, or None where fewer than two folds are shared.
    """
    folds = sorted(first.keys() & second.keys())
    differences = [first[fold] - second[fold] for fold in folds]
    std = sample_std(differences)
    if std is None:
        return None
    if max(differences) - min(differences) < SAME:
        return PairedTest(len(folds), mean(differences), 0.0, None, None)
    test = ttest_rel([first[fold] for fold in folds], [second[fold] for fold in folds])
    return PairedTest(len(folds), mean(differences), std, float(test.statistic), float(test.pvalue))
