import numpy as np
import pytest

from trainer.stats import by_class, confusion_matrix, most_frequent

LABELS = np.array([0, 0, 0, 2, 2])
PREDICTED = np.array([0, 1, 1, 2, 0])
CONFUSION = confusion_matrix(LABELS, PREDICTED, 3)


def test_rows_are_true_classes_and_columns_predicted_ones() -> None:
    assert CONFUSION.tolist() == [[1, 2, 0], [0, 0, 0], [1, 0, 1]]


def test_a_class_without_clips_has_no_recall() -> None:
    dog, rain, saw = by_class(CONFUSION, ["dog", "rain", "saw"])
    assert dog.recall == pytest.approx(1 / 3)
    assert (dog.num_clips, dog.num_predicted) == (3, 2)
    assert rain.recall is None
    assert (rain.num_clips, rain.num_predicted) == (0, 2)
    assert saw.recall == 1 / 2


def test_the_most_frequent_confusions_come_first_without_right_answers() -> None:
    assert most_frequent(CONFUSION, 5) == [(2, 0, 1), (1, 2, 0)]
    assert most_frequent(CONFUSION, 1) == [(2, 0, 1)]
    assert most_frequent(np.diag([3, 4]), 5) == []
