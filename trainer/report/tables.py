"""The tables of accuracies: summary, by fold, and the paper's splits where folds are unknown."""

from collections.abc import Sequence

from trainer.paper import PaperTable
from trainer.report.cells import NOTHING, mean_std, numbers, percent
from trainer.report.content import Column, Table
from trainer.report.series import Series, best_percent, last_percent

Row = tuple[str, ...]


def summary_table(series: Sequence[Series], paper: PaperTable | None) -> Table:
    """One row a method: mean ± sample std over folds, best and last epoch, and the paper's."""
    parts = [_summary_of_runs(series)]
    if any(len(one.seeds) > 1 for one in series):
        parts.append(_summary_of_seeds(series))
    if paper:
        parts.append(_summary_of_paper(series, paper))
    return Table(
        "Accuracy, %: mean ± sample standard deviation over folds",
        tuple(column for columns, _ in parts for column in columns),
        tuple(sum(cells, ()) for cells in zip(*(rows for _, rows in parts), strict=True)),
    )


def _summary_of_runs(series: Sequence[Series]) -> tuple[list[Column], list[Row]]:
    columns = [Column("method", numeric=False), Column("folds"), Column("seeds")]
    rows: list[Row] = [
        (
            one.label,
            numbers(one.folds),
            str(len(one.seeds)),
            mean_std(list(one.best().values())),
            mean_std(list(one.last().values())),
        )
        for one in series
    ]
    return [*columns, Column("best epoch"), Column("last epoch")], rows


def _summary_of_seeds(series: Sequence[Series]) -> tuple[list[Column], list[Row]]:
    columns = [Column(name, "std over seeds") for name in ("best", "last")]
    values = (best_percent, last_percent)
    rows = [tuple(percent(one.std_over_seeds(value)) for value in values) for one in series]
    return columns, rows


def _summary_of_paper(
    series: Sequence[Series], paper: PaperTable
) -> tuple[list[Column], list[Row]]:
    """The summary as printed and, where only some of its folds were run, that over the same."""
    partial = [one for one in series if set(one.folds) != set(paper.folds or one.folds)]
    rows = [_paper_cells(one, paper)[: 2 if partial else 1] for one in series]
    columns = [Column("paper, as printed"), Column("paper, same folds")]
    return columns[: 2 if partial else 1], rows


def _paper_cells(series: Series, paper: PaperTable) -> Row:
    printed = paper.printed.get(series.method)
    known = paper.by_fold(series.method)
    same = [known[fold] for fold in series.folds if fold in known]
    return (f"{printed[0]:.2f} ± {printed[1]:.2f}" if printed else NOTHING, mean_std(same))


def fold_table(series: Sequence[Series], paper: PaperTable | None) -> Table:
    """One row a fold; best, last and, where its folds are known, the paper's, by method."""
    columns = [Column("fold")]
    values: list[dict[int, float]] = []
    for one in series:
        own = {"best": one.best(), "last": one.last()}
        if theirs := paper.by_fold(one.method) if paper else {}:
            own["paper"] = theirs
        columns += [Column(name, one.label) for name in own]
        values += own.values()
    folds = sorted({fold for one in series for fold in one.folds})
    rows = tuple((str(fold), *(percent(by.get(fold)) for by in values)) for fold in folds)
    return Table("Accuracy by held-out fold, %", tuple(columns), rows, _seeds_note(series))


def _seeds_note(series: Sequence[Series]) -> str:
    several = any(len(one.seeds) > 1 for one in series)
    return "Each value is the mean over the method's seeds." if several else ""


def split_table(paper: PaperTable) -> Table:
    """The paper's own splits, for a dataset whose folds they cannot be matched with."""
    columns = (Column("split"), *(Column(method) for method in paper.splits))
    rows = tuple(
        (str(split), *map(percent, values))
        for split, values in enumerate(zip(*paper.splits.values(), strict=True))
    )
    note = "Which fold each split tested on is not known, so the rows match no row above."
    return Table("The paper's accuracy by its own splits, %", columns, rows, note)
