"""Tables of a network's predictions for the clips of its held-out fold.

There is one file next to each network, with a row per clip. It is all that is needed for a
confusion matrix, a comparison of runs or an ensemble, without the store and the network.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.text import csv_cell, csv_text
from schemas import EpochMetrics, MultilabelScores
from trainer.errors import RunDirectoryError, in_a_line
from trainer.metrics import multilabel_scores
from trainer.safefiles import RESTORE

_CLIP, _CLASS, _LABELS = "clip_id", "class_id", "labels"
_SEPARATOR = ";"
_ROUNDING = 1e-4
"""Tolerance for sums of float32 probabilities, which are rounded again in ensembles."""


@dataclass(frozen=True)
class ClipPredictions:
    """A network's predictions, in store order.

    Args:
        clip_ids: (n,) ids of the clips.
        labels: (n,) int64 class_id; or, if clips may have several labels, (n, classes) uint8.
        probabilities: (n, classes) float32; rows sum to 1 if clips have one label.
        class_names: Class names by class_id.
    """

    clip_ids: tuple[str, ...]
    labels: NDArray[Any]
    probabilities: NDArray[np.float32]
    class_names: tuple[str, ...]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Predicted class_id (n,): the first with the highest probability."""
        highest: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return highest

    @property
    def accuracy(self) -> float:
        """Fraction of correctly classified clips, in [0, 1]."""
        return float((self.predicted == self.labels).mean())

    @property
    def multilabel(self) -> bool:
        """Whether clips may have several labels, or none."""
        return self.labels.ndim > 1

    @cached_property
    def scores(self) -> MultilabelScores:
        """All scores for several labels."""
        return multilabel_scores(self.labels, self.probabilities)

    @property
    def score(self) -> float:
        """Accuracy, or mean average precision if clips may have several labels."""
        return self.scores.map if self.multilabel else self.accuracy


def predictions_bytes(predictions: ClipPredictions) -> bytes:
    """Return a CSV table with clip_id, class_id, and the exact probability of each class.

    With several labels, a column `labels` has their class_ids, separated by semicolons.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = map(csv_cell, predictions.class_names)
    table.writerow([_CLIP, _LABELS if predictions.multilabel else _CLASS, *names])
    labels: Iterable[object] = predictions.labels
    if predictions.multilabel:
        ids = (np.flatnonzero(row).tolist() for row in predictions.labels)
        labels = (_SEPARATOR.join(map(str, row)) for row in ids)
    rows = zip(predictions.clip_ids, labels, predictions.probabilities, strict=True)
    table.writerows(
        [csv_cell(clip), label, *(f"{p:.9g}" for p in probabilities)]
        for clip, label, probabilities in rows
    )
    return text.getvalue().encode()


def parse_predictions(path: Path, data: bytes) -> ClipPredictions:
    """Parse a table written by `predictions_bytes`.

    Args:
        path: Path of the file, for error messages.
        data: Content of the file; a byte order mark, as added by Excel, is skipped.

    Raises:
        RunDirectoryError: It is damaged: not a table, a repeated clip, a class without a column,
            or invalid probabilities.
    """
    try:
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        header, *rows = csv.reader(text, strict=True)
        names = tuple(map(csv_text, header[2:]))
        predictions = ClipPredictions(
            clip_ids=tuple(csv_text(row[0]) for row in rows),
            labels=_parse_labels([row[1] for row in rows], header[1], len(names)),
            probabilities=np.array([row[2:] for row in rows], np.float32),
            class_names=names,
        )
    except (ValueError, IndexError, OverflowError, csv.Error) as error:
        raise RunDirectoryError(f"{path}: is damaged: {in_a_line(error)}; {RESTORE}") from error
    if problem := _problem(header, predictions):
        raise RunDirectoryError(f"{path}: is damaged: {problem}; {RESTORE}")
    return predictions


def _parse_labels(cells: Sequence[str], heading: str, num_classes: int) -> NDArray[Any]:
    if heading != _LABELS:
        return np.array(cells, np.int64)
    ids = [[int(part) for part in cell.split(_SEPARATOR)] if cell else [] for cell in cells]
    if any(not 0 <= number < num_classes for row in ids for number in row):
        raise ValueError(f"a class_id is out of range, there are {num_classes} classes")
    labels = np.zeros((len(ids), num_classes), np.uint8)
    for row, numbers in zip(labels, ids, strict=True):
        row[numbers] = 1
    return labels


def _problem(header: Sequence[str], predictions: ClipPredictions) -> str | None:
    """Return what cannot be true of a network's predictions."""
    ids, labels, probabilities = predictions.clip_ids, predictions.labels, predictions.probabilities
    names, several = predictions.class_names, predictions.multilabel
    known = header[0] == _CLIP and header[1] in (_CLASS, _LABELS)
    if not known or not ids or probabilities.shape != (len(ids), len(names)):
        return f"expected a heading with {_CLIP}, {_CLASS} and the classes, and rows as long as it"
    clip, times = Counter(ids).most_common(1)[0]
    sums = np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1)
    in_range = labels.any() if several else 0 <= labels.min() <= labels.max() < len(names)
    for is_wrong, what in (
        (len(set(names)) < len(names), "a class has two columns"),
        (times > 1, f"clip {clip} has two rows"),
        (not in_range and several, "no clip has a label"),
        (not in_range, f"a class_id is out of range, there are {len(names)} classes"),
        # Compared so that NaN fails, too.
        (
            not (probabilities.min() >= 0 and probabilities.max() <= 1 + _ROUNDING),
            "a probability is out of range [0, 1]",
        ),
        (
            not several and sums.max() > _ROUNDING,
            f"the probabilities of clip {ids[int(sums.argmax())]} do not sum to 1",
        ),
    ):
        if is_wrong:
            return what
    return None


def metrics_bytes(epochs: Iterable[EpochMetrics], header: bool = True) -> bytes:
    """Return the CSV lines of epochs, with exact numbers."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    if header:
        table.writerow(EpochMetrics.model_fields)
    table.writerows(row.model_dump().values() for row in epochs)
    return text.getvalue().encode()


def parse_metrics(path: Path, data: bytes) -> tuple[EpochMetrics, ...]:
    """Parse a table written by `metrics_bytes`.

    Args:
        path: Path of the file, for error messages.
        data: Content of the file; a byte order mark, as added by Excel, is skipped.

    Raises:
        RunDirectoryError: It is damaged.
    """
    line, rows = 1, []
    try:
        table = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        for line, row in enumerate(table, start=2):  # noqa: B007 - in the error
            rows.append(EpochMetrics.model_validate(row))
    except (ValueError, csv.Error) as error:
        raise RunDirectoryError(
            f"{path}: is damaged at line {line}: {in_a_line(error)}; {RESTORE}"
        ) from error
    return tuple(rows)
