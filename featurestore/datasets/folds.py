"""Folds for a collection without any: stratified by class, with no group in two folds.

A greedy method in order of size: large groups, which are hard to place, come first, and single
clips even out the rest. It takes a few seconds for a million clips. If clips have several labels,
groups are placed by iterative stratification.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DatasetError

_MOST_NAMED = 3


@dataclass(frozen=True)
class MadeFolds:
    """Result of making folds.

    Attributes:
        folds: (n,) int64, fold of each clip, from 1.
        warnings: Messages about classes that cannot be in every fold.
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
    """Assign clips to folds, stratified by class; all clips of a group are in one fold.

    Args:
        class_ids: (n,) int64, class of each clip, from 0.
        groups: (n,) int64, group of each clip, numbered from 0 without gaps.
        num_folds: Number of folds, at least 2.
        seed: Random seed of the order among groups of equal size.
        class_names: Class names, for the warnings.

    Raises:
        DatasetError: There are fewer groups than folds.
    """
    num_groups = _count_groups(groups, num_folds)
    # Groups of one size are placed in a random order.
    shuffled = np.random.default_rng(seed).permutation(num_groups)[groups]
    places = _place(class_ids, shuffled, num_groups, num_folds)
    return MadeFolds(places[shuffled] + 1, tuple(_rare(groups, class_ids, num_folds, class_names)))


def make_multilabel_folds(
    labels: NDArray[np.uint8],
    groups: NDArray[np.int64],
    num_folds: int,
    seed: int = 0,
    class_names: tuple[str, ...] = (),
) -> MadeFolds:
    """Assign clips with several labels or none to folds; all clips of a group are in one fold.

    Iterative stratification with one row per group: the class with the fewest unplaced clips comes
    first, and each group with clips of it, the largest first, goes to the fold with the fewest
    clips of that class; among several such folds, to the one with the fewest clips.

    Source: K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the Stratification of Multi-label Data",
    ECML PKDD 2011, algorithm 1, for folds of the same size.

    Args:
        labels: (n, classes) uint8, multi-hot.
        groups: (n,) int64, group of each clip, numbered from 0 without gaps.
        num_folds: Number of folds, at least 2.
        seed: Random seed of the order among groups with equally many clips of a class.
        class_names: Class names, for the warnings.

    Raises:
        DatasetError: There are fewer groups than folds.
    """
    num_groups = _count_groups(groups, num_folds)
    shuffled = np.random.default_rng(seed).permutation(num_groups)[groups]
    rows, class_ids = np.nonzero(labels)
    places = _place_iteratively(shuffled[rows], class_ids, np.bincount(shuffled), num_folds)
    rare = _rare(groups[rows], class_ids, num_folds, class_names)
    return MadeFolds(places[shuffled] + 1, tuple(rare))


def _count_groups(groups: NDArray[np.int64], num_folds: int) -> int:
    num_groups = int(groups.max()) + 1
    if num_groups < num_folds:
        raise DatasetError(
            f"{num_folds} folds need as many groups of clips that belong together, and there are "
            f"{num_groups}; make fewer folds, or group by another column"
        )
    return num_groups


def _place_iteratively(
    groups: NDArray[np.int64],
    class_ids: NDArray[np.int64],
    group_sizes: NDArray[np.int64],
    num_folds: int,
) -> NDArray[np.int64]:
    """Return the fold of each group, from 0.

    Args:
        groups: (m,) group of each label of each clip.
        class_ids: (m,) class of each label of each clip.
        group_sizes: (groups,) number of clips.
        num_folds: Number of folds.
    """
    num_classes = int(class_ids.max(initial=0)) + 1
    # A row per group and class, with the number of clips: sorted by group, and again by class.
    pairs, amounts = np.unique(groups * num_classes + class_ids, return_counts=True)
    of_group, of_class = pairs // num_classes, pairs % num_classes
    starts = np.searchsorted(of_group, np.arange(len(group_sizes) + 1))
    by_class = np.lexsort((of_group, -amounts, of_class))
    class_starts = np.searchsorted(of_class[by_class], np.arange(num_classes + 1))
    left = np.bincount(of_class, amounts, num_classes).astype(np.int64)
    places = np.full(len(group_sizes), -1, np.int64)
    counts = [[0] * num_folds for _ in range(num_classes)]
    filled = [0] * num_folds
    first, sizes = starts.tolist(), group_sizes.tolist()
    classes, numbers = of_class.tolist(), amounts.tolist()
    folds = range(num_folds)
    while left.any():
        rarest = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        level = counts[rarest]
        members = of_group[by_class[class_starts[rarest] : class_starts[rarest + 1]]]
        members = members[places[members] < 0]
        for group in members.tolist():
            lowest = min(level)
            best = min((filled[f], f) for f in folds if level[f] == lowest)[1]
            places[group] = best
            filled[best] += sizes[group]
            for row in range(first[group], first[group + 1]):
                counts[classes[row]][best] += numbers[row]
        lengths = starts[members + 1] - starts[members]
        rows = np.repeat(starts[members + 1] - np.cumsum(lengths), lengths) + np.arange(
            lengths.sum()
        )
        left -= np.bincount(of_class[rows], amounts[rows], num_classes).astype(np.int64)
    unlabelled = np.flatnonzero(places < 0)
    for group in unlabelled[np.argsort(-group_sizes[unlabelled], kind="stable")].tolist():
        places[group] = best = filled.index(min(filled))
        filled[best] += sizes[group]
    return places


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
    groups: NDArray[np.int64],
    class_ids: NDArray[np.int64],
    num_folds: int,
    class_names: tuple[str, ...],
) -> Iterator[str]:
    """Yield a warning if classes are in fewer groups than there are folds.

    Args:
        groups: (m,) group of each label of each clip.
        class_ids: (m,) class of each label of each clip.
        num_folds: Number of folds.
        class_names: Names by class_id.
    """
    num_classes = int(class_ids.max(initial=0)) + 1
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
