"""The terminal of both programs: whatever is printed here is data, and cannot act on the terminal.

Names reach it from files, tables, servers and command lines. So nothing is markup, no `:dog:` is an
emoji, and what `featurestore.text.printable` calls unsafe is shown as an escape. Nothing else
prints: this is the only module that makes a console or a styled text.
"""

import logging
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Task, TextColumn
from rich.table import Table
from rich.text import Text

from featurestore.errors import cause
from featurestore.stopping import INTERRUPTED, PIPE_CLOSED
from featurestore.text import json_document, mask_url, paragraphs, printable

_make_record = logging.getLogRecordFactory()
_format_warning = warnings.formatwarning


def styled(*lines: object, style: str = "") -> Text:
    """Return lines of text, each made printable, in one style of Rich."""
    return Text("\n".join(map(printable, lines)), style)


class Terminal(Console):
    """A console for which every string is plain text of one line.

    Args:
        always: Print also under `--quiet`: errors, and what was asked for as JSON.
        options: Those of `rich.console.Console`.

    Attributes:
        muted: Whether `--quiet` was given, which holds for all consoles of the process.
    """

    muted = False

    def __init__(self, *, always: bool = False, **options: Any) -> None:
        self._always = always
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    @property
    def quiet(self) -> bool:
        """Whether nothing is printed."""
        return Terminal.muted and not self._always

    @quiet.setter
    def quiet(self, value: bool) -> None:
        """Ignore what Rich sets as it starts."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a string, also the cell of a table, a text that can be printed."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """End the program as SIGPIPE ends others: who read its output wants no more of it."""
        # What is still buffered must go somewhere, or Python complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(PIPE_CLOSED)

    def say(self, *lines: object, style: str = "") -> None:
        """Print lines, none of which is wrapped or cut."""
        for line in lines:
            self.print(styled(line, style=style), soft_wrap=True)

    def warn(self, message: object) -> None:
        """Print a warning of one line, without the secrets of addresses; also under `--quiet`."""
        with self._aloud():
            self.say(f"warning: {mask_url(message)}", style="yellow")

    def note(self, message: object, style: str = "") -> None:
        """Print what is being done, without the secrets of addresses."""
        self.say(mask_url(message), style=style)

    def suggest(self, *words: object) -> None:
        """Print the command that one may want next, as a shell takes it."""
        self.note(f"next: {shlex.join(map(str, words))}", style="dim")

    @contextmanager
    def _aloud(self) -> Iterator[None]:
        before, self._always = self._always, True
        try:
            yield
        finally:
            self._always = before

    def write(self, text: str) -> None:
        """Print a document of several lines as it is, but for what is unsafe in a terminal."""
        self.print(Text(paragraphs(text)), soft_wrap=True, end="")

    def write_json(self, value: object) -> None:
        """Print a value as a JSON document; also under `--quiet`."""
        with self._aloud():
            self.write(json_document(value))


class Label(TextColumn):
    """A column of a progress bar that is a field of its task.

    Args:
        field: `description`, or the name of a field that `add_task` was given.
    """

    def __init__(self, field: str = "description") -> None:
        super().__init__("", markup=False)
        self._field = field

    def render(self, task: Task) -> Text:
        """Show it as plain text."""
        is_description = self._field == "description"
        return styled(task.description if is_description else task.fields[self._field])


def end_stopped(kept: str) -> NoReturn:
    """End a stopped command.

    Args:
        kept: What is kept, and how to resume: a sentence.

    Raises:
        typer.Exit: Always, with INTERRUPTED.
    """
    sys.stdout.flush()
    Terminal(stderr=True, always=True).say("", f"stopped. {kept}")
    raise typer.Exit(INTERRUPTED) from None


def print_error(error: object) -> None:
    """Print what went wrong as one line on standard error, without the secrets of addresses."""
    console = Terminal(stderr=True, always=True)
    # Libraries lay out what they say in indented lines; a line break in a name is shown.
    message = re.sub(r"\n[ \t]+", " ", mask_url(error))
    line = styled("error: ", style="red").append_text(styled(message))
    console.print(line, soft_wrap=True)


def print_os_error(error: OSError) -> None:
    """Print what the system refused, such as a path that is too long.

    Raises:
        OSError: The same, where it names no file: it is no path of the user's.
    """
    if error.filename is None or error.strerror is None:
        raise error
    print_error(f"{os.fsdecode(error.filename)}: {cause(error)}")


def harden() -> None:
    """Make what this process prints safe where no console of ours has a say.

    Output in an encoding that lacks a character gets an escape instead of an exception; warnings of
    libraries, their logs and the traceback of an unforeseen error become printable, and addresses
    in them lose their secrets.
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
    "Label",
    "Table",
    "Terminal",
    "end_stopped",
    "harden",
    "print_error",
    "print_os_error",
    "styled",
]
