"""The report as tables in a terminal."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement

from featurestore.terminal import Table as Grid
from featurestore.terminal import styled
from featurestore.text import printable
from trainer.report.content import Column, Report, Section, Table

HEADING_CHARS = 8
TEXT_CHARS = 28
WORD_CHARS = 20
WIDEST = 10_000


def print_report(report: Report, console: Console) -> None:
    """Print the tables, warnings and notes, and where the files are."""
    for section in report.sections:
        _print_section(section, console)
    console.print(styled(f"Report with figures: {report.out / 'report.html'}"), soft_wrap=True)


def _print_section(section: Section, console: Console) -> None:
    console.rule(styled(section.heading))
    for warning in section.warnings:
        console.print(styled(f"Warning: {warning}", style="yellow"))
    for table in section.tables:
        print_table(table, console)
    console.print()
    for note in section.notes:
        console.print(styled(f"• {note}"))
    console.print()


def print_table(table: Table, console: Console) -> None:
    """Print a table under its title, in as many parts as the width asks for."""
    console.print()
    console.print(styled(table.title, style="bold"))
    for grid in _grids(table, console):
        console.print(grid)
    if table.note:
        console.print(styled(table.note, style="dim"))


def _grids(table: Table, console: Console) -> Iterator[Grid]:
    """Yield the table in as few parts as the width allows; each starts with the first column.

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
    """Return the least width at which no number of the grid is cut."""
    unbounded = console.options.update(max_width=WIDEST)
    return Measurement.get(console, unbounded, grid).minimum


def _together(table: Table) -> Iterator[list[int]]:
    """Yield indices of the columns after the first, by group; one by one if there are no groups."""
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
