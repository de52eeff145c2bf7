"""Argument checks of public functions: a wrong type is refused in a message of one line.

Arguments are checked against the type annotations of the parameters. Only types are checked here;
whether a fold or a path exists is checked by the function itself.
"""

import inspect
import operator
import os
import reprlib
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, wraps
from numbers import Real
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    SupportsIndex,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from featurestore.errors import ArgumentError

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)
_WORDS: Mapping[Any, tuple[str, str]] = {
    str: ("a text", "texts"),
    int: ("a whole number", "whole numbers"),
    SupportsIndex: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("True or False", "booleans"),
    Path: ("a path", "paths"),
    os.PathLike: ("a path", "paths"),
    type(None): ("None", "None"),
    Callable: ("a function", "functions"),
}
_PLURAL = (Iterable, Collection, Sequence, list, tuple)
"""Types whose items are checked, too."""
_MAGIC = ("__init__", "__call__")
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


def typed(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function refuse arguments whose types differ from its annotations.

    A string or `os.PathLike` is accepted as a `Path`; items of an iterator are checked as they are
    consumed.

    Raises:
        ArgumentError: Raised by the decorated function; names the argument, the expected type and
            the value.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # whose message names the function
        hints = _hints(function)
        for name, value in bound.arguments.items():
            if name in hints:
                bound.arguments[name] = _taken(name, value, hints[name])
        return function(*bound.args, **bound.kwargs)

    return call


def typed_methods(kind: C) -> C:
    """Make the constructor and the public methods of a class check their arguments."""
    for name, member in list(vars(kind).items()):
        if isinstance(member, types.FunctionType) and (name in _MAGIC or name[0] != "_"):
            setattr(kind, name, typed(member))
    return kind


@cache
def _hints(function: Callable[..., object]) -> dict[str, Any]:
    """Return the types of a function's parameters; those of `*` and `**` are not looked at."""
    annotations = {
        name: kind for name, kind in function.__annotations__.items() if name != "return"
    }
    holder = types.SimpleNamespace(__annotations__=annotations)
    hints = get_type_hints(holder, function.__globals__)
    packed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return {p.name: hints[p.name] for p in parameters if p.name in hints and p.kind not in packed}


def _taken(name: str, value: Any, hint: Any) -> Any:  # noqa: ANN401 (whatever is given)
    """Return an argument as the function takes it.

    Raises:
        ArgumentError: It is of another type.
    """
    kinds = _alternatives(hint)
    if Path in kinds and not (isinstance(value, str) and str in kinds):  # a text may be a URL
        value = _as_path(value)
    if isinstance(value, Iterator) and Any not in kinds:
        if not any(_origin(one) in _PLURAL for one in kinds):
            raise _refusal(name, value, hint)
        value = tuple(value)
    if not _fits(value, hint):
        raise _refusal(name, value, hint)
    return value


def _as_path(value: Any) -> Any:  # noqa: ANN401
    """Return a text, or whatever stands for a path, as a path; anything else as it is."""
    if isinstance(value, Path) or not isinstance(value, str | os.PathLike):
        return value
    place = os.fspath(value)
    return Path(place) if place and isinstance(place, str) else value


def _refusal(name: str, value: object, hint: Any) -> ArgumentError:  # noqa: ANN401
    return ArgumentError(f"{name}: expected {_described(hint)}, got {_REPR.repr(value)}")


def _alternatives(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _origin(hint: Any) -> Any:  # noqa: ANN401
    return get_origin(hint) or hint


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401
    """Return whether a value is of a type, or of one of its alternatives."""
    several = _alternatives(hint)
    if len(several) > 1:
        return any(_fits(value, one) for one in several)
    (hint,) = several
    origin, inner = _origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar | str):
        return True
    if origin is Literal:
        return any(isinstance(value, type(one)) and bool(value == one) for one in inner)
    if hint is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")
    if hint in (int, SupportsIndex):
        return _is_whole(value)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if origin in _PLURAL:
        is_text = isinstance(value, str | bytes | os.PathLike | Mapping)
        if is_text or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
            return False
        return not inner or all(_fits(item, inner[0]) for item in value)
    if getattr(origin, "_is_protocol", False) and origin.__module__ not in ("typing", "os"):
        return all(hasattr(value, member) for member in vars(origin) if member[0] != "_")
    return isinstance(value, origin) if isinstance(origin, type) else True


def _is_whole(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return False
    try:
        operator.index(value)
    except TypeError:  # an array, which is one of several numbers
        return False
    return True


def _described(hint: Any, *, plural: bool = False) -> str:  # noqa: ANN401
    """Return a type in words."""
    words = list(dict.fromkeys(_word(one, plural=plural) for one in _alternatives(hint)))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _word(hint: Any, *, plural: bool) -> str:  # noqa: ANN401
    origin, inner = _origin(hint), get_args(hint)
    if origin in _WORDS:
        return _WORDS[origin][plural]
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin in _PLURAL:
        return f"a list of {_described(inner[0], plural=True)}" if inner else "a list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    name = getattr(origin, "__name__", str(origin))
    return name if plural else f"a{'n' * (name[0] in 'AEIOU')} {name}"
