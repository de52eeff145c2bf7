"""Shared by the commands: consoles, options, executors, and texts about failed clips."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.models import OptionInfo

from featurestore.api import executor_for
from featurestore.program import DATA, MACHINE, OUTPUT
from featurestore.terminal import Terminal, end_stopped
from featurestore.text import quantity

if TYPE_CHECKING:
    from featurestore.building.executors import Executor
    from schemas import FeatureSpec

out = Terminal(soft_wrap=True)
err = Terminal(stderr=True, soft_wrap=True)

SHOWN = 10
"""Maximum number of failures or problems listed before a hint at `--json` or `info`."""
_NAMED = 3


def directory_of(root: Path | None) -> Path | None:
    """Return the directory that paths are relative to; if --root is a file, its parent."""
    return root.parent if root is not None and root.is_file() else root


def complete_dataset(incomplete: str) -> list[str]:
    """Return the datasets whose names begin with a text, for completion by the shell."""
    from featurestore.datasets import known_names

    return [name for name in known_names() if name.startswith(incomplete)]


def audio_root(purpose: str = "") -> OptionInfo:
    """Return the option --root of a command.

    Args:
        purpose: What the command uses the audio for, for the help text.
    """
    option: OptionInfo = typer.Option(
        help=f"Directory of the audio{purpose and ': '}{purpose}.",
        metavar="DIR",
        rich_help_panel=DATA,
        callback=directory_of,
    )
    return option


def output(help_text: str, metavar: str) -> OptionInfo:
    """Return the option --out of a command."""
    option: OptionInfo = typer.Option(
        "--out", help=help_text, metavar=metavar, rich_help_panel=OUTPUT
    )
    return option


StoreArgument = Annotated[str, typer.Argument(help="The store: path or URL.", metavar="STORE")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        help="Path or URL of the store: s3://…, gs://…, az://….",
        metavar="STORE",
        rich_help_panel=DATA,
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        help="Dataset name; required only if the store holds more than one.",
        metavar="NAME",
        rich_help_panel=DATA,
    ),
]
YesOption = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Download missing data without asking.", rich_help_panel=DATA),
]
RootOption = Annotated[Path | None, audio_root()]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Maximum number of local processes; 0 uses only this one. Default: one per core, "
        "but no more than there are blocks.",
        rich_help_panel=MACHINE,
    ),
]


@contextmanager
def stopping(kept: str) -> Iterator[None]:
    """Print what is kept if the command is stopped."""
    try:
        yield
    except KeyboardInterrupt:
        end_stopped(f"{kept}: the same command resumes from there.")


@contextmanager
def choose_executor(
    workers: int | None, scheduler: str | None = None, *, dashboard: bool = False
) -> Iterator["Executor"]:
    """Yield the executor for the blocks, and print where they run; local processes start at once.

    Raises:
        typer.BadParameter: The options contradict each other.
        ClusterError: The cluster does not exist, or has no dashboard.
    """
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("--workers and --scheduler exclude each other")
    if workers == 0 and dashboard:
        raise typer.BadParameter("--dashboard shows worker processes, and --workers 0 starts none")
    with executor_for(workers, scheduler, dashboard=dashboard, console=err) as executor:
        yield executor


def command_line(*words: object) -> str:
    """Return words quoted for a shell."""
    return shlex.join(map(str, words))


def failure_lines(failures: Iterable[tuple[str, str]], num_all: int, where: str) -> Iterator[str]:
    """Yield a line per reason for failed clips, with the first files of each.

    Args:
        failures: Reason and file of the failures that are known.
        num_all: Total number of failures.
        where: Command that lists all of them.
    """
    files = defaultdict(list)
    for reason, file in failures:
        files[reason].append(file)
    hidden = num_all > sum(map(len, files.values()))
    for reason, names in sorted(files.items(), key=lambda item: -len(item[1])):
        more = len(names) - _NAMED
        hidden = hidden or more > 0
        listed = ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        yield f"  {len(names)} × {reason}: {listed}"
    if hidden:
        yield f"  all {num_all} of them: {where}"


def shapes_text(spec: "FeatureSpec") -> str:
    """Return a phrase with the arrays of a spec and their shapes."""
    return ", ".join(f"{key} {'×'.join(map(str, shape))}" for key, shape in spec.arrays.items())


def counted(counts: dict[str, int], num_silent: int | None) -> str:
    """Return a phrase with the number of clips by outcome.

    Args:
        counts: Number of clips by name of outcome.
        num_silent: Number of silent clips among those with features; None if unknown.
    """
    from schemas import ClipStatus

    num_all = sum(counts.values())
    verb = "has" if num_all == 1 else "have"
    parts = [f"{counts.get('ok', 0)} of {quantity(num_all, 'clip')} {verb} features"]
    if num_silent is None:
        parts.append("how many are silent is unknown, for the store is damaged: see `verify`")
    elif num_silent:
        parts.append(f"{num_silent} of them silent, or stereo that cancels to silence")
    if num_failed := sum(n for name, n in counts.items() if ClipStatus[name.upper()].failed):
        parts.append(f"{num_failed} failed")
    if pending := counts.get("pending"):
        parts.append(f"{pending} not built yet")
    return "; ".join(parts)
