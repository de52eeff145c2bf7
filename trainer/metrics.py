"""Scores for clips with several labels or none. Pure functions of NumPy arrays.

Equal to scikit-learn's `average_precision_score`, `roc_auc_score` and
`label_ranking_average_precision_score`, except for classes that do not occur: here these have no
value and are left out of means.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from schemas import MultilabelScores

Labels = NDArray[np.uint8]
"""Multi-hot labels (n, classes)."""
Values = NDArray[np.float64]
LIKELY = 0.5
"""Minimum probability of a predicted label."""


def average_precisions(labels: Labels, scores: NDArray[Any]) -> Values:
    """Return the step-wise average precision of each class, (classes,); NaN without clips.

    Σ (Rᵢ - Rᵢ₋₁) · Pᵢ over the distinct scores from the highest down, without interpolation.

    Args:
        labels: (n, classes) multi-hot.
        scores: (n, classes), any monotonic function of probabilities; not NaN.
    """
    return np.array([_average_precision(*pair) for pair in zip(labels.T, scores.T, strict=True)])


def _average_precision(labels: Labels, scores: NDArray[Any]) -> float:
    if not labels.any():
        return np.nan
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(labels[order], dtype=np.int64)
    # Clips of one score are told apart by no threshold: only where a score ends, it counts.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    retrieved = hits[ends]
    return float(np.sum(np.diff(retrieved, prepend=0) * retrieved / (ends + 1)) / retrieved[-1])


def roc_aucs(labels: Labels, scores: NDArray[Any]) -> Values:
    """Return the ROC-AUC of each class, (classes,); NaN if all clips or none have the label.

    This is the fraction of pairs of a clip with the label and one without in which the former has
    the higher score; ties count half.

    Args:
        labels: (n, classes) multi-hot.
        scores: (n, classes), not NaN.
    """
    positive = labels.sum(axis=0, dtype=np.int64)
    negative = len(labels) - positive
    sums = np.where(labels > 0, rankdata(scores, axis=0), 0).sum(axis=0)
    pairs = np.where(positive * negative > 0, positive * negative, np.nan)
    areas: Values = (sums - positive * (positive + 1) / 2) / pairs
    return areas


def d_prime(auc: float) -> float | None:
    """Return d′ = √2 · Φ⁻¹(AUC), the distance of two normal distributions in units of σ.

    Source: S. Hershey et al., "CNN Architectures for Large-Scale Audio Classification", ICASSP
    2017, from the mean of the classes' areas. None at 0 and 1, where it is infinite.
    """
    return float(np.sqrt(2) * norm.ppf(auc)) if 0 < auc < 1 else None


def lwlrap(labels: Labels, scores: NDArray[Any]) -> float:
    """Return the label-weighted label-ranking average precision, in (0, 1]; NaN without labels.

    This is the fraction of correct labels among those ranked as high or higher, averaged over all
    labels of all clips.

    Source: E. Fonseca et al., "Audio tagging with noisy labels and minimal supervision", DCASE
    2019.

    Args:
        labels: (n, classes) multi-hot.
        scores: (n, classes), finite.
    """
    right = labels > 0
    if not right.any():
        return np.nan
    higher = rankdata(-scores, "max", axis=1)
    higher_right = rankdata(np.where(right, -scores, np.inf), "max", axis=1)
    return float(np.mean(higher_right[right] / higher[right]))


def multilabel_scores(labels: Labels, scores: NDArray[Any]) -> MultilabelScores:
    """Return all multi-label scores; means are over the classes that occur.

    Args:
        labels: (n, classes) multi-hot, with at least one label.
        scores: (n, classes) probabilities.
    """
    precisions, areas = average_precisions(labels, scores), roc_aucs(labels, scores)
    occurs, ranked = ~np.isnan(precisions), ~np.isnan(areas)
    auc = float(areas[ranked].mean()) if ranked.any() else None
    return MultilabelScores(
        map=float(precisions[occurs].mean()),
        num_classes=int(occurs.sum()),
        auc=auc,
        d_prime=None if auc is None else d_prime(auc),
        lwlrap=lwlrap(labels, scores),
    )


def mean_average_precision(labels: Labels, scores: NDArray[Any]) -> float:
    """Return the mean of `average_precisions` over the classes that occur."""
    return float(np.nanmean(average_precisions(labels, scores)))
