"""A confusion matrix and what is read off it. Pure functions of arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas import ClassEvaluation

Matrix = NDArray[np.int64]


def confusion_matrix(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int
) -> Matrix:
    """Count clips by true class (row) and predicted class (column): (classes, classes).

    Args:
        labels: (n,) class_id.
        predicted: (n,) class_id.
        num_classes: More than any of them.
    """
    pairs = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes).astype(np.int64)


def accuracy(confusion: Matrix) -> float:
    """Return the fraction of clips on the diagonal, of at least one clip."""
    return float(confusion.trace() / confusion.sum())


def by_class(confusion: Matrix, class_names: Sequence[str]) -> tuple[ClassEvaluation, ...]:
    """Return every class's clips and recall."""
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
    """Return the pairs confused most often: (clips, true class, predicted class), most first."""
    errors = confusion - np.diag(np.diag(confusion))
    pairs = [(int(errors[i, j]), int(i), int(j)) for i, j in np.argwhere(errors)]
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:number]
