"""Contents of a report, in no particular format: text cells, pictures, lines of prose.

The renderers (`markdown`, `page`, `terminal`) all show the same content.
"""

from dataclasses import dataclass
from pathlib import Path

from schemas import Selection


@dataclass(frozen=True)
class Column:
    """A column's heading; neighbours of one group share the group's heading."""

    name: str
    group: str = ""
    numeric: bool = True

    @property
    def heading(self) -> str:
        """Both headings in one line."""
        return f"{self.group} {self.name}".strip()


@dataclass(frozen=True)
class Table:
    """A table of finished text cells; each row has one cell per column."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Return the groups in order, with the number of columns of each; may be empty.

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
    """A figure as PNG, its file name in the report's folder, and what it shows in words."""

    file: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Section:
    """All about one dataset and one way of picking networks, which the heading says.

    `warnings` come first, `notes` say how to read the tables.
    """

    dataset: str
    selection: Selection
    heading: str
    warnings: tuple[str, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Report:
    """The sections, the runs they were made from, and the folder they were written to."""

    out: Path
    sections: tuple[Section, ...]
    runs: tuple[Path, ...]
