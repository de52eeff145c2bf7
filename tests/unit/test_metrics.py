"""Scores of several labels: equal to scikit-learn's, class by class, and of absent classes none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    roc_auc_score,
)

from trainer.metrics import (
    average_precisions,
    d_prime,
    lwlrap,
    mean_average_precision,
    multilabel_scores,
    roc_aucs,
)

Case = tuple[NDArray[np.uint8], NDArray[np.float32]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Labels and probabilities of a few clips, with many equal probabilities."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 30)), draw(st.integers(1, 6))
    labels = (rng.random(shape) < draw(st.sampled_from([0.1, 0.5, 0.9]))).astype(np.uint8)
    steps = draw(st.sampled_from([2, 5, 1000]))
    return labels, (rng.integers(0, steps + 1, shape) / steps).astype(np.float32)


@given(cases())
def test_scores_of_each_class_are_those_of_scikit_learn(case: Case) -> None:
    labels, scores = case
    precisions, areas = average_precisions(labels, scores), roc_aucs(labels, scores)
    for i, (truth, of_class) in enumerate(zip(labels.T, scores.T, strict=True)):
        if truth.any():
            expected = average_precision_score(truth, of_class)
            assert precisions[i] == pytest.approx(expected, abs=1e-12)
        else:
            assert math.isnan(precisions[i])
        if 0 < truth.sum() < len(truth):
            assert areas[i] == pytest.approx(roc_auc_score(truth, of_class), abs=1e-12)
        else:
            assert math.isnan(areas[i])


@given(cases())
def test_lwlrap_is_scikit_learns_ranking_precision_weighted_by_labels(case: Case) -> None:
    labels, scores = case
    if not labels.any():
        assert math.isnan(lwlrap(labels, scores))
        return
    kept = labels.any(axis=1)
    if labels.shape[1] > 1:
        weights = labels.sum(axis=1)[kept]
        expected = label_ranking_average_precision_score(
            labels[kept], scores[kept], sample_weight=weights
        )
        assert lwlrap(labels, scores) == pytest.approx(expected, abs=1e-12)


@given(cases())
def test_means_are_over_the_classes_that_occur(case: Case) -> None:
    labels, scores = case
    if not labels.any():
        return
    found, present = multilabel_scores(labels, scores), labels.any(axis=0)
    macro = average_precision_score(labels[:, present], scores[:, present], average="macro")
    assert found.map == pytest.approx(macro, abs=1e-12)
    assert found.map == mean_average_precision(labels, scores)
    assert found.num_classes == present.sum()
    absent = np.zeros((len(labels), 3), np.uint8)
    more = np.column_stack([scores, np.ones((len(labels), 3), np.float32)])
    again = multilabel_scores(np.column_stack([labels, absent]), more)
    assert (again.map, again.num_classes, again.auc) == (found.map, found.num_classes, found.auc)


def test_d_prime_is_the_distance_of_normal_distributions_with_that_area() -> None:
    rng = np.random.default_rng(0)
    without, with_it = rng.normal(0, 1, 100_000), rng.normal(1.5, 1, 100_000)
    labels = np.repeat([[0], [1]], 100_000, axis=0).astype(np.uint8)
    area = roc_aucs(labels, np.concatenate([without, with_it])[:, None])[0]
    assert d_prime(area) == pytest.approx(1.5, abs=0.02)
    assert d_prime(0.5) == 0
    assert norm.cdf((d_prime(0.9) or 0) / math.sqrt(2)) == pytest.approx(0.9)
    assert d_prime(1.0) is None
