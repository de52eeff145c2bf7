import math

import pytest

from trainer.paper import ESC50, URBANSOUND8K, PaperTable
from trainer.stats import mean, paired_test, sample_std


def test_std_has_n_minus_1_in_the_denominator() -> None:
    assert sample_std([1.0, 2.0, 3.0, 4.0]) == pytest.approx(math.sqrt(5 / 3))


def test_one_value_has_a_mean_but_no_std() -> None:
    assert mean([70.0]) == 70.0
    assert sample_std([70.0]) is None


@pytest.mark.parametrize(
    ("table", "first", "second", "p"),
    [
        (URBANSOUND8K, "mel", "baseline", 0.014),
        (URBANSOUND8K, "resize", "baseline", 0.013),
        (URBANSOUND8K, "mel", "resize", 0.94),
        (ESC50, "mel", "baseline", 0.008),
        (ESC50, "resize", "baseline", 0.094),
        (ESC50, "mel", "resize", 0.70),
    ],
)
def test_p_values_of_the_papers_numbers_are_those_of_the_protocol(
    table: PaperTable, first: str, second: str, p: float
) -> None:
    test = paired_test(table.by_split(first), table.by_split(second))
    assert test is not None
    assert test.p == pytest.approx(p, abs=5 * 10 ** -(len(str(p)) - 1))


def test_t_is_the_mean_difference_over_its_standard_error() -> None:
    test = paired_test({1: 3.0, 2: 5.0, 3: 4.0}, {1: 1.0, 2: 2.0, 3: 3.0})
    assert test is not None
    assert (test.num_pairs, test.mean, test.std) == (3, 2.0, 1.0)
    assert test.t == pytest.approx(2 / (1 / math.sqrt(3)))


def test_swapping_the_sides_changes_only_the_signs() -> None:
    a, b = URBANSOUND8K.by_fold("mel"), URBANSOUND8K.by_fold("resize")
    forth, back = paired_test(a, b), paired_test(b, a)
    assert forth is not None
    assert back is not None
    assert (forth.mean, forth.t, forth.p) == pytest.approx((-back.mean, -(back.t or 0), back.p))


def test_only_common_folds_are_compared() -> None:
    first = {1: 80.0, 2: 70.0, 3: 75.0}
    assert paired_test(first, {2: 69.0, 3: 72.0, 9: 0.0}) == paired_test(
        {2: 70.0, 3: 75.0}, {2: 69.0, 3: 72.0}
    )


@pytest.mark.parametrize("second", [{}, {7: 70.0}, {1: 60.0}])
def test_fewer_than_two_common_folds_give_no_test(second: dict[int, float]) -> None:
    assert paired_test({1: 70.0, 2: 80.0}, second) is None


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_equal_differences_have_no_t_and_raise_no_warning(shift: float) -> None:
    values = {fold: 70 + fold / 3 for fold in range(5)}
    test = paired_test({fold: value + shift for fold, value in values.items()}, values)
    assert test is not None
    assert (test.std, test.t, test.p) == (0.0, None, None)
    assert test.mean == pytest.approx(shift)
