"""Training and validation clips: whole folds, whole recordings, every class alike."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featurestore import ClipTable, StoredDataset


def training_folds(dataset: StoredDataset, held_out: int) -> tuple[int, ...]:
    """Return all folds but the held-out one."""
    return tuple(fold for fold in dataset.folds if fold != held_out)


def recordings(clips: ClipTable) -> list[str]:
    """Return the recording each clip was cut from; the clip itself if that is not known."""
    named = zip(clips.source, clips.clip_id, strict=True)
    return [f"source {source}" if source else f"clip {clip}" for source, clip in named]


def validation_clips(
    groups: Sequence[str], classes: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.bool_]:
    """Choose whole recordings for validation until every class has about its share.

    Recordings are offered in random order. One is taken if it brings the numbers of clips by class
    nearer to the share, and leaves every class a clip to train on.

    Args:
        groups: (n,) the recording of each clip.
        classes: (n,) class_id.
        share: Fraction of each class's clips to choose, in (0, 1).
        seed: Seed of the order, in [0, 2**63).

    Returns:
        (n,) which clips are chosen; perhaps none, if recordings are few and large.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for clip, group in enumerate(groups):
        members[group].append(clip)
    total = np.bincount(classes)
    missing = share * total
    left = total.copy()
    chosen = np.zeros(len(classes), bool)
    # Sorted, so that the choice does not depend on the order of the clips in the store.
    names = sorted(members)
    for position in np.random.default_rng(seed).permutation(len(names)):
        clips = members[names[position]]
        counts = np.bincount(classes[clips], minlength=len(total))
        nearer = np.abs(missing - counts).sum() < np.abs(missing).sum()
        if nearer and (left - counts)[counts > 0].all():
            chosen[clips] = True
            missing, left = missing - counts, left - counts
    return chosen
