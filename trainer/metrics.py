"""Scores for clips of several labels, or none. Pure functions of NumPy arrays.

Equal to scikit-learn's `average_precision_score`, `roc_auc_score` and
`label_ranking_average_precision_score` of each class, but for what these make of a class that does
not occur: here it has no value, and is in no mean.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from schemas import MultilabelScores

Labels = NDArray[np.uint8]
"""(n, classes) multi-hot."""
Values = NDArray[np.float64]
LIKELY = 0.5
"""Probability from which a clip counts as taken for a class, where it may have several labels."""


def average_precisions(labels: Labels, scores: NDArray[Any]) -> Values:
    """Return the step-wise average precision of each class, (classes,); NaN where it has no clip.

    Σ (Rᵢ - Rᵢ₋₁) · Pᵢ over the distinct scores from the highest down, without interpolation.

    Args:
        labels: (n, classes) multi-hot.
        scores: (n, classes), any order-preserving form of probabilities; not NaN.
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
    """Return the area under the ROC curve of each class, (classes,); NaN if all or no clip has it.

    The share of pairs of a clip with the label and one without in which the former has the higher
    score; equal ones count half.

    Args:
        labels: (n, classes) multi-hot.
        scores: (n, classes).
    """
    positive = labels.sum(axis=0, dtype=np.int64)
    negative = len(labels) - positive
    sums = np.where(labels > 0, rankdata(scores, axis=0), 0).sum(axis=0)
    pairs = np.where(positive * negative > 0, positive * negative, np.nan)
    areas: Values = (sums - positive * (positive + 1) / 2) / pairs
    return areas


def d_prime(auc: float) -> float | None:
    """Return √2 · Φ⁻¹(AUC), the distance of two normal distributions with that area, in their σ.

    Source: S. Hershey et al., "CNN Architectures for Large-Scale Audio Classification", ICASSP
    2017, from the mean of the classes' areas. None at 0 and 1, where it is infinite.
    """
    return float(np.sqrt(2) * norm.ppf(auc)) if 0 < auc < 1 else None


def lwlrap(labels: Labels, scores: NDArray[Any]) -> float:
    """Return the label-weighted label-ranking average precision, in (0, 1]; NaN without any label.

    For each label of each clip: the share of right ones among the labels ranked as high or higher;
    the mean over all labels of all clips.

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
    """Return all scores of some predictions; means are over the classes that occur.

    Args:
        labels: (n, classes) multi-hot, of which at least one clip has a label.
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
    """Return the mean of `average_precisions` over the classes that occur, at least one."""
    return float(np.nanmean(average_precisions(labels, scores)))
