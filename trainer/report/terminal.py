"""The report as tables in a terminal."""

from collections.abc import Iterator, Sequence
from textwrap import fill

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

from trainer.report.content import Column, Report, Section, Table

HEADING_CHARS = 8
TEXT_CHARS = 28
WIDEST = 10_000


def print_report(report: Report, console: Console) -> None:
    """Print the tables, warnings and notes, and where the files are."""
    for section in report.sections:
        _print_section(section, console)
    console.print(Text(f"Report with figures: {report.out / 'report.html'}"), soft_wrap=True)


def _print_section(section: Section, console: Console) -> None:
    console.rule(Text(section.heading))
    for warning in section.warnings:
        console.print(Text(f"Warning: {warning}", style="yellow"))
    for table in section.tables:
        print_table(table, console)
    console.print()
    for note in section.notes:
        console.print(Text(f"• {note}"))
    console.print()


def print_table(table: Table, console: Console) -> None:
    """Print a table under its title, in as many parts as the width asks for."""
    console.print(Text(f"\n{table.title}", style="bold"))
    for grid in _grids(table, console):
        console.print(grid)
    if table.note:
        console.print(Text(table.note, style="dim"))


def _grids(table: Table, console: Console) -> Iterator[Grid]:
    """The table in as few parts as the width allows; each starts with the first column.

    A group of columns stays in one part.
    """
    part = [0]
    for columns in _together(table):
        if len(part) > 1 and _needed(_grid(table, [*part, *columns]), console) > console.width:
            yield _grid(table, part)
            part = [0]
        part += columns
    yield _grid(table, part)


def _needed(grid: Grid, console: Console) -> int:
    """The least width at which no number of the grid is cut."""
    unbounded = console.options.update(max_width=WIDEST)
    return Measurement.get(console, unbounded, grid).minimum


def _together(table: Table) -> Iterator[list[int]]:
    """Indices of the columns after the first, by group; one by one where there are no groups."""
    start = 0
    for _, span in table.groups or [("", 1)] * len(table.columns):
        yield [index for index in range(start, start + span) if index > 0]
        start += span


def _grid(table: Table, indices: Sequence[int]) -> Grid:
    cells = list(zip(*table.rows, strict=True))
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index in indices:
        column = table.columns[index]
        heading = _heading(column)
        longest = max(len(text) for text in (*heading.split("\n"), *cells[index]))
        grid.add_column(
            Text(heading),
            justify="right" if column.numeric else "left",
            min_width=longest if column.numeric else min(longest, TEXT_CHARS),
        )
    for row in table.rows:
        grid.add_row(*(Text(row[index]) for index in indices))
    return grid


def _heading(column: Column) -> str:
    """Group and name in short lines."""
    lines = [
        fill(text, HEADING_CHARS, break_long_words=False)
        for text in (column.group, column.name)
        if text
    ]
    return "\n".join(lines)
