"""Training clips set apart to pick the best epoch: whole recordings, and every class alike."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featurestore import ClipTable


def recordings(clips: ClipTable) -> list[str]:
    """What each clip was cut from; a clip of which that is not known is a recording of its own."""
    named = zip(clips.source, clips.clip_id, strict=True)
    return [f"source {source}" if source else f"clip {clip}" for source, clip in named]


def validation_clips(
    groups: Sequence[str], classes: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.bool_]:
    """Choose whole groups until every class has about its share.

    Groups are offered in random order. One is taken where it brings the numbers of clips by class
    nearer to what is wanted, and leaves every class a clip to train on.

    Args:
        groups: (n,) the recording of each clip.
        classes: (n,) class_id.
        share: Of each class's clips, in (0, 1).
        seed: Of the order, in [0, 2**63).

    Returns:
        (n,) which clips are chosen; maybe none, where recordings are few and large.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for clip, group in enumerate(groups):
        members[group].append(clip)
    total = np.bincount(classes)
    missing = share * total
    left = total.copy()
    chosen = np.zeros(len(classes), bool)
    names = sorted(members)
    for at in np.random.default_rng(seed).permutation(len(names)):
        clips = members[names[at]]
        counts = np.bincount(classes[clips], minlength=len(total))
        nearer = np.abs(missing - counts).sum() < np.abs(missing).sum()
        if nearer and (left - counts)[counts > 0].all():
            chosen[clips] = True
            missing, left = missing - counts, left - counts
    return chosen
