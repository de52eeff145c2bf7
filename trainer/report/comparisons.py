"""Comparison of methods clip by clip or, if clips have several labels, class by class.

Two methods with equal accuracy may be correct on different clips, which a mean over folds does not
show. A clip with several labels is not simply right or wrong, so there the average precision of
each class is compared, paired over folds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.text import mask_url
from schemas import PairedDifference
from trainer.report.render import Column, Table, headings
from trainer.report.series import Series
from trainer.report.tables import DIFFERENCE_COLUMNS, comparison_cells, mean_std, p_value, pairs
from trainer.stats import Matrix, confusion_matrix, mcnemar_p, mean, paired_test

COLUMNS = headings(
    *("first - second", "clips", "both", "only first", "only second", "neither", "p of McNemar")
)
ONLY_ONE = "Who is right where, clips that only one of two methods recognises"
NOTE = (
    "A clip counts once for every seed that both have. p: of McNemar's exact test, two-sided; only "
    "for one common seed, as a clip with another seed is no independent observation. Neither are "
    "clips of one recording, so p is somewhat too small."
)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Predictions of two methods for the clips that both have, once per common seed.

    Args:
        first: Method expected to be better.
        second: The other method.
        clip_ids: clip_id of each clip.
        fold: (n,) held-out folds.
        label: (n,) class_ids.
        by_first: (n,) class_ids predicted by the reported network of the first method.
        by_second: (n,) class_ids predicted by that of the second.
    """

    first: Series
    second: Series
    clip_ids: Sequence[str]
    fold: NDArray[np.int64]
    label: NDArray[np.int64]
    by_first: NDArray[np.int64]
    by_second: NDArray[np.int64]

    def counts(self, of: NDArray[np.bool_] | slice = slice(None)) -> tuple[int, ...]:
        """Return how many clips both, only the first, only the second and neither recognise.

        Args:
            of: (n,) which clips; all by default.
        """
        outcome = 2 * (self.by_first != self.label) + (self.by_second != self.label)
        return tuple(np.bincount(outcome[of], minlength=4).tolist())

    @property
    def p(self) -> float | None:
        """P-value of McNemar's test; None with several seeds."""
        _, only_first, only_second, _ = self.counts()
        one_seed = len({*self.first.seeds} & {*self.second.seeds}) == 1
        return mcnemar_p(only_first, only_second) if one_seed else None

    @property
    def confusions(self) -> tuple[Matrix, Matrix]:
        """Confusion matrices of the first and of the second method."""
        number = len(self.first.class_names)
        both = self.by_first, self.by_second
        first, second = (confusion_matrix(self.label, by, number) for by in both)
        return first, second


def agreements(series: Sequence[Series]) -> list[Agreement]:
    """Return the comparison of each pair of methods by their reported networks."""
    compared = []
    for a, b in pairs(series):
        of_a, of_b = a.clips(), b.clips()
        shared = sorted(of_a.keys() & of_b.keys())
        if a.method != b.method and shared:
            facts = np.array([(*of_a[key], of_b[key].predicted) for key in shared])
            compared.append(Agreement(a, b, [name for _, name in shared], *facts.T))
    return compared


def agreement_tables(compared: Sequence[Agreement]) -> Iterator[Table]:
    """Yield tables of the clips that each method of a pair gets right, also by fold and class."""
    if not compared:
        return
    first = compared[0].first
    rows = []
    for one in compared:
        name, number = f"{one.first.label} - {one.second.label}", str(len(one.clip_ids))
        rows.append((name, number, *map(str, one.counts()), p_value(one.p)))
    title = f"Who is right where, clips: {first.scores[0].name}"
    yield Table(title, COLUMNS, tuple(rows), NOTE)
    folds = np.unique(np.concatenate([one.fold for one in compared])).tolist()
    by_fold = {str(fold): [one.counts(one.fold == fold) for one in compared] for fold in folds}
    yield _only_one(f"{ONLY_ONE}, by fold", "fold", compared, by_fold)
    names = first.class_names
    by_class = {
        name: [one.counts(one.label == i) for one in compared] for i, name in enumerate(names)
    }
    yield _only_one(f"{ONLY_ONE}, by class", "class", compared, by_class)


def _only_one(
    title: str,
    what: str,
    compared: Sequence[Agreement],
    counts: Mapping[str, Sequence[tuple[int, ...]]],
) -> Table:
    """Return the clips that only one of two methods recognises."""
    columns = [Column(what, numeric=what == "fold")]
    for one in compared:
        group = f"{one.first.label}, {one.second.label}"
        columns += [Column(method.label, group) for method in (one.first, one.second)]
    rows = tuple(
        (mask_url(name), *(str(number) for of_pair in pairs_of for number in of_pair[1:3]))
        for name, pairs_of in counts.items()
    )
    return Table(title, tuple(columns), rows, detail=True)


SCORES_NOTE = (
    "mAP: step-wise average precision, the mean over the classes that occur in a fold's clips; a "
    "class that does not occur is left out. ROC-AUC: the mean over those of them that not all "
    "clips have. d′ = √2 · Φ⁻¹(ROC-AUC). lwlrap: label-weighted label-ranking average precision. "
    "Each is computed per fold, over all its clips."
)
CLASS_NOTE = (
    "Average precision of a class in one method less that in the other, paired over the folds in "
    "which it occurs, seeds averaged first; not corrected for the number of classes."
)


def label_tables(series: Sequence[Series]) -> Iterator[Table]:
    """Yield tables of all scores by method, AP by class, and differences in AP by class."""
    yield _scores_table(series)
    yield _class_table(series)
    for a, b in pairs(series):
        yield _difference_table(a, b)


def _scores_table(series: Sequence[Series]) -> Table:
    columns = headings("method", "classes", "mAP", "ROC-AUC", "d′", "lwlrap")
    rows, network = [], series[0].scores[0].name
    for one in series:
        by_fold = list(one.label_scores().values())
        numbers = sorted({scores.num_classes for of in by_fold for scores in of})
        shown = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        cells = [
            _over_folds([[getattr(scores, name) for scores in of] for of in by_fold], scale)
            for name, scale in (("map", 100), ("auc", 100), ("d_prime", 1), ("lwlrap", 100))
        ]
        rows.append((one.label, shown, *cells))
    title = f"All scores, %: mean ± sample standard deviation over folds: {network}"
    return Table(title, columns, tuple(rows), SCORES_NOTE)


def _over_folds(by_fold: Sequence[Sequence[float | None]], scale: float) -> str:
    """Return mean ± std over folds of the mean over seeds, of what has a value."""
    known = [[scale * value for value in of if value is not None] for of in by_fold]
    return mean_std([mean(of) for of in known if of])


def _class_table(series: Sequence[Series]) -> Table:
    columns = headings("class", *(one.label for one in series))
    by_series = [one.precisions() for one in series]
    rows = []
    for number, name in enumerate(series[0].class_names):
        values = [[of[number] for of in by.values()] for by in by_series]
        cells = [mean_std([100 * v for v in of if not np.isnan(v)]) for of in values]
        rows.append((mask_url(name), *cells))
    title = f"Average precision by class, %: {series[0].scores[0].name}"
    return Table(title, columns, tuple(rows), detail=True)


def class_tests(first: Series, second: Series) -> Iterator[tuple[int, PairedDifference | None]]:
    """Yield for each class the number of common folds with it, and the difference in AP."""
    of_first, of_second = first.precisions(), second.precisions()
    for number in range(len(first.class_names)):
        one, other = (
            {fold: float(of[number]) for fold, of in by.items() if not np.isnan(of[number])}
            for by in (of_first, of_second)
        )
        yield len(one.keys() & other.keys()), paired_test(one, other)


def _difference_table(first: Series, second: Series) -> Table:
    columns = (*headings("class"), *DIFFERENCE_COLUMNS[1:])
    tests = zip(first.class_names, class_tests(first, second), strict=True)
    rows = [
        (mask_url(name), str(shared), *comparison_cells(test, 100))
        for name, (shared, test) in tests
    ]
    title = f"Differences of average precision by class, points: {first.label} - {second.label}"
    return Table(title, columns, tuple(rows), CLASS_NOTE, detail=True)
