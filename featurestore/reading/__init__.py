"""Use of a complete dataset: summaries, comparisons, exports, figures."""

from collections.abc import Callable, Iterable

Watch = Callable[[Iterable[None], int], Iterable[None]]
"""Function that shows the progress of reading: passes on an iterable with one item per chunk, given
their number."""
