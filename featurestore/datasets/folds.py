"""Folds for a collection that has none: classes spread evenly, and no group in two folds.

A greedy method in the order of size: what is large and hard to place comes first, and single clips
fill up what is left uneven. It takes a few seconds for a million clips.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DatasetError

_MOST_NAMED = 3


@dataclass(frozen=True)
class MadeFolds:
    """Folds that were made.

    Attributes:
        folds: (n,) int64, from 1.
        warnings: Classes that cannot be in every fold.
    """

    folds: NDArray[np.int64]
    warnings: tuple[str, ...]


def make_folds(
    class_ids: NDArray[np.int64],
    groups: NDArray[np.int64],
    num_folds: int,
    seed: int = 0,
    class_names: tuple[str, ...] = (),
) -> MadeFolds:
    """Spread clips over folds, stratified by class; all clips of a group are in one fold.

    Args:
        class_ids: (n,) from 0.
        groups: (n,) number of each clip's group, from 0 without gaps.
        num_folds: From 2.
        seed: Seed of the order among groups of one size.
        class_names: For the warnings.

    Raises:
        DatasetError: There are fewer groups than folds.
    """
    num_groups = int(groups.max()) + 1
    if num_groups < num_folds:
        raise DatasetError(
            f"{num_folds} folds need as many groups of clips that belong together, and there are "
            f"{num_groups}; make fewer folds, or group by another column"
        )
    # Groups of one size are placed in a random order.
    shuffled = np.random.default_rng(seed).permutation(num_groups)[groups]
    places = _place(class_ids, shuffled, num_groups, num_folds)
    return MadeFolds(places[shuffled] + 1, tuple(_rare(class_ids, groups, num_folds, class_names)))


def _place(
    class_ids: NDArray[np.int64], groups: NDArray[np.int64], num_groups: int, num_folds: int
) -> NDArray[np.int64]:
    """Return the fold of each group, from 0."""
    num_classes = int(class_ids.max()) + 1
    pairs, sizes = np.unique(groups * num_classes + class_ids, return_counts=True)
    of_group, of_class = pairs // num_classes, pairs % num_classes
    group_sizes = np.bincount(groups, minlength=num_groups)
    starts = np.searchsorted(of_group, np.arange(num_groups + 1)).tolist()
    totals = np.bincount(class_ids, minlength=num_classes).tolist()
    # One clip of a rare class counts as much as many of a frequent one.
    weights = [1 / total**2 if total else 0.0 for total in totals]
    counts = [[0.0] * num_folds for _ in range(num_classes)]
    filled = [0.0] * num_folds
    # So little that it decides only where the classes do not: folds of the same size.
    small = 1e-6 / len(class_ids) ** 2
    places = np.zeros(num_groups, np.int64)
    classes, amounts = of_class.tolist(), sizes.tolist()
    for group in np.argsort(-group_sizes, kind="stable").tolist():
        first, stop, size = starts[group], starts[group + 1], float(group_sizes[group])
        if size == 1:
            break
        costs = [small * size * level for level in filled]
        for row in range(first, stop):
            class_id, amount = classes[row], amounts[row]
            weight = weights[class_id] * amount
            costs = [c + weight * level for c, level in zip(costs, counts[class_id], strict=True)]
        best = costs.index(min(costs))
        places[group] = best
        filled[best] += size
        for row in range(first, stop):
            counts[classes[row]][best] += amounts[row]
    single = np.flatnonzero(group_sizes == 1)
    levels = np.array(counts, np.int64)
    _fill(places, single, of_class[np.array(starts)[single]], levels, np.array(filled, np.int64))
    return places


def _fill(
    places: NDArray[np.int64],
    single: NDArray[np.int64],
    class_ids: NDArray[np.int64],
    levels: NDArray[np.int64],
    filled: NDArray[np.int64],
) -> None:
    """Place groups of one clip: each where its class has the fewest, then where the fewest are."""
    for class_id in np.unique(class_ids):
        members = single[class_ids == class_id]
        taken = _lowest_slots(levels[class_id], filled, len(members))
        places[members] = np.repeat(np.arange(len(filled)), taken)
        filled += taken


def _lowest_slots(
    levels: NDArray[np.int64], filled: NDArray[np.int64], num_clips: int
) -> NDArray[np.int64]:
    """Return how many of the clips each fold gets, so that the lowest levels are raised first."""
    order = np.lexsort((filled, levels))
    heights = levels[order]
    taken = np.zeros(len(levels), np.int64)
    left = num_clips
    for count in range(1, len(order) + 1):
        lowest = order[:count]
        ceiling = heights[count] if count < len(order) else None
        level = levels[lowest[0]] + taken[lowest[0]]
        room = left if ceiling is None else min(left, int(ceiling - level) * count)
        even, rest = divmod(room, count)
        taken[lowest] += even
        left -= even * count
        if left and (ceiling is None or rest):
            emptiest = lowest[np.argsort((filled + taken)[lowest], kind="stable")][:rest]
            taken[emptiest] += 1
            left -= rest
        if not left:
            break
    return taken


def _rare(
    class_ids: NDArray[np.int64],
    groups: NDArray[np.int64],
    num_folds: int,
    class_names: tuple[str, ...],
) -> Iterator[str]:
    """Yield a warning if classes are in fewer groups than there are folds."""
    num_classes = int(class_ids.max()) + 1
    pairs = np.unique(groups * num_classes + class_ids)
    numbers = np.bincount(pairs % num_classes, minlength=num_classes)
    rare = np.flatnonzero((numbers > 0) & (numbers < num_folds))
    if not rare.size:
        return
    named = (
        f"{class_names[c] if class_names else c} ({numbers[c]})"
        for c in rare[:_MOST_NAMED].tolist()
    )
    more = f" and {rare.size - _MOST_NAMED} more" if rare.size > _MOST_NAMED else ""
    yield (
        f"{rare.size} {'class is' if rare.size == 1 else 'classes are'} in fewer than {num_folds} "
        f"groups, so some folds have none of {'it' if rare.size == 1 else 'them'}: "
        f"{', '.join(named)}{more}"
    )
