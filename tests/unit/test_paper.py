import math

import pytest

from trainer.report.paper import ESC50, PAPER, URBANSOUND8K, PaperTable
from trainer.stats import mean, sample_std

CLIPS_BY_FOLD = dict(
    enumerate((873, 888, 925, 990, 936, 823, 838, 806, 816, 837), start=1)
)  # of UrbanSound8K

ROWS = [(table, method) for table in PAPER.values() for method in table.splits]


def is_truncated(value: float, printed: float) -> bool:
    return -1e-9 <= value - printed < 0.01


@pytest.mark.parametrize(("table", "method"), ROWS)
def test_printed_summaries_are_truncated_mean_and_sample_std(
    table: PaperTable, method: str
) -> None:
    std = sample_std(table.splits[method])
    assert std is not None
    printed_mean, printed_std = table.printed[method]
    assert is_truncated(mean(table.splits[method]), printed_mean)
    assert is_truncated(std, printed_std)


def is_whole_clips(percent: float, num_clips: int) -> bool:
    count = math.ceil(percent * num_clips / 100 - 1e-9)
    return is_truncated(100 * count / num_clips, percent)


def test_split_i_is_fold_10_minus_i_because_29_of_30_values_are_whole_clips() -> None:
    values = [
        (fold, percent)
        for method in URBANSOUND8K.splits
        for fold, percent in URBANSOUND8K.by_fold(method).items()
    ]
    assert sum(is_whole_clips(value, CLIPS_BY_FOLD[fold]) for fold, value in values) == 29
    assert sum(is_whole_clips(value, CLIPS_BY_FOLD[11 - fold]) for fold, value in values) == 4


def test_every_table_has_the_three_methods_over_all_its_splits() -> None:
    for table, num_splits in ((URBANSOUND8K, 10), (ESC50, 5)):
        assert list(table.splits) == list(table.printed) == ["baseline", "mel", "resize"]
        assert {len(splits) for splits in table.splits.values()} == {num_splits}


def test_folds_of_esc50_are_not_claimed_to_be_known() -> None:
    assert ESC50.folds is None
    assert ESC50.by_fold("mel") == {}
    assert ESC50.by_split("mel")[1] == 83.5


def test_a_method_the_paper_does_not_have_has_no_numbers() -> None:
    assert URBANSOUND8K.by_fold("control") == URBANSOUND8K.by_split("control") == {}
