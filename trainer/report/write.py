"""From run directories to a folder with the report."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from schemas import Selection
from trainer.errors import ReportError
from trainer.paper import PAPER
from trainer.report.boxplot import boxplot
from trainer.report.content import Picture, Report, Section
from trainer.report.curves import learning_curves
from trainer.report.grouping import group
from trainer.report.load import read_run
from trainer.report.markdown import to_markdown
from trainer.report.page import to_html
from trainer.report.sections import text_section
from trainer.report.series import Series

DEFAULT_OUT = Path("report")
BOXPLOT = "Accuracy over the held-out folds by method"
CURVES = (
    "Accuracy and training loss by epoch: every fold of every seed thin, their mean thick; dotted "
    "lines between stages, dashed where the images change"
)


def write_report(runs: Sequence[Path], out: Path = DEFAULT_OUT) -> Report:
    """Read finished runs and write report.md, report.html and the figures.

    The figures are boxplot.png and learning-curves.png; with more than one dataset each name
    ends with the dataset's, as in boxplot-esc50.png.

    Args:
        runs: Run directories, in any order, of any methods, folds, seeds and datasets.
        out: Folder for the files; made where missing, files of those names are replaced.

    Returns:
        What was written.

    Raises:
        ReportError: No runs were given; one is unfinished, damaged or no run; two are the same;
            or `out` cannot be written.
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
            f"{out}: the report cannot be written: {error.strerror}; make room or give another out"
        ) from error
    return report


def _suffix(key: tuple[str, Selection], keys: Iterable[tuple[str, Selection]]) -> str:
    """What tells a section's pictures from those of others; empty where there are no others."""
    several = (len(set(names)) > 1 for names in zip(*keys, strict=True))
    parts = (name for name, differs in zip(key, several, strict=True) if differs)
    # A dataset's name comes from a file: nothing in it may lead out of the report's folder.
    return "".join("-" + re.sub(r"[^\w-]", "_", part) for part in parts)


def _section(series: Sequence[Series], suffix: str) -> Section:
    text = text_section(series)
    pictures = (
        Picture(f"boxplot{suffix}.png", BOXPLOT, boxplot(series, PAPER.get(text.dataset))),
        Picture(f"learning-curves{suffix}.png", CURVES, learning_curves(series)),
    )
    return replace(text, pictures=pictures)


def _write(report: Report) -> None:
    for section in report.sections:
        for picture in section.pictures:
            (report.out / picture.file).write_bytes(picture.png)
    (report.out / "report.md").write_text(to_markdown(report), encoding="utf-8")
    (report.out / "report.html").write_text(to_html(report), encoding="utf-8")
