"""A section: its tables, and the lines above and below them. No pictures yet."""

from collections.abc import Sequence

from trainer.paper import PAPER
from trainer.report import context, tables
from trainer.report.compare import difference_tables
from trainer.report.content import Section
from trainer.report.scores import PICKED_BY
from trainer.report.series import Series
from trainer.report.speed import speed_table


def text_section(series: Sequence[Series]) -> Section:
    """Return the words and numbers about the series of one dataset and selection."""
    dataset, selection = series[0].dataset, series[0].selection
    paper = PAPER.get(dataset)
    found = (
        tables.summary_table(series, paper),
        *difference_tables(series, paper),
        *tables.fold_tables(series, paper),
        *([tables.split_table(paper)] if paper and not paper.folds else []),
        speed_table(series),
        context.context_table(series),
    )
    return Section(
        dataset,
        selection,
        f"{dataset}: {PICKED_BY[selection]}",
        context.warnings(series),
        found,
        context.notes(series, paper),
    )
