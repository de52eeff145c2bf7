"""From run directories to a folder with the report."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from featurestore.files import write_output
from featurestore.text import file_name
from trainer.errors import ReportError
from trainer.report import notes, tables
from trainer.report.agreement import agreement_tables
from trainer.report.figures import boxplot, confusion_picture, learning_curves, recall_picture
from trainer.report.paper import PAPER
from trainer.report.render import Picture, Report, Section, to_html, to_markdown
from trainer.report.series import Series, group, read_run

DEFAULT_OUT = Path("report")
BOXPLOT = "Accuracy over the held-out folds by method"
CURVES = (
    "Accuracy and training loss by epoch: every fold of every seed thin, their mean thick; dotted "
    "lines between stages, dashed where the images change"
)
RECALL = "Recall of each class by method, over all folds and seeds; the best recognised at the top"


def write_report(runs: Sequence[Path], out: Path = DEFAULT_OUT) -> Report:
    """Read finished runs and write report.md, report.html and the figures.

    The figures are boxplot.png, learning-curves.png, recall.png and a confusion-….png a method;
    with more than one dataset, selection or rule their names tell which, as in boxplot-esc50.png.

    Args:
        runs: Run directories, in any order, of any methods, folds, seeds and datasets.
        out: Folder for the files; made where missing, files of those names are replaced.

    Returns:
        What was written.

    Raises:
        TrainedRunError: A directory is no run, or the run is unfinished or damaged.
        ReportError: No runs were given, two are the same, or `out` cannot be written.
    """
    if not runs:
        raise ReportError("no runs to report; give the directories that `trainer run` wrote")
    groups = group([read_run(path) for path in runs])
    try:
        out.mkdir(parents=True, exist_ok=True)
        sections = tuple(_section(found, _suffix(key, groups)) for key, found in groups.items())
        report = Report(out, sections, tuple(runs))
        _write(report)
    except OSError as error:
        raise ReportError(
            f"{error.filename or out}: the report cannot be written: {error.strerror}; make room "
            "or give another out"
        ) from error
    return report


def _suffix(key: tuple[str, str, str], keys: Iterable[tuple[str, str, str]]) -> str:
    """Return what tells a section's pictures from those of others; empty if there are none."""
    dataset, selection, carrying = key
    datasets, selections, _ = zip(*keys, strict=True)
    alike = sorted(one[2] for one in keys if one[:2] == key[:2])
    parts = [dataset] if len(set(datasets)) > 1 else []
    parts += [selection] if len(set(selections)) > 1 else []
    parts += [f"rules{alike.index(carrying) + 1}"] if len(alike) > 1 else []
    return "".join(f"-{file_name(part)}" for part in parts)


def text_section(series: Sequence[Series]) -> Section:
    """Return the words and numbers about the series of one section: no pictures."""
    dataset = series[0].dataset
    paper = PAPER.get(dataset)
    shown = (
        tables.summary_table(series, paper),
        *tables.difference_tables(series, paper),
        *agreement_tables(series),
        *tables.fold_tables(series, paper),
        *([tables.split_table(paper)] if paper and not paper.folds else []),
        tables.speed_table(series),
        tables.context_table(series),
    )
    return Section(
        dataset,
        series[0].selection,
        f"{dataset}: {series[0].rule.picked_by}",
        notes.scope(series),
        notes.findings(series),
        notes.warnings(series),
        shown,
        notes.notes(series, paper),
    )


def _section(series: Sequence[Series], suffix: str) -> Section:
    text = text_section(series)
    pictures = (
        Picture(f"boxplot{suffix}.png", BOXPLOT, boxplot(series, PAPER.get(text.dataset))),
        Picture(f"learning-curves{suffix}.png", CURVES, learning_curves(series)),
        Picture(f"recall{suffix}.png", RECALL, recall_picture(series)),
        *(_confusion(one, f"{suffix}-{n}") for n, one in enumerate(series, start=1)),
    )
    return replace(text, pictures=pictures)


def _confusion(series: Series, suffix: str) -> Picture:
    score = series.scores[0]
    confusion = series.confusion(score.checkpoint)
    title = f"{series.label} on {series.dataset}", series.rule.picked_by
    png = confusion_picture(confusion, series.class_names, title)
    caption = (
        f"Clips of {series.label} by true and predicted class, {score.name}, summed over folds "
        f"{tables.numbers(series.folds)} and seeds {tables.numbers(series.seeds)}"
    )
    return Picture(f"confusion{suffix}-{file_name(series.method)}.png", caption, png)


def _write(report: Report) -> None:
    for section in report.sections:
        for picture in section.pictures:
            write_output(report.out / picture.file, picture.png)
    write_output(report.out / "report.md", to_markdown(report).encode())
    write_output(report.out / "report.html", to_html(report).encode())
