"""From run directories to a folder with the report."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from featurestore import __version__
from featurestore.errors import cause
from featurestore.files import write_output
from featurestore.text import file_name
from trainer.errors import ReportError
from trainer.report import notes, tables
from trainer.report.classes import (
    agreement_picture,
    confusion_picture,
    recall_picture,
)
from trainer.report.comparisons import Agreement, agreement_tables, agreements, label_tables
from trainer.report.curves import learning_curves
from trainer.report.drawing import PAPERS_METHODS, Drawing, boxplot, paper_boxplot
from trainer.report.paper import PAPER
from trainer.report.render import Picture, Report, Section, Table, to_html, to_markdown
from trainer.report.series import Series, group, read_run

DEFAULT_OUT = Path("report")
BOXPLOT = (
    "Accuracy over the held-out folds by method: the boxes' lines are quartiles and median, the "
    "diamonds means; each fold is a line, as the methods are compared fold by fold"
)
PAPERS = (
    "Our accuracies drawn as the paper's figures 2 and 3 draw its own: whiskers to 1.5 times the "
    "quartiles' distance, rings beyond"
)
CURVES = (
    "Accuracy and training loss by epoch, with the head's learning rate λ below: every fold of "
    "every seed thin, their mean thick; dotted lines between stages, dashed where the images "
    "change; a dot on each fold's curve where an epoch is picked"
)
MOST_DIFFERENCES = 6
"""Maximum number of pairs of methods per section whose confusion matrices are compared."""
RECALL = "Recall of each class by method, over all folds and seeds; the best recognised at the top"


def write_report(
    runs: Sequence[Path], out: Path = DEFAULT_OUT, when: datetime | None = None
) -> Report:
    """Read finished runs and write report.md, report.html and the figures.

    The figures, each as .png and .svg, are boxplot, learning-curves, recall, a confusion-… per
    method, a difference-… per pair of methods and, for the paper's datasets, paper-boxplot; with
    more than one dataset, selection or rule, names have a suffix, as in boxplot-esc50.png.

    Args:
        runs: Run directories, in any order, of any methods, folds, seeds and datasets.
        out: Folder for the files; created if missing. Existing files are replaced.
        when: Time to state in the report; without it, equal runs give equal files.

    Returns:
        The report.

    Raises:
        TrainedRunError: A directory is not a run, or the run is unfinished or damaged.
        ReportError: No runs are given, two are the same, or `out` cannot be written.
    """
    if not runs:
        raise ReportError("no runs to report; give the directories that `trainer run` wrote")
    groups = group([read_run(path) for path in runs])
    try:
        out.mkdir(parents=True, exist_ok=True)
        sections = told_apart(
            {key: _section(one, _suffix(key, groups)) for key, one in groups.items()}
        )
        made = f"Made by featurestore {__version__}" + (
            f" on {when:%Y-%m-%d at %H:%M %Z}" if when else ""
        )
        command = shlex.join(map(str, ("trainer", "report", *runs)))
        report = Report(out, sections, tuple(runs), f"{made}.", command)
        _write(report)
    except OSError as error:
        raise ReportError(
            f"{error.filename or out}: the report cannot be written: {cause(error)}; make room "
            "or give another --out"
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


def told_apart(sections: Mapping[tuple[str, str, str], Section]) -> tuple[Section, ...]:
    """Return the sections; equal headings also say the classes and rules of their runs.

    Args:
        sections: Sections by their keys, see `group`.
    """
    counts = Counter(section.heading for section in sections.values())

    def heading(what: str, rules: str, section: Section) -> str:
        if counts[section.heading] == 1:
            return section.heading
        named = section.heading.replace(section.dataset, what, 1)
        return f"{named}; {rules}" if rules else named

    return tuple(
        replace(one, heading=heading(what, rules, one))
        for (what, _, rules), one in sections.items()
    )


def text_section(series: Sequence[Series], compared: Sequence[Agreement]) -> Section:
    """Return the text and tables of a section, without figures.

    Args:
        series: Series of the section.
        compared: `agreements` of the series.
    """
    dataset = series[0].dataset
    paper, basis = PAPER.get(dataset), notes.basis(series)
    several = series[0].multilabel
    shown: tuple[Table, ...] = (
        tables.summary_table(series, paper),
        *tables.difference_tables(series, paper),
        *(label_tables(series) if several else agreement_tables(compared)),
        *tables.fold_tables(series, paper),
        *([tables.split_table(paper)] if paper and not paper.folds else []),
        tables.speed_table(series),
        tables.context_table(series),
    )
    shown = tuple(replace(table, basis=table.basis or basis) for table in shown)
    if several:
        shown = tuple(
            replace(table, title=_of_labels(table.title), note=_of_labels(table.note))
            for table in shown
        )
    explained = notes.notes(series, paper)
    return Section(
        dataset,
        series[0].config.selection,
        f"{dataset}: {series[0].rule.picked_by}",
        notes.scope(series),
        notes.findings(series),
        notes.warnings(series),
        shown,
        tuple(map(_of_labels, explained)) if several else explained,
    )


def _of_labels(text: str) -> str:
    """Return a sentence about accuracy as it is true of mean average precision."""
    return re.sub(r"[Aa]ccurac(y|ies)", "mAP", text)


def _section(series: Sequence[Series], suffix: str) -> Section:
    compared = agreements(series)
    text = text_section(series, compared)
    paper = PAPER.get(text.dataset)
    if series[0].multilabel:
        curves = Picture(
            f"learning-curves{suffix}.png", _of_labels(CURVES), learning_curves(series)
        )
        return replace(text, pictures=(curves,))
    drawn = {f"boxplot{suffix}": (BOXPLOT, boxplot(series, paper))}
    if paper and any(one.method in PAPERS_METHODS for one in series):
        drawn[f"paper-boxplot{suffix}"] = PAPERS, paper_boxplot(series, paper)
    drawn[f"learning-curves{suffix}"] = CURVES, learning_curves(series)
    drawn[f"recall{suffix}"] = RECALL, recall_picture(series)
    for number, one in enumerate(series, start=1):
        drawn[f"confusion{suffix}-{number}-{file_name(one.method)}"] = _confusion(one)
    for number, pair in enumerate(compared[:MOST_DIFFERENCES], start=1):
        a, b = pair.first, pair.second
        name = f"{suffix}-{number}-{file_name(a.method)}-{file_name(b.method)}"
        caption = f"Who is right where, {a.label} and {b.label}: share of a class's or fold's clips"
        drawn[f"who-is-right{name}"] = caption, agreement_picture(pair)
        drawn[f"difference{name}"] = _difference(pair)
    pictures = (Picture(f"{name}.png", *content) for name, content in drawn.items())
    return replace(text, pictures=tuple(pictures))


def _confusion(series: Series) -> tuple[str, Drawing]:
    """Return the caption and the picture of a method's confusions."""
    score = series.scores[0]
    confusion = series.confusion()
    title = f"{series.label} on {series.dataset}", series.rule.picked_by
    caption = (
        f"Clips of {series.label} by true and predicted class, {score.name}, summed over folds "
        f"{tables.numbers(series.folds)} and seeds {tables.numbers(series.seeds)}"
    )
    return caption, confusion_picture(confusion, series.class_names, title)


def _difference(pair: Agreement) -> tuple[str, Drawing]:
    """Return the caption and the picture of what two methods confuse differently."""
    first = pair.first
    names = f"{first.label} - {pair.second.label}"
    title = f"{names} on {first.dataset}", first.rule.picked_by
    caption = (
        f"{names}: by how many clips more the first puts into a cell, of the "
        f"{len(pair.clip_ids):,} that both judged, {first.scores[0].name}. More is better on the "
        "diagonal, and worse elsewhere"
    )
    by_first, by_second = pair.confusions
    return caption, confusion_picture(by_first, first.class_names, title, by_second)


def _write(report: Report) -> None:
    for section in report.sections:
        for picture in section.pictures:
            path = report.out / picture.file
            write_output(path, picture.drawing.png)
            write_output(path.with_suffix(".svg"), picture.drawing.svg)
    write_output(report.out / "report.md", to_markdown(report).encode())
    write_output(report.out / "report.html", to_html(report).encode())
