"""A finished dataset of a store for its users: arrays, tables, a summary, pictures."""

from collections.abc import Callable, Iterable

Watch = Callable[[Iterable[None], int], Iterable[None]]
"""Shows the progress of reading a store: hands on an item per chunk that is read, of how many."""
