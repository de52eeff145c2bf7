"""Parameters of tests over pairs: few by default, all of them among the slow tests."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest


def each_in_turn(
    rows: Iterable[Any], columns: Sequence[Any], name: Callable[[Any], str] = str
) -> list[Any]:
    """Return all pairs; by default a test runs each row with one column, each column in turn."""
    return [
        pytest.param(
            row,
            column,
            id=f"{name(row)}-{name(column)}",
            marks=() if (at + number) % len(columns) == 0 else pytest.mark.slow,
        )
        for at, row in enumerate(rows)
        for number, column in enumerate(columns)
    ]


def by_name(value: Any) -> str:
    """Return what a function, or anything else, is called in the name of a test."""
    return str(getattr(value, "__name__", value)).removeprefix("_")
