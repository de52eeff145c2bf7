"""The terminal of both programs: whatever is printed here is data, and cannot act on the terminal.

Names reach it from files, tables, servers and command lines. So nothing is markup, no `:dog:` is an
emoji, and what `featurestore.text.printable` calls unsafe is shown as an escape. Nothing else
prints: this is the only module that makes a console or a styled text.
"""

import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Task, TextColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from featurestore.stopping import INTERRUPTED
from featurestore.text import json_document, mask_url, paragraphs, printable
from featurestore.version import __version__

_make_record = logging.getLogRecordFactory()
_format_warning = warnings.formatwarning


def styled(*lines: object, style: str = "") -> Text:
    """Return lines of text, each made printable, in one style of Rich."""
    return Text("\n".join(map(printable, lines)), style)


class Terminal(Console):
    """A console for which every string is plain text of one line.

    Args:
        options: Those of `rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a string, also the cell of a table, a text that can be printed."""
        return super().render_str(printable(text), **options)

    def say(self, *lines: object, style: str = "") -> None:
        """Print lines, none of which is wrapped or cut."""
        for line in lines:
            self.print(styled(line, style=style), soft_wrap=True)

    def warn(self, message: object) -> None:
        """Print a warning of one line, without the secrets of addresses."""
        self.say(f"warning: {mask_url(message)}", style="yellow")

    def write(self, text: str) -> None:
        """Print a document of several lines as it is, but for what is unsafe in a terminal."""
        self.print(Text(paragraphs(text)), soft_wrap=True, end="")

    def write_json(self, value: object) -> None:
        """Print a value as a JSON document."""
        self.write(json_document(value))


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version."),
]
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


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


class Group(TyperGroup):
    """A program's commands: usage errors are printable, and a stopped command ends in a line."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the options before the command."""
        with _printable_usage():
            return super().make_context(*arguments, **options)

    def invoke(self, context: Any) -> Any:
        """Parse the rest, and run the command."""
        try:
            with _printable_usage():
                return super().invoke(context)
        except KeyboardInterrupt:
            end_stopped("What was finished is kept: the same command can be run again.")


@contextmanager
def _printable_usage() -> Iterator[None]:
    try:
        yield
    except typer.TyperException as error:
        if isinstance(message := getattr(error, "message", None), str):
            error.message = printable(mask_url(message))
        raise


def end_stopped(kept: str) -> NoReturn:
    """End a stopped command.

    Args:
        kept: What is kept, and how to resume: a sentence.

    Raises:
        typer.Exit: Always, with INTERRUPTED.
    """
    sys.stdout.flush()
    Terminal(stderr=True).say("", f"stopped. {kept}")
    raise typer.Exit(INTERRUPTED) from None


def print_error(error: object) -> None:
    """Print what went wrong as one line on standard error, without the secrets of addresses."""
    console = Terminal(stderr=True)
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
    print_error(f"{os.fsdecode(error.filename)}: {error.strerror}")


def harden() -> None:
    """Make what this process prints safe where no console of ours has a say.

    Output in an encoding that lacks a character gets an escape instead of an exception; warnings of
    libraries, their logs and the traceback of an unforeseen error become printable, and addresses
    in them lose their secrets.
    """
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
    "HELP_OPTIONS",
    "Group",
    "Label",
    "Table",
    "Terminal",
    "VersionOption",
    "end_stopped",
    "harden",
    "print_error",
    "print_os_error",
    "styled",
]
