"""The report as Markdown with tables."""

from collections.abc import Iterator

from trainer.report.content import Report, Section, Table


def to_markdown(report: Report) -> str:
    """The whole report; pictures are linked by file name."""
    lines = ["# Training report", ""]
    for section in report.sections:
        lines += _section(section)
    lines += ["## Runs read", "", *(f"* `{path}`" for path in report.runs)]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {_plain(section.heading)}", "")
    for warning in section.warnings:
        yield from (f"> **Warning:** {_plain(warning)}", "")
    for table in section.tables:
        yield from _table(table)
    for picture in section.pictures:
        yield from (f"![{_plain(picture.caption)}]({picture.file})", "")
    yield from ("### How to read this", "")
    yield from (f"* {_plain(note)}" for note in section.notes)
    yield ""


def _table(table: Table) -> Iterator[str]:
    yield from (f"### {_plain(table.title)}", "")
    yield _row([column.heading for column in table.columns])
    yield _row(["---:" if column.numeric else "---" for column in table.columns])
    yield from (_row(row) for row in table.rows)
    yield ""
    if table.note:
        yield from (_plain(table.note), "")


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """Text that ends no cell and opens no tag."""
    return " ".join(text.replace("|", r"\|").replace("<", "&lt;").split())
