"""One dataset's section: its tables, and the lines above and below them. No pictures yet."""

from collections.abc import Sequence

from trainer.paper import PAPER
from trainer.report import context, tables
from trainer.report.compare import difference_table
from trainer.report.content import Section
from trainer.report.series import Series


def text_section(series: Sequence[Series]) -> Section:
    """All that is said in words and numbers about the series of one dataset."""
    paper = PAPER.get(series[0].dataset)
    found = [
        tables.summary_table(series, paper),
        difference_table(series, paper),
        tables.fold_table(series, paper),
        tables.split_table(paper) if paper and not paper.folds else None,
        context.context_table(series),
    ]
    return Section(
        series[0].dataset,
        context.warnings(series),
        tuple(table for table in found if table),
        context.notes(series, paper),
    )
