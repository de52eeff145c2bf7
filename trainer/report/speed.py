"""The table of where the time went: every stage's wall time and rate."""

from collections.abc import Iterator, Sequence
from statistics import median

from schemas import EpochMetrics
from trainer.report.cells import duration, images_of
from trainer.report.content import Column, Table
from trainer.report.series import Series

COLUMNS = (
    *(Column("method", numeric=False), Column("stage"), Column("images", numeric=False)),
    *(Column("epochs"), Column("λ"), Column("time per fold"), Column("samples/s")),
    Column("waiting, %"),
)
NOTE = (
    "Time a fold: wall time of the epochs with their evaluation, mean over folds and seeds. "
    "samples/s: of training alone, median over epochs. Waiting: share of the time in which "
    "training waited for data. Folds that were trained side by side slowed each other."
)


def speed_table(series: Sequence[Series]) -> Table:
    """Return a table with a row per stage of every method, and one of the whole."""
    rows = tuple(row for one in series for row in _rows(one))
    return Table("Time and speed by stage", COLUMNS, rows, NOTE)


def _rows(series: Series) -> Iterator[tuple[str, ...]]:
    epochs = [row for run in series.runs for row in run.epochs]
    num_folds = sum(len(run.result.folds) for run in series.runs)
    for number, stage in enumerate(series.stages, start=1):
        seen = [row for row in epochs if row.stage == number]
        what = (str(number), images_of(stage), str(stage.epochs), f"{stage.max_lr:.3g}")
        yield (series.label, *what, *_pace(seen, num_folds))
    if len(series.stages) > 1:
        time, _, waiting = _pace(epochs, num_folds)
        yield (series.label, "all", "", str(series.num_epochs), "", time, "", waiting)


def _pace(epochs: Sequence[EpochMetrics], num_folds: int) -> tuple[str, str, str]:
    """Return time per fold, samples/s, and the fraction of waiting, of some epochs of all folds."""
    seconds = sum(row.seconds for row in epochs)
    waited = sum(row.seconds * row.wait_share for row in epochs)
    rate = median(row.samples_per_s for row in epochs)
    share = 100 * waited / seconds if seconds else 0.0
    return duration(seconds / num_folds), f"{rate:,.0f}", f"{share:.1f}"
