"""Terminal output of both programs, in which all text is data that cannot control the terminal.

Names come from files, tables, servers and command lines. So nothing is interpreted as markup or
emoji codes, and unsafe characters (see `featurestore.text.printable`) are escaped. This is the only
module that creates consoles and styled texts.
"""

import logging
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn

import rich.table
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn
from rich.text import Text

from featurestore.errors import cause
from featurestore.stopping import INTERRUPTED, PIPE_CLOSED
from featurestore.text import json_document, mask_url, paragraphs, printable

_make_record = logging.getLogRecordFactory()
_format_warning = warnings.formatwarning


def styled(*lines: object, style: str = "") -> Text:
    """Return lines of text, each made printable, in one Rich style."""
    return Text("\n".join(map(printable, lines)), style)


class Terminal(Console):
    """A console that prints every string as plain text on one line.

    Args:
        always: Whether to print with `--quiet` as well: for errors and JSON output.
        options: Arguments of `rich.console.Console`.

    Attributes:
        muted: Whether `--quiet` was given; shared by all consoles of the process.
    """

    muted = False

    def __init__(self, *, always: bool = False, **options: Any) -> None:
        self._always = always
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    @property
    def quiet(self) -> bool:
        """Whether output is suppressed."""
        return Terminal.muted and not self._always

    @quiet.setter
    def quiet(self, value: bool) -> None:
        """Ignore the value that Rich sets in its constructor."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a string, such as a table cell, to printable text."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Exit like a program killed by SIGPIPE: the reader of its output has closed the pipe."""
        # What is still buffered must go somewhere, or Python complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(PIPE_CLOSED)

    def say(self, *lines: object, style: str = "") -> None:
        """Print lines without wrapping or cropping them."""
        for line in lines:
            self.print(styled(line, style=style), soft_wrap=True)

    def rule(self, title: str | Text = "", **options: Any) -> None:
        """Print a title in a rule across the terminal; without the rule if that would cut it."""
        text = styled(title)
        if text.cell_len > self.width - 4:  # as much as Rich needs for the rule
            self.say(text)
        else:
            super().rule(text, **options)

    def warn(self, message: object) -> None:
        """Print a one-line warning, with credentials in URLs masked; also with `--quiet`."""
        with self._aloud():
            self.say(f"warning: {mask_url(message)}", style="yellow")

    def note(self, message: object, style: str = "") -> None:
        """Print a status message, with credentials in URLs masked."""
        self.say(mask_url(message), style=style)

    def suggest(self, *words: object) -> None:
        """Print a suggestion for the next command, quoted for a shell."""
        self.note(f"next: {shlex.join(map(str, words))}", style="dim")

    @contextmanager
    def _aloud(self) -> Iterator[None]:
        before, self._always = self._always, True
        try:
            yield
        finally:
            self._always = before

    def write(self, text: str) -> None:
        """Print a document of several lines unchanged, except for unsafe characters."""
        self.print(Text(paragraphs(text)), soft_wrap=True, end="")

    def write_json(self, value: object) -> None:
        """Print a value as a JSON document; also with `--quiet`."""
        with self._aloud():
            self.write(json_document(value))


class Table(rich.table.Table):
    """A table in which words that do not fit are folded and not cut."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row."""
        super().add_row(*cells, **options)
        for column in self.columns:
            column.overflow = "fold"


class HelpTable(Table):
    """A table of a command's options, whose names stay whole."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add an option: its names, its value and its text."""
        super().add_row(*cells, **options)
        for part in (part for cell in cells for part in getattr(cell, "renderables", ())):
            part.overflow = "fold"
        for column in self.columns[:-2]:
            column.no_wrap = True


class Label(TextColumn):
    """A column of a progress bar that shows a field of its task as plain text.

    Args:
        field: `description`, or the name of a field passed to `add_task`.
    """

    def __init__(self, field: str = "description") -> None:
        super().__init__("", markup=False)
        self._field = field

    def render(self, task: Task) -> Text:
        """Return the field as plain text."""
        is_description = self._field == "description"
        return styled(task.description if is_description else task.fields[self._field])


class Bars(Progress):
    """Bars that become shorter where a line is too narrow; nothing else in it is cut."""

    def make_tasks_table(self, tasks: Iterable[Task]) -> rich.table.Table:
        """Return the bars as a table, a row each."""
        table = super().make_tasks_table(tasks)
        for column, drawn in zip(self.columns, table.columns, strict=True):
            drawn.no_wrap = not isinstance(column, BarColumn)
        return table


def end_stopped(kept: str) -> NoReturn:
    """Exit after a command was stopped.

    Args:
        kept: Sentence on what is kept and how to resume.

    Raises:
        typer.Exit: Always, with INTERRUPTED.
    """
    sys.stdout.flush()
    Terminal(stderr=True, always=True).say("", f"stopped. {kept}")
    raise typer.Exit(INTERRUPTED) from None


def print_error(error: object) -> None:
    """Print an error as one line on standard error, with credentials in URLs masked."""
    console = Terminal(stderr=True, always=True)
    # Libraries lay out what they say in indented lines; a line break in a name is shown.
    message = re.sub(r"\n[ \t]+", " ", mask_url(error))
    line = styled("error: ", style="red").append_text(styled(message))
    console.print(line, soft_wrap=True)


def print_os_error(error: OSError) -> None:
    """Print a system error about a path, such as one that is too long.

    Raises:
        OSError: The same error, if it does not name a file.
    """
    if error.filename is None or error.strerror is None:
        raise error
    print_error(f"{os.fsdecode(error.filename)}: {cause(error)}")


def harden() -> None:
    """Make output that does not go through our consoles safe, too.

    Characters missing in the output's encoding are escaped instead of raising an error; warnings
    and logs of libraries and tracebacks are made printable, with credentials in URLs masked.
    """
    Terminal.muted = False  # as a program may be called several times by one process
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    warnings.formatwarning = _printable_warning
    logging.setLogRecordFactory(_printable_record)
    sys.excepthook = _print_traceback


def _safe(text: str) -> str:
    return paragraphs(mask_url(text))


def _printable_warning(*arguments: Any, **options: Any) -> str:
    return _safe(_format_warning(*arguments, **options))


def _printable_record(*arguments: Any, **options: Any) -> logging.LogRecord:
    record = _make_record(*arguments, **options)
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - a malformed call of a library; logging itself tells of it
        return record
    if message != _safe(message):
        record.msg, record.args = _safe(message), ()
    if record.exc_info and record.exc_info[0]:
        record.exc_text = _safe("".join(traceback.format_exception(*record.exc_info))).rstrip()
    return record


def _print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.stderr.write(_safe("".join(traceback.format_exception(kind, error, trace))))


__all__ = [
    "Bars",
    "Label",
    "Table",
    "Terminal",
    "end_stopped",
    "harden",
    "print_error",
    "print_os_error",
    "styled",
]
