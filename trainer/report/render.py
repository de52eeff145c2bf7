"""Contents of a report, independent of format, and rendering as Markdown, HTML and terminal output.

Markdown and HTML are two templates over the same contents; in both, every value is escaped unless
it is marked as our own markup.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from rich import box
from rich.cells import cell_len
from rich.measure import Measurement

from featurestore.terminal import Table as Grid
from featurestore.terminal import Terminal, styled
from featurestore.text import json_text, markdown, markdown_code, printable
from schemas import Selection

if TYPE_CHECKING:
    from trainer.report.drawing import Drawing

_OUR_CODE = re.compile(r"\\`(control|(?:trainer|featurestore) [a-z-]+)\\`")

HEADING_CHARS = 8
TEXT_CHARS = 28
WORD_CHARS = 20
WIDEST = 10_000


@dataclass(frozen=True)
class Column:
    """Heading of a column; neighbouring columns of a group share the group's heading."""

    name: str
    group: str = ""
    numeric: bool = True

    @property
    def heading(self) -> str:
        """Both headings in one line."""
        return f"{self.group} {self.name}".strip()


def headings(text: str, *numbers: str) -> tuple[Column, ...]:
    """Return a column of text and columns of numbers."""
    return (Column(text, numeric=False), *map(Column, numbers))


@dataclass(frozen=True)
class Table:
    """A table of formatted text cells; each row has one cell per column.

    `basis` is a phrase with the numbers of clips, folds and seeds. A table with `detail` is not
    printed in a terminal.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    detail: bool = False
    basis: str = ""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Return the groups in order, with the number of columns of each; names may be empty.

        Example: columns (fold), (best of mel), (last of mel) give [("", 1), ("mel", 2)].
        """
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans if any(group for group, _ in spans) else []


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its PNG file in the report's folder, and a description."""

    file: str
    caption: str
    drawing: "Drawing"


@dataclass(frozen=True)
class Section:
    """The results for one dataset and one selection of networks, named in the heading.

    `scope` says what all tables are about, `findings` are sentences on what they show, and `notes`
    say how to read them.
    """

    dataset: str
    selection: Selection
    heading: str
    scope: str
    findings: tuple[str, ...]
    warnings: tuple[str, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Report:
    """A report: its sections, the runs, and the folder it was written to.

    `made` gives the version and the time of its creation; `command` is the command that recreates
    it.
    """

    out: Path
    sections: tuple[Section, ...]
    runs: tuple[Path, ...]
    made: str
    command: str


def to_markdown(report: Report) -> str:
    """Return the report as Markdown, with figures linked by file name."""
    return _filled("report.md.jinja", report, lambda value: Markup(markdown(value)))  # noqa: S704


def to_html(report: Report) -> str:
    """Return the report as one self-contained HTML page."""
    return _filled("report.html", report, printable)


def _filled(template: str, report: Report, escape: Callable[[object], str]) -> str:
    """Fill a template; whatever `escape` leaves as plain text is escaped for HTML."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else escape(value),
    )
    environment.filters["base64"] = lambda content: b64encode(content).decode("ascii")
    environment.filters["prose"] = _prose
    environment.filters["code"] = lambda value: Markup(markdown_code(value))  # noqa: S704
    text = files("trainer.report").joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(text).render(report=report)


def _prose(text: str) -> Markup:
    """Return a sentence in which our own commands and methods stay code, and all else is data."""
    return Markup(_OUR_CODE.sub(r"`\1`", markdown(text)))  # noqa: S704


def report_json(report: Report) -> dict[str, Any]:
    """Return the report without figures as a JSON-ready value, with cells as in the tables."""
    return {
        "out": json_text(report.out),
        "runs": [json_text(run) for run in report.runs],
        "made": report.made,
        "command": json_text(report.command),
        "sections": [
            vars(section)
            | {
                "tables": [
                    vars(table) | {"columns": [column.heading for column in table.columns]}
                    for table in section.tables
                ],
                "pictures": [picture.file for picture in section.pictures],
            }
            for section in report.sections
        ],
    }


def print_report(report: Report, console: Terminal) -> None:
    """Print tables, warnings and notes, and the paths of the files."""
    for section in report.sections:
        _print_section(section, console)
    console.print(styled(f"Report with figures: {report.out / 'report.html'}"), soft_wrap=True)


def _print_section(section: Section, console: Terminal) -> None:
    console.rule(styled(section.heading))
    console.print(styled(section.scope))
    for finding in section.findings:
        console.print(styled(finding, style="bold"))
    for warning in section.warnings:
        console.print(styled(f"Warning: {warning}", style="yellow"))
    for table in section.tables:
        if not table.detail:
            print_table(table, console)
    console.print()
    for note in section.notes:
        console.print(styled(f"• {note}"))
    console.print()


def print_table(table: Table, console: Terminal) -> None:
    """Print a table under its title, in several parts if it is wider than the terminal."""
    console.print()
    console.print(styled(table.title, style="bold"))
    if table.basis:
        console.print(styled(table.basis, style="dim"))
    for grid in _grids(table, console):
        console.print(grid)
    if table.note:
        console.print(styled(table.note, style="dim"))


def _grids(table: Table, console: Terminal) -> Iterator[Grid]:
    """Yield the table in as few parts as the width allows; each starts with the first column.

    A group of columns stays in one part.
    """
    unbounded = console.options.update(max_width=WIDEST)
    part, start = [0], 0
    for _, span in table.groups or [("", 1)] * len(table.columns):
        columns = [index for index in range(start, start + span) if index > 0]
        start += span
        # The least width at which no number of the grid is cut.
        needed = Measurement.get(console, unbounded, _grid(table, [*part, *columns])).minimum
        if len(part) > 1 and needed > console.width:
            yield _grid(table, part)
            part = [0]
        part += columns
    yield _grid(table, part)


def _grid(table: Table, indices: Sequence[int]) -> Grid:
    cells = list(zip(*table.rows, strict=True))
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index in indices:
        column = table.columns[index]
        heading = _heading(column)
        longest = max(map(cell_len, (*heading, *map(printable, cells[index]))))
        grid.add_column(
            styled(*heading),
            justify="right" if column.numeric else "left",
            min_width=longest if column.numeric else min(longest, TEXT_CHARS),
        )
    for row in table.rows:
        grid.add_row(*(styled(row[index]) for index in indices))
    return grid


def _heading(column: Column) -> list[str]:
    """Return group and name in short lines; only a very long word is broken."""
    lines = []
    for text in (printable(column.group), printable(column.name)):
        longest = max(map(len, text.split()), default=0)
        lines += wrap(text, max(HEADING_CHARS, min(longest, WORD_CHARS)))
    return lines
