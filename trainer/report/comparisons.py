"""Comparison of methods clip by clip or, if clips have several labels, class by class.

Two methods with equal accuracy may be correct on different clips, which a mean over folds does not
show. A clip with several labels is not simply right or wrong, so there the average precision of
each class is compared, paired over folds.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from featurestore.text import mask_url
from schemas import PairedDifference
from trainer.report.render import Column, Table, headings
from trainer.report.series import Series, common_clips
from trainer.report.tables import DIFFERENCE_COLUMNS, comparison_cells, mean_std, p_value, pairs
from trainer.stats import mcnemar_p, mean, paired_test

COLUMNS = headings(
    *("first - second", "clips", "both", "only first", "only second", "neither", "p of McNemar")
)
ONLY_ONE = "Who is right where, clips that only one of two methods recognises"
NOTE = (
    "A clip counts once for every seed that both have. p: of McNemar's exact test, two-sided; only "
    "for one common seed, as a clip with another seed is no independent observation. Neither are "
    "clips of one recording, so p is somewhat too small."
)


class ComparedClip(NamedTuple):
    """A clip's held-out fold and class_id, and whether each of two methods is correct."""

    clip_id: str
    fold: int
    label: int
    first: bool
    second: bool


@dataclass(frozen=True)
class Agreement:
    """Clips on which two methods are correct, over all common seeds.

    Args:
        first: Method expected to be better.
        second: The other method.
        clips: Each clip once per seed.
    """

    first: Series
    second: Series
    clips: Sequence[ComparedClip]

    @property
    def seeds(self) -> set[int]:
        """Common seeds."""
        return set(self.first.seeds) & set(self.second.seeds)

    def counts(self, fold: int | None = None, label: int | None = None) -> tuple[int, ...]:
        """Return how many clips both, only the first, only the second, none gets right."""
        counted = Counter(
            (clip.first, clip.second)
            for clip in self.clips
            if fold in (None, clip.fold) and label in (None, clip.label)
        )
        return tuple(
            counted[key] for key in ((True, True), (True, False), (False, True), (False, False))
        )


def agreements(series: Sequence[Series]) -> list[Agreement]:
    """Return the comparison of each pair of methods by their reported networks."""
    checkpoint = series[0].scores[0].checkpoint
    compared = []
    for a, b in pairs(series):
        clips = [
            ComparedClip(name, x.fold, x.label, x.predicted == x.label, y.predicted == y.label)
            for name, x, y in common_clips(a, b, checkpoint)
        ]
        if a.method != b.method and clips:
            compared.append(Agreement(a, b, clips))
    return compared


def agreement_tables(series: Sequence[Series]) -> Iterator[Table]:
    """Yield tables of the clips that each method of a pair gets right, also by fold and class."""
    compared = agreements(series)
    if not compared:
        return
    rows = []
    for one in compared:
        counts = one.counts()
        p = mcnemar_p(*counts[1:3]) if len(one.seeds) == 1 else None
        name = f"{one.first.label} - {one.second.label}"
        rows.append((name, str(len(one.clips)), *map(str, counts), p_value(p)))
    title = f"Who is right where, clips: {series[0].scores[0].name}"
    yield Table(title, COLUMNS, tuple(rows), NOTE)
    folds = sorted({clip.fold for one in compared for clip in one.clips})
    by_fold = {str(fold): [one.counts(fold=fold) for one in compared] for fold in folds}
    yield _only_one(f"{ONLY_ONE}, by fold", "fold", compared, by_fold)
    names = series[0].class_names
    by_class = {name: [one.counts(label=i) for one in compared] for i, name in enumerate(names)}
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
