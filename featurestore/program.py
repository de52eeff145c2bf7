"""Base of both command-line programs: grouped help, common options, examples."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.abc import MetaPathFinder
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from featurestore.errors import problem_text
from featurestore.terminal import HelpTable, Terminal, end_stopped
from featurestore.text import did_you_mean, mask_url, printable
from featurestore.version import __version__


def _print_version(requested: bool) -> None:
    if requested:
        Terminal(always=True).say(__version__)
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version."),
]


def _mute(requested: bool) -> None:
    Terminal.muted = requested


OUTPUT, DATA, MACHINE = "Output", "Data", "Machine"
"""Names of option groups that both programs have."""
QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_mute,
        help="Print warnings and errors only.",
        rich_help_panel=OUTPUT,
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the result as JSON on standard output.", rich_help_panel=OUTPUT
    ),
]
_METAVARS = {int: "N", float: "X", Path: "PATH", str: "TEXT"}
_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class Group(TyperGroup):
    """A program's commands; usage errors are printable, and a stopped command prints one line."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters; only those for completion take values."""
        params = super().get_params(ctx)
        for param in params:
            param.metavar = ""
        return params

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the options before the command."""
        with _printable_usage():
            return super().make_context(*arguments, **options)

    def invoke(self, context: Any) -> Any:
        """Parse the remaining arguments, and run the command."""
        try:
            with _printable_usage():
                return super().invoke(context)
        except KeyboardInterrupt as stop:
            kept = "What was finished is kept: the same command can be run again."
            end_stopped(" ".join(getattr(stop, "__notes__", [kept])))
        finally:
            Terminal.muted = False  # who calls the program from Python prints on


class Command(TyperCommand):
    """A command whose help shows meaningful placeholders for values instead of Python types.

    Attributes:
        groups: Option group by option, for options that do not name one.
        metavars: Placeholder for the value by option, for options that do not name one.
        loads: Slow module that the command imports, and the line printed before unless it is
            loaded already.
    """

    groups: Mapping[str, str] = {}
    metavars: Mapping[str, str] = {}
    loads = ("", "")

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, each with a group, and with a placeholder unless it is a flag."""
        params: Any = super().get_params(ctx)
        for param in params:
            name = param.opts[0]
            if param.param_type_name == "argument":
                param.display_type_rich = _no_type
                param._usage_display_name = partial(_usage_name, param)
                continue
            if param.metavar is None:
                param.metavar = self.metavars.get(name) or _metavar(param)
            param.rich_help_panel = param.rich_help_panel or self.groups.get(name)
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the arguments; an empty one, such as from an unset variable, is not a value."""
        for before, given in pairwise(["", *args]):
            option = before if before.startswith("--") else given.rstrip("=")
            if not given or re.fullmatch(r"--[a-z-]+=", given):
                message = "expected a value, got an empty text"
                raise typer.BadParameter(message, ctx, param_hint=option or None)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, without cutting names and words off in a narrow terminal."""
        # typer has no setting for it: Rich's tables cut with an ellipsis what does not fit.
        from typer import rich_utils

        rich_utils.Table = HelpTable  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Call the command, and print what is being loaded if that is slow."""
        module, text = self.loads
        if not module or module in sys.modules:
            return super().invoke(ctx)
        announcer = _Announcer(f"{ctx.info_name}: {text}")
        sys.meta_path.insert(0, announcer)
        try:
            return super().invoke(ctx)
        finally:
            announcer.remove()


class _Announcer(MetaPathFinder):
    """Prints a line when the first of the large libraries is imported, which finds it as usual.

    A usage error that a command finds itself, before that, stands alone.
    """

    LARGE = frozenset(("numpy", "torch"))

    def __init__(self, text: str) -> None:
        self._text, self._said = text, False

    def find_spec(self, fullname: str, *_: object) -> None:
        """Say what is being done, once; find nothing."""
        # Python is walking `sys.meta_path`: without this one, it would skip the next.
        if fullname in self.LARGE and not self._said:
            self._said = True
            Terminal(stderr=True).note(self._text)

    def remove(self) -> None:
        """See no more imports."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)


def _usage_name(argument: Any) -> str:
    """Return an argument in a line of usage as other programs show it: `STORE`, `[DATASET]`."""
    name: str = argument.display_name_raw
    return name if argument.required else f"[{name}]"


def _no_type(ctx: object) -> str:
    """Return what is shown of an argument's type: its name says what it is."""
    return ""


def _metavar(option: Any) -> str | None:
    if option.is_flag:
        return ""
    if option.type_descriptor.is_choice:
        return "|".join(map(str, option.type_descriptor.choices))
    annotation = option.type_descriptor.annotation
    (value,) = get_args(annotation) if option.multiple else (annotation,)
    return _METAVARS.get(value)


class Program(typer.Typer):
    """A program whose commands end their help with an example.

    Args:
        groups: Names of options by group in the help, separated by spaces.
        metavars: Placeholders for values by option, if their type does not say enough.
        options: Options of `typer.Typer`.
    """

    def __init__(
        self,
        *,
        groups: Mapping[str, str] | None = None,
        metavars: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            cls=Group,
            no_args_is_help=True,
            pretty_exceptions_enable=False,
            context_settings=_HELP_OPTIONS,
            **options,
        )
        named = {name: group for group, names in (groups or {}).items() for name in names.split()}
        self._tables = {"groups": named, "metavars": metavars or {}}
        self.callback()(_accept_options)

    def add(
        self, function: Callable[..., None], example: str, loads: tuple[str, str] = ("", "")
    ) -> None:
        """Add a command, with an example command line and what it loads; see `Command`."""
        kind = type("Command", (Command,), {**self._tables, "loads": loads})
        self.command(cls=kind, epilog=f"Example: {example}")(function)


def _accept_options(version: VersionOption = False) -> None:
    """Accept options before the command."""


@contextmanager
def _printable_usage() -> Iterator[None]:
    try:
        yield
    except typer.TyperException as error:
        problems = getattr(error.__cause__, "errors", None)  # those of pydantic, in its words
        if problems is not None and hasattr(error, "message"):
            error.message = problem_text(problems(include_url=False)[0])
        if choice := re.fullmatch(r"'(.*)' is not one of ('.*')\.", getattr(error, "message", "")):
            meant = did_you_mean(choice[1], re.findall(r"'([^']*)'", choice[2]), cutoff=0.7)
            error.message = f"{choice[0].removesuffix('.')}{meant or '.'}"
        if isinstance(message := getattr(error, "message", None), str):
            error.message = printable(mask_url(message))
        raise
