import itertools
import math

import pytest

from trainer.report.paper import ESC50, URBANSOUND8K, PaperTable
from trainer.stats import least_rank_p, mcnemar_p, mean, paired_test, sample_std


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
    assert (test.num_folds, test.mean, test.std) == (3, 2.0, 1.0)
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


def test_the_interval_and_the_t_test_agree_on_zero() -> None:
    """The 95 % interval touches zero exactly where p is 0.05."""
    values = {k: math.sin(3 * k) for k in range(6)}
    test = paired_test(values, dict.fromkeys(values, 0.0))
    assert test is not None
    for edge in (test.low, test.high):
        shifted = paired_test(values, dict.fromkeys(values, edge))
        assert shifted is not None
        assert shifted.p == pytest.approx(0.05)
    assert test.d_z == pytest.approx(test.mean / test.std)
    assert test.t == pytest.approx((test.d_z or 0) * math.sqrt(6))


def brute_force_rank_p(differences: list[float]) -> float:
    """Two-sided p of the signed-rank sum over all patterns of signs, ties by mid-ranks."""
    sizes = [abs(d) for d in differences if d]
    ranks = [sum(o < s for o in sizes) + (sizes.count(s) + 1) / 2 for s in sizes]
    found = sum(r for r, d in zip(ranks, filter(None, differences), strict=True) if d > 0)
    centre = sum(ranks) / 2
    sums = [
        sum(r for r, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product((0, 1), repeat=len(ranks))
    ]
    return sum(abs(s - centre) >= abs(found - centre) - 1e-9 for s in sums) / len(sums)


@pytest.mark.parametrize(
    "differences",
    [
        [1.0, 2.0, 3.0, 4.0, 5.0],
        [1.0, -2.0, 3.0, 4.0, -0.5],
        [1.25, 1.25, -1.25, 2.5, 0.0],
        [0.0, 0.0, 2.5, 1.25, 3.75, -1.25, 2.5, 2.5, 0.0, 1.25],
        [0.0, 1.25],
    ],
)
def test_the_rank_test_is_exact_with_ties_and_with_folds_that_do_not_differ(
    differences: list[float],
) -> None:
    zeros = dict.fromkeys(range(len(differences)), 0.0)
    test = paired_test(dict(enumerate(differences)), zeros)
    assert test is not None
    assert test.rank_p == pytest.approx(brute_force_rank_p(differences))


def test_differences_that_are_equal_but_for_rounding_are_ties() -> None:
    first, second = {1: 0.1 + 0.2, 2: 1.0, 3: 5.0}, {1: 0.3, 2: 0.0, 3: 4.0}
    assert paired_test(first, second) == paired_test(
        {1: 0.0, 2: 1.0, 3: 1.0}, dict.fromkeys(first, 0.0)
    )


@pytest.mark.parametrize("number", range(2, 14))
def test_the_least_p_of_the_rank_test_is_reached_where_every_fold_gains(number: int) -> None:
    values = {k: 1.0 + k for k in range(number)}
    test = paired_test(values, dict.fromkeys(values, 0.0))
    assert test is not None
    assert test.rank_p == pytest.approx(least_rank_p(number))


def test_mcnemars_exact_test_is_the_binomial_test_of_who_is_right_alone() -> None:
    assert mcnemar_p(0, 0) == mcnemar_p(5, 5) == 1
    assert mcnemar_p(0, 5) == mcnemar_p(5, 0) == pytest.approx(2 / 2**5)
    assert mcnemar_p(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
