"""Statistics over folds and of confusion matrices. Pure functions of numbers and arrays."""

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_1samp, wilcoxon
from scipy.stats import t as student

from schemas import ClassEvaluation, PairedDifference

Matrix = NDArray[np.int64]
"""Number of clips by true class (row) and predicted class (column)."""

# Differences closer together than this are rounding errors of equal ones.
SAME_DECIMALS = 9
CONFIDENCE = 0.95


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean of at least one value."""
    return statistics.fmean(values)


def sample_std(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (n - 1); None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def paired_test(first: Mapping[int, float], second: Mapping[int, float]) -> PairedDifference | None:
    """Test the paired differences first - second over common keys (folds).

    Args:
        first: Value by fold.
        second: Value by fold, in the same unit.

    Returns:
        The comparison; None if there are fewer than two common folds.
    """
    shared = sorted(first.keys() & second.keys())
    if len(shared) < 2:
        return None
    differences = np.round([first[key] - second[key] for key in shared], SAME_DECIMALS)
    centre, std = float(differences.mean()), float(differences.std(ddof=1))
    rank_p = _rank_p(differences[differences != 0])
    if np.ptp(differences) == 0:
        std, half, d_z, t, p = 0.0, 0.0, None, None, None
    else:
        # Half of the 95 % confidence interval of the mean, by Student's t.
        quantile = float(student.ppf((1 + CONFIDENCE) / 2, len(shared) - 1))
        half, d_z = quantile * std / math.sqrt(len(shared)), centre / std
        t, p = map(float, ttest_1samp(differences, 0.0))
    return PairedDifference(
        num_folds=len(shared),
        mean=centre,
        std=std,
        low=centre - half,
        high=centre + half,
        d_z=d_z,
        t=t,
        p=p,
        rank_p=rank_p,
    )


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion, within [0, 1].

    Unlike the normal approximation, it holds for few trials and for proportions of 0 and 1.

    Args:
        successes: Number of successes, from 0 to `trials`.
        trials: Number of trials, at least 1.
    """
    interval = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Args:
        only_first: Number of clips on which only the first method is correct.
        only_second: Number of clips on which only the second method is correct.
    """
    number = only_first + only_second
    return float(binomtest(only_first, number).pvalue) if number else 1.0


def least_rank_p(num_pairs: int) -> float:
    """Return the smallest p-value of Wilcoxon's exact two-sided signed-rank test.

    If all differences have one sign, that is one of 2^n equally likely patterns, as is its
    opposite.
    """
    return 2.0 ** (1 - num_pairs)


def _rank_p(differences: NDArray[np.float64]) -> float | None:
    return float(wilcoxon(differences).pvalue) if differences.size else None


def confusion_matrix(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int
) -> Matrix:
    """Return the number of clips by true class (row) and predicted class (column).

    Args:
        labels: (n,) true class_id.
        predicted: (n,) predicted class_id.
        num_classes: Number of classes.
    """
    pairs = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes).astype(np.int64)


def by_class(confusion: Matrix, class_names: Sequence[str]) -> tuple[ClassEvaluation, ...]:
    """Return number of clips and recall of every class."""
    return tuple(
        ClassEvaluation(
            class_name=name,
            num_clips=int(row.sum()),
            num_predicted=int(column.sum()),
            recall=float(row[i] / row.sum()) if row.any() else None,
        )
        for i, (name, row, column) in enumerate(
            zip(class_names, confusion, confusion.T, strict=True)
        )
    )


def most_frequent(confusion: Matrix, number: int) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions: (number of clips, true class, predicted class)."""
    errors = confusion - np.diag(np.diag(confusion))
    pairs = [(int(errors[i, j]), int(i), int(j)) for i, j in np.argwhere(errors)]
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:number]
