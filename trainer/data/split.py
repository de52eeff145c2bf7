"""Splits by held-out fold: training clips and their order, test clips, validation clips.

Folds and recordings are never divided; validation is stratified by class.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore import ClipTable, StoredDataset
from featurestore.errors import UnknownNameError
from featurestore.text import quantity
from schemas import RunConfig, split_role
from trainer.data.order import EpochOrder, derive_seed, store_order
from trainer.data.source import StageData, Subset
from trainer.errors import DataError


def training_folds(dataset: StoredDataset, held_out: int) -> tuple[int, ...]:
    """Return all folds except the held-out one."""
    return tuple(fold for fold in dataset.folds if fold != held_out)


def validation_folds(dataset: StoredDataset, held_out: int) -> tuple[int, ...]:
    """Return the official validation folds, which are never trained on if there are other folds.

    Args:
        dataset: Dataset, whose folds may have names.
        held_out: Held-out fold, which is never among the result, whatever its name.
    """
    official = tuple(
        fold
        for fold, name in dataset.fold_names.items()
        if fold != held_out and split_role(name) == "valid"
    )
    return official if len(dataset.folds) > len(official) + 1 else ()


def trained_folds(dataset: StoredDataset, held_out: int) -> tuple[int, ...]:
    """Return the folds to train on when one is held out."""
    official = validation_folds(dataset, held_out)
    return tuple(fold for fold in training_folds(dataset, held_out) if fold not in official)


def default_folds(dataset: StoredDataset) -> tuple[int, ...]:
    """Return the folds to hold out in turn: the official test folds, or all if there are none."""
    tests = (f for f, name in dataset.fold_names.items() if split_role(name) == "test")
    return tuple(tests) or dataset.folds


def fold_numbers(dataset: StoredDataset, folds: Iterable[int | str]) -> tuple[int, ...]:
    """Return the numbers of folds given by number or name.

    Raises:
        featurestore.errors.UnknownNameError: The store has no such fold.
    """
    known = {str(fold): fold for fold in dataset.folds}
    known |= {name: fold for fold, name in dataset.fold_names.items()}
    keys = [str(fold) for fold in folds]
    for fold in keys:
        if fold not in known:
            names = [dataset.fold_names.get(number, str(number)) for number in dataset.folds]
            raise UnknownNameError(
                "fold", int(fold) if fold.isdecimal() and len(fold) < 20 else fold, names
            )
    return tuple(known[fold] for fold in keys)


def recordings(clips: ClipTable) -> list[str]:
    """Return the recording of each clip, or the clip itself if it is unknown."""
    named = zip(clips.source, clips.clip_id, strict=True)
    return [f"source {source}" if source else f"clip {clip}" for source, clip in named]


def validation_clips(
    groups: Sequence[str], labels: NDArray[Any], share: float, seed: int
) -> NDArray[np.bool_]:
    """Choose whole recordings for validation until every class has about its fraction.

    Recordings are considered in random order. One is taken if it brings the numbers of clips by
    class closer to the fraction, and leaves a clip of every class to train on.

    Args:
        groups: (n,) recording of each clip.
        labels: (n,) class_id; or (n, classes) multi-hot, where no label counts as a class.
        share: Fraction of each class's clips to choose, in (0, 1).
        seed: Random seed of the order, in [0, 2**63).

    Returns:
        (n,) bool mask of the chosen clips; may be empty if recordings are few and large.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for clip, group in enumerate(groups):
        members[group].append(clip)
    if labels.ndim > 1 and not labels.any(axis=1).all():
        labels = np.column_stack([labels, ~labels.any(axis=1)])
    total = _class_counts(labels)
    missing = share * total
    left = total.copy()
    chosen = np.zeros(len(labels), bool)
    # Sorted, so that the choice does not depend on the order of the clips in the store.
    names = sorted(members)
    for position in np.random.default_rng(seed).permutation(len(names)):
        clips = members[names[position]]
        counts = _class_counts(labels[clips], len(total))
        nearer = np.abs(missing - counts).sum() < np.abs(missing).sum()
        if nearer and (left - counts)[counts > 0].all():
            chosen[clips] = True
            missing, left = missing - counts, left - counts
    return chosen


def _class_counts(labels: NDArray[Any], num_classes: int = 0) -> NDArray[np.int64]:
    """Return the number of clips of each class."""
    if labels.ndim > 1:
        counts: NDArray[np.int64] = labels.sum(axis=0, dtype=np.int64)
        return counts
    return np.bincount(labels, minlength=num_classes)


OFFICIAL_FOLDS = frozenset(
    (
        *("birdset", "esc10", "esc50", "fsd50k", "fsdnoisy18k", "gtzan", "speech_commands"),
        *("tau_scenes", "urbansound8k"),
    )
)
"""Datasets with published folds: results on other folds would not be comparable."""


@dataclass(frozen=True)
class FoldSplit:
    """The split for one held-out fold.

    Args:
        order: Order of the training clips, the same for every method.
        num_train: Number of training clips.
        num_test: Number of clips of the held-out fold.
        apart: (n,) bool mask of the validation clips among the other folds; None if there are none.
        kept: (n,) bool mask of the training clips; None for all.
    """

    order: EpochOrder
    num_train: int
    num_test: int
    apart: NDArray[np.bool_] | None
    kept: NDArray[np.bool_] | None = None

    @property
    def num_valid(self) -> int:
        """Number of validation clips."""
        return 0 if self.apart is None else int(self.apart.sum())

    def of(self, data: StageData) -> StageData:
        """Apply this split to an array of the other folds and the held-out one."""
        train, valid = (
            None if rows is None else Subset(data.train, store_order(self.order.sizes, rows))
            for rows in (self.kept, self.apart)
        )
        return StageData(data.array, train or data.train, valid or data.valid)


def split_fold(dataset: StoredDataset, config: RunConfig, fold: int) -> FoldSplit:
    """Return the split for a held-out fold, the same for every method.

    Raises:
        DataError: No clips can be set aside for validation, or fewer than two are left.
    """
    folds = training_folds(dataset, fold)
    sizes = tuple(len(dataset.labels(block)) for block in dataset.blocks(folds))
    apart, kept = None, None
    if official := validation_folds(dataset, fold):
        in_official = np.isin(dataset.clips(folds).fold, official)
        apart, kept = in_official if config.selection == "validation" else None, ~in_official
    elif config.selection == "validation":
        apart = _set_apart(dataset, config, fold)
        kept = ~apart
    if apart is not None and dataset.multilabel and not dataset.all_labels(folds)[apart].any():
        raise DataError(
            f"fold {fold}: no clip of the validation part has a label, so no epoch can be "
            "picked on it; raise --validation-share, or take --selection last"
        )
    order = EpochOrder(config.seed, dataset.fingerprint, folds, sizes, kept=kept)
    num_train = sum(sizes) if kept is None else int(kept.sum())
    if num_train < 2:  # batch normalisation has no spread of a single clip
        raise DataError(
            f"fold {fold}: {quantity(num_train, 'clip')} left to train on, expected two or more; "
            "choose other folds with --fold, or another --selection"
        )
    return FoldSplit(order, num_train, len(dataset.clips([fold])), apart, kept)


def split_folds(dataset: StoredDataset, config: RunConfig) -> dict[int, FoldSplit]:
    """Return the split for each held-out fold of a config; see `split_fold`."""
    return {fold: split_fold(dataset, config, fold) for fold in config.folds}


def check_duplicates(dataset: StoredDataset, clips: ClipTable, *, allowed: bool) -> str | None:
    """Check that no file is in several folds, as accuracy would then measure memorisation.

    Args:
        dataset: Dataset with the digest of every file.
        clips: All clips of the dataset.
        allowed: Whether the user accepts such files.

    Returns:
        A warning to record if files are in several folds and that is accepted, by the user or
        because the folds are official; else None.

    Raises:
        DataError: Files are in several folds.
    """
    first: dict[bytes, int] = {}
    pairs: list[tuple[int, int]] = []
    for row, digest in enumerate(dataset.source_digests()):
        known = first.setdefault(digest, row)
        if clips.fold[known] != clips.fold[row]:
            pairs.append((known, row))
    if not pairs:
        return None
    one, other = (f"{clips.address(row)} (fold {clips.fold[row]})" for row in pairs[0])
    what = f"same bytes as a clip in another fold: {len(pairs)}, such as {other} and {one}"
    if allowed:
        return f"{what}: accuracies may be too high (--allow-duplicates)"
    if dataset.dataset_name in OFFICIAL_FOLDS:
        return f"{what}: accuracies may be too high; the folds are the official ones"
    raise DataError(
        f"{dataset.name}: {what}: accuracies would measure memory; remove the copies, or put them "
        "into one fold, and build again; or accept that with --allow-duplicates"
    )


def _set_apart(dataset: StoredDataset, config: RunConfig, fold: int) -> NDArray[np.bool_]:
    folds = training_folds(dataset, fold)
    clips, labels = dataset.clips(folds), dataset.all_labels(folds)
    seed = derive_seed("validation", config.seed, fold)
    apart = validation_clips(recordings(clips), labels, config.validation_share, seed)
    if not apart.any():
        raise DataError(
            f"fold {fold}: no recordings can be set apart for validation, {len(clips)} clips are "
            f"too few for a share of {config.validation_share:g}; raise --validation-share, or "
            "take --selection last"
        )
    return apart
