"""Names of official splits, and the fold numbers assigned to them."""

from collections.abc import Iterable

from schemas import SPLIT_ROLES, split_role


def is_split(name: str) -> bool:
    """Return whether a name of a directory or a value in a table is that of a split."""
    return split_role(name) is not None


def number_splits(names: Iterable[str]) -> dict[str, int]:
    """Return a fold number, from 1, for each name: training first, then validation, then test."""
    roles = list(SPLIT_ROLES)

    def order(name: str) -> tuple[int, str]:
        role = split_role(name)
        return (len(roles) if role is None else roles.index(role)), name

    return {name: number for number, name in enumerate(sorted(set(names), key=order), start=1)}
