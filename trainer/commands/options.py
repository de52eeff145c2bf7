"""Options shared by several commands, each declared once, and groups of them.

A group is a dataclass whose annotated fields are options, as in `trainer.config`. A `grouped`
command takes it as one parameter.
"""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, get_type_hints

import typer
from typer.models import OptionInfo

from schemas import CheckpointName

RunOption = Annotated[Path, typer.Option(help="Directory of a finished run.")]
CheckpointOption = Annotated[
    CheckpointName | None,
    typer.Option(
        help="Networks of the best or of the last epoch. Default: best, or last if none was picked."
    ),
]
StoreOption = Annotated[
    str, typer.Option(help="Path or URL of a store built by `featurestore build`.")
]
FoldOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Held-out fold, by number or name; may be repeated. Default: the official test folds, "
        "or every fold."
    ),
]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the fields of all groups among its parameters as options."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {
        name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)
    }
    options: dict[str, Parameter] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        members = _members(groups[name]) if name in groups else {name: parameter}
        options |= {n: p.replace(kind=Parameter.KEYWORD_ONLY) for n, p in members.items()}

    @wraps(command)
    def call(**values: object) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{member: values.pop(member) for member in _members(kind)})
        command(**values)

    call.__signature__ = inspect.Signature(list(options.values()))  # type: ignore[attr-defined]
    call.__annotations__ = {name: option.annotation for name, option in options.items()}
    return call


def _members(group: type) -> dict[str, Parameter]:
    """Return the fields of a group that are options."""
    hints = get_type_hints(group, include_extras=True)
    return {
        name: parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name])
        for name, parameter in inspect.signature(group).parameters.items()
        if any(isinstance(one, OptionInfo) for one in getattr(hints[name], "__metadata__", ()))
    }
