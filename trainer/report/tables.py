"""The tables of accuracies: summary, by fold, and the paper's splits where folds are unknown."""

from collections.abc import Iterator, Sequence

from trainer.paper import PaperTable
from trainer.report.cells import NOTHING, mean_std, numbers, percent
from trainer.report.content import Column, Table
from trainer.report.scores import Score
from trainer.report.series import Series

Row = tuple[str, ...]
OVER_FOLDS = "± after a mean: sample standard deviation over folds, each the mean over its seeds."
OVER_SEEDS = "Over seeds: sample standard deviation of the mean over folds."


def summary_table(series: Sequence[Series], paper: PaperTable | None) -> Table:
    """Return one row per method: mean ± sample std over folds of every score, and the paper's."""
    several = any(len(one.seeds) > 1 for one in series)
    columns = [Column("method", numeric=False), Column("folds"), Column("seeds")]
    rows: list[Row] = [(one.label, numbers(one.folds), str(len(one.seeds))) for one in series]
    for score in series[0].scores:
        columns.append(Column("mean ± std", score.name) if several else Column(score.name))
        rows = [(*row, _over_folds(one, score)) for row, one in zip(rows, series, strict=True)]
        if several:
            columns.append(Column("over seeds", score.name))
            spreads = [percent(one.std_over_seeds(score)) for one in series]
            rows = [(*row, spread) for row, spread in zip(rows, spreads, strict=True)]
    if paper:
        theirs, cells = _summary_of_paper(series, paper)
        columns += theirs
        rows = [row + ours for row, ours in zip(rows, cells, strict=True)]
    note = f"{OVER_FOLDS} {OVER_SEEDS}" if several else ""
    return Table(
        "Accuracy, %: mean ± sample standard deviation over folds",
        tuple(columns),
        tuple(rows),
        note,
    )


def _over_folds(series: Series, score: Score) -> str:
    return mean_std(list(series.by_fold(score).values()))


def _summary_of_paper(
    series: Sequence[Series], paper: PaperTable
) -> tuple[list[Column], list[Row]]:
    """Return the summary as printed and, if only some of its folds were run, that over the same."""
    partial = [one for one in series if set(one.folds) != set(paper.folds or one.folds)]
    rows = [_paper_cells(one, paper)[: 2 if partial else 1] for one in series]
    columns = [Column("paper, best epoch"), Column("paper, same folds")]
    return columns[: 2 if partial else 1], rows


def _paper_cells(series: Series, paper: PaperTable) -> Row:
    printed = paper.printed.get(series.method)
    known = paper.by_fold(series.method)
    same = [known[fold] for fold in series.folds if fold in known]
    return (f"{printed[0]:.2f} ± {printed[1]:.2f}" if printed else NOTHING, mean_std(same))


def fold_tables(series: Sequence[Series], paper: PaperTable | None) -> Iterator[Table]:
    """Yield a table per score: one row per fold, one column per method, and the paper's."""
    first, *others = series[0].scores
    yield _fold_table(series, first, paper)
    for score in others:
        yield _fold_table(series, score, None)


def _fold_table(series: Sequence[Series], score: Score, paper: PaperTable | None) -> Table:
    columns = [Column("fold")]
    values: list[dict[int, float]] = []
    grouped = bool(paper and any(paper.by_fold(one.method) for one in series))
    for one in series:
        own = {"ours": one.by_fold(score)}
        if theirs := paper.by_fold(one.method) if paper else {}:
            own["paper"] = theirs
        columns += [Column(name, one.label) if grouped else Column(one.label) for name in own]
        values += own.values()
    folds = sorted({fold for one in series for fold in one.folds})
    rows = tuple((str(fold), *(percent(by.get(fold)) for by in values)) for fold in folds)
    title = f"Accuracy by held-out fold, %: {score.name}"
    return Table(title, tuple(columns), rows, _seeds_note(series))


def _seeds_note(series: Sequence[Series]) -> str:
    several = any(len(one.seeds) > 1 for one in series)
    return "Each value is the mean over the method's seeds." if several else ""


def split_table(paper: PaperTable) -> Table:
    """Return the paper's own splits, for a dataset whose folds they cannot be matched with."""
    columns = (Column("split"), *(Column(method) for method in paper.splits))
    rows = tuple(
        (str(split), *map(percent, values))
        for split, values in enumerate(zip(*paper.splits.values(), strict=True))
    )
    note = "Which fold each split tested on is not known, so the rows match no row above."
    return Table("The paper's accuracy by its own splits, %: best epoch", columns, rows, note)
