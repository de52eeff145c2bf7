"""Tables of runs whose clips have several labels: scores that one class per clip does not have.

A clip is not simply right or wrong, so methods are not compared clip by clip, but by the average
precision of each class, paired over folds.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from featurestore.text import mask_url
from schemas import PairedDifference
from trainer.report.render import Column, Table
from trainer.report.series import Series
from trainer.report.tables import DIFFERENCE_COLUMNS, comparison_cells, mean_std, pairs
from trainer.stats import mean, paired_test

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
    """Yield all scores of each method, AP by class, and differences of AP by class."""
    yield _scores_table(series)
    yield _class_table(series)
    for a, b in pairs(series):
        yield _difference_table(a, b)


def _scores_table(series: Sequence[Series]) -> Table:
    names = ("classes", "mAP", "ROC-AUC", "d′", "lwlrap")
    columns = Column("method", numeric=False), *map(Column, names)
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
    columns = (Column("class", numeric=False), *(Column(one.label) for one in series))
    by_series = [one.precisions() for one in series]
    rows = []
    for number, name in enumerate(series[0].class_names):
        values = [[of[number] for of in by.values()] for by in by_series]
        cells = [mean_std([100 * v for v in of if not np.isnan(v)]) for of in values]
        rows.append((mask_url(name), *cells))
    title = f"Average precision by class, %: {series[0].scores[0].name}"
    return Table(title, columns, tuple(rows), detail=True)


def class_tests(first: Series, second: Series) -> Iterator[tuple[int, PairedDifference | None]]:
    """Yield for each class the folds in which it occurs for both, and their difference in AP."""
    of_first, of_second = first.precisions(), second.precisions()
    for number in range(len(first.class_names)):
        one, other = (
            {fold: float(of[number]) for fold, of in by.items() if not np.isnan(of[number])}
            for by in (of_first, of_second)
        )
        yield len(one.keys() & other.keys()), paired_test(one, other)


def _difference_table(first: Series, second: Series) -> Table:
    columns = (Column("class", numeric=False), *DIFFERENCE_COLUMNS[1:])
    tests = zip(first.class_names, class_tests(first, second), strict=True)
    rows = [
        (mask_url(name), str(shared), *comparison_cells(test, 100))
        for name, (shared, test) in tests
    ]
    title = f"Differences of average precision by class, points: {first.label} - {second.label}"
    return Table(title, columns, tuple(rows), CLASS_NOTE, detail=True)
