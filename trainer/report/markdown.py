"""The report as Markdown with tables."""

import re
from collections.abc import Iterator

from featurestore.text import markdown, markdown_code
from trainer.report.content import Report, Section, Table

_OUR_CODE = re.compile(r"\\`(control|(?:trainer|featurestore) [a-z-]+)\\`")


def to_markdown(report: Report) -> str:
    """Return the whole report; pictures are linked by file name."""
    lines = ["# Training report", ""]
    for section in report.sections:
        lines += _section(section)
    lines += ["## Runs read", "", *(f"* {markdown_code(path)}" for path in report.runs)]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {markdown(section.heading)}", "")
    for warning in section.warnings:
        yield from (f"> **Warning:** {_prose(warning)}", "")
    for table in section.tables:
        yield from _table(table)
    for picture in section.pictures:
        yield from (f"![{markdown(picture.caption)}]({picture.file})", "")
    yield from ("### How to read this", "")
    yield from (f"* {_prose(note)}" for note in section.notes)
    yield ""


def _table(table: Table) -> Iterator[str]:
    yield from (f"### {markdown(table.title)}", "")
    yield _row([column.heading for column in table.columns])
    yield f"| {' | '.join('---:' if one.numeric else '---' for one in table.columns)} |"
    yield from (_row(row) for row in table.rows)
    yield ""
    if table.note:
        yield from (_prose(table.note), "")


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(map(markdown, cells))} |"


def _prose(text: str) -> str:
    """Return a sentence in which our own commands and methods stay code, and all else is data."""
    return _OUR_CODE.sub(r"`\1`", markdown(text))
