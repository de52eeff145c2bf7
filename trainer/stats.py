"""Statistics over folds: mean, sample standard deviation, paired comparisons. Pure functions."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student
from scipy.stats import ttest_1samp, wilcoxon

# Differences closer together than this are rounding errors of equal ones.
SAME_DECIMALS = 9
CONFIDENCE = 0.95


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean of at least one value, in their unit."""
    return statistics.fmean(values)


def sample_std(values: Sequence[float]) -> float | None:
    """Return the standard deviation with n - 1 in the denominator; None for under two values."""
    return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class PairedTest:
    """A paired comparison of two methods over the folds both have.

    Args:
        num_pairs: Folds compared, at least two.
        mean: Mean of the differences, in the unit of the values.
        std: Sample standard deviation of the differences.
        low: Lower end of the 95 % confidence interval of the mean, by Student's t.
        high: Upper end.
        d_z: Cohen's d_z, `mean` over `std`: the effect in units of its own spread over folds.
            None if all differences are equal.
        t: Student's t with `num_pairs - 1` degrees of freedom; None if all differences are
            equal, since t is then not defined.
        p: Its two-sided p-value; None if t is.
        rank_p: Two-sided p-value of Wilcoxon's signed-rank test, without the pairs that do not
            differ; None if none does. Exact for up to 13 pairs, and up to 50 without ties.
    """

    num_pairs: int
    mean: float
    std: float
    low: float
    high: float
    d_z: float | None
    t: float | None
    p: float | None
    rank_p: float | None


def paired_test(first: Mapping[int, float], second: Mapping[int, float]) -> PairedTest | None:
    """Compare first - second over the keys (folds) they share.

    Args:
        first: Value by fold.
        second: Value by fold, in the same unit.

    Returns:
        The comparison, or None if fewer than two folds are shared.
    """
    shared = sorted(first.keys() & second.keys())
    if len(shared) < 2:
        return None
    differences = np.round([first[key] - second[key] for key in shared], SAME_DECIMALS)
    centre, std = float(differences.mean()), float(differences.std(ddof=1))
    rank_p = _rank_p(differences[differences != 0])
    if np.ptp(differences) == 0:
        return PairedTest(len(shared), centre, 0.0, centre, centre, None, None, None, rank_p)
    test = ttest_1samp(differences, 0.0)
    half = half_width(std, len(shared))
    return PairedTest(
        num_pairs=len(shared),
        mean=centre,
        std=std,
        low=centre - half,
        high=centre + half,
        d_z=centre / std,
        t=float(test.statistic),
        p=float(test.pvalue),
        rank_p=rank_p,
    )


def half_width(std: float, number: int) -> float:
    """Return half of the 95 % confidence interval of a mean of two or more values (Student's t)."""
    return float(student.ppf((1 + CONFIDENCE) / 2, number - 1)) * std / math.sqrt(number)


def least_rank_p(num_pairs: int) -> float:
    """Return the smallest p that Wilcoxon's exact two-sided test can give for differing pairs.

    All of one sign is one of 2^n equally likely patterns, and so is its opposite.
    """
    return 2.0 ** (1 - num_pairs)


def _rank_p(differences: "np.typing.NDArray[np.float64]") -> float | None:
    return float(wilcoxon(differences).pvalue) if differences.size else None
