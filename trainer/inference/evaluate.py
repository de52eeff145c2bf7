"""Evaluation of a run's networks on a store: which network evaluates which fold, and results.

On the run's own store, each fold is evaluated by the network that held it out. On another store,
all networks are averaged. Clips that were trained on are counted and reported.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore import StoredDataset, open_store
from featurestore.errors import FeatureStoreError
from featurestore.text import from_json_text, json_text, quantity
from schemas import CheckpointName, ClassEvaluation, Evaluation, FoldEvaluation, RunRecord
from trainer.data.arrays import PlacementChoice, choose_placements, open_source
from trainer.data.source import Source, as_float32
from trainer.data.split import trained_folds
from trainer.errors import DataError, TrainedRunError
from trainer.inference.predict import LESS, TrainedNetwork
from trainer.metrics import LIKELY, average_precisions, multilabel_scores, roc_aucs
from trainer.oom import explain_oom, halve_batch
from trainer.records.finished import FinishedRun
from trainer.selection import OPTIMISTIC, other_images
from trainer.stats import by_class, confusion_matrix


@dataclass(frozen=True)
class Part:
    """A fold of the store, and the networks that evaluate it, by the folds they held out."""

    fold: int
    networks: tuple[int, ...]


def plan_parts(
    run: FinishedRun, dataset: StoredDataset, folds: Sequence[int], networks: Sequence[int]
) -> tuple[Part, ...]:
    """Return which networks evaluate which folds.

    Args:
        run: Run with the networks.
        dataset: Dataset with the folds.
        folds: Folds to evaluate. If empty: on the run's own store those held out by the networks,
            and on another store all.
        networks: Networks by the folds they held out. If empty: on the run's own store for each
            fold the one that held it out, and on another store all.

    Raises:
        TrainedRunError: The run has no such network, or all its networks were trained on a fold.
        featurestore.errors.UnknownNameError: The store has no such fold.
    """
    same = dataset.fingerprint == run.record.fingerprint
    judges = run.chosen(networks)
    dataset.blocks(folds)  # refuses a fold that is not there
    chosen = tuple(dict.fromkeys(folds)) or (judges if same else dataset.folds)
    if not same or networks:
        return tuple(Part(fold, judges) for fold in chosen)
    unseen = {f for f in chosen if not any(f in trained_folds(dataset, k) for k in judges)}
    if unheld := [fold for fold in chosen if fold not in {*run.folds, *unseen}]:
        raise TrainedRunError(
            f"{run.path}: every network was trained on fold {', '.join(map(str, unheld))}; "
            f"--network {run.folds[0]} evaluates one there all the same, and says so"
        )
    return tuple(Part(fold, (fold,) if fold in run.folds else judges) for fold in chosen)


def evaluate(
    run: FinishedRun,
    dataset: StoredDataset,
    parts: Sequence[Part],
    networks: Mapping[int, TrainedNetwork],
    checkpoint: CheckpointName,
    batch_size: int | None = None,
    placement: PlacementChoice = "auto",
) -> Evaluation:
    """Evaluate all clips with features in the folds of the parts.

    Args:
        run: Run of the networks.
        dataset: Dataset that matches the run, see `check_match`.
        parts: Result of `plan_parts`.
        networks: Networks by held-out fold, all on one device.
        checkpoint: Which networks these are, `best` or `last`.
        batch_size: Clips per batch; as in training by default. May change the last bits of results.
        placement: Placement of the images; does not affect results.

    Raises:
        DeviceMemoryError: The images, or a batch, do not fit.
        DataError: The folds have no clips with features.
        featurestore.errors.StoreError: The store is damaged.
    """
    seen = _trained_on(run, dataset, parts)
    size = batch_size or run.record.config.batch_size
    judged: list[Judged] = []
    folds = []
    for part in parts:
        labels = dataset.all_labels([part.fold])
        if not len(labels):
            raise DataError(f"fold {part.fold} has no clips with features; leave it out")
        if dataset.multilabel and not labels.any():
            raise DataError(f"fold {part.fold} has no clip with a label; leave it out")
        judges = [networks[k] for k in part.networks]
        judged.append((labels, _mean_probabilities(dataset, part, judges, size, placement)))
        folds.append(
            FoldEvaluation(
                fold=part.fold,
                networks=part.networks,
                num_clips=len(labels),
                num_trained_on=seen[part.fold],
                **_scores(*judged[-1]),
            )
        )
    labels, probabilities = (np.concatenate(of) for of in zip(*judged, strict=True))
    return Evaluation(
        run=json_text(run.path),
        store=json_text(dataset.path),
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        checkpoint=checkpoint,
        num_clips=len(labels),
        folds=tuple(folds),
        warnings=tuple(_warnings(run, dataset, folds, checkpoint)),
        **_scores(labels, probabilities),
        **_by_class(labels, probabilities, dataset.class_names),
    )


Judged = tuple[NDArray[Any], NDArray[np.float64]]
"""Labels of clips, as in the store, and probabilities (n, classes)."""


def _scores(labels: NDArray[Any], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Return accuracy, or the scores of several labels, as fields."""
    if labels.ndim > 1:
        return {"accuracy": None, "scores": multilabel_scores(labels, probabilities)}
    return {"accuracy": float((probabilities.argmax(axis=1) == labels).mean())}


def _by_class(
    labels: NDArray[Any], probabilities: NDArray[np.float64], names: Sequence[str]
) -> dict[str, Any]:
    """Return the results of each class, and the confusions, as fields."""
    if labels.ndim == 1:
        confusion = confusion_matrix(labels, probabilities.argmax(axis=1), len(names))
        matrix = tuple(map(tuple, confusion.tolist()))
        return {"classes": by_class(confusion, names), "confusion": matrix}
    precisions, areas = average_precisions(labels, probabilities), roc_aucs(labels, probabilities)
    taken = probabilities >= LIKELY
    classes = tuple(
        ClassEvaluation(
            class_name=name,
            num_clips=int(labels[:, i].sum()),
            num_predicted=int(taken[:, i].sum()),
            recall=float(taken[labels[:, i] > 0, i].mean()) if labels[:, i].any() else None,
            average_precision=None if np.isnan(precisions[i]) else float(precisions[i]),
            auc=None if np.isnan(areas[i]) else float(areas[i]),
        )
        for i, name in enumerate(names)
    )
    return {"classes": classes, "confusion": ()}


def _mean_probabilities(
    dataset: StoredDataset,
    part: Part,
    networks: Sequence[TrainedNetwork],
    batch_size: int,
    placement: PlacementChoice,
) -> NDArray[np.float64]:
    """Return probabilities (n, classes) of one fold: the mean over the networks."""
    size = len(dataset.clips([part.fold]))
    probabilities = np.zeros((size, len(dataset.class_names)))
    most = min(batch_size, size)
    less = f"{halve_batch(most)}, or {LESS}" if most > 1 else LESS
    for network in networks:
        array, device = network.array, network.device
        place = choose_placements(dataset, [array], device, placement)[array]
        source = open_source(dataset, array, [part.fold], device, place)
        step = f"{quantity(most, 'clip')} of {array} {'×'.join(map(str, dataset.shape(array)))}"
        what = f"a batch of {step} by {network.checkpoint.config.arch} does not fit; {less}"
        with explain_oom(partial("out of memory on {}: {}".format, device, what)):
            probabilities += _probabilities(source, network, batch_size)
    return probabilities / len(networks)


def _probabilities(split: Source, network: TrainedNetwork, batch_size: int) -> NDArray[np.float64]:
    """Return probabilities (n, classes) in the store's order."""
    parts = [np.empty((0, len(network.checkpoint.class_names)))]
    with closing(split.in_order(batch_size)) as batches:
        parts += [network.probabilities(as_float32(images, split.scale)) for images, _ in batches]
    return np.concatenate(parts)


def _trained_on(
    run: FinishedRun, dataset: StoredDataset, parts: Sequence[Part]
) -> dict[int, int | None]:
    """Return by fold how many of its clips a network of its part was trained on; None: unknown.

    On another store clips are known again by their files' digests, where the run's own store is
    still there to tell them.
    """
    if dataset.fingerprint == run.record.fingerprint:
        return {
            part.fold: len(dataset.clips([part.fold]))
            if any(part.fold in trained_folds(dataset, k) for k in part.networks)
            else 0
            for part in parts
        }
    try:
        own = open_own_store(run)
    except TrainedRunError:
        return {part.fold: None for part in parts}
    counts: dict[int, int | None] = {}
    for part in parts:
        folds = {fold for network in part.networks for fold in trained_folds(own, network)}
        trained = set(own.source_digests(sorted(folds)))
        counts[part.fold] = sum(d in trained for d in dataset.source_digests([part.fold]))
    return counts


def _warnings(
    run: FinishedRun,
    dataset: StoredDataset,
    folds: Sequence[FoldEvaluation],
    checkpoint: CheckpointName,
) -> list[str]:
    partial = dict.fromkeys((*run.partial, *([dataset.partial] if dataset.partial else [])))
    warnings = [*partial, *([run.warning] if run.warning else [])]
    known = sum(fold.num_trained_on or 0 for fold in folds)
    if known:
        clips = sum(fold.num_clips for fold in folds)
        warnings.append(
            f"TRAINED ON: {known} of these {clips} clips were in the networks' training; this "
            "accuracy says nothing about new sounds"
        )
    if any(fold.num_trained_on is None for fold in folds):
        warnings.append(
            f"whether any of these clips were in training cannot be known: the run's own store "
            f"({run.record.store}) is not there any more"
        )
    own = dataset.fingerprint == run.record.fingerprint
    used = {network for fold in folds for network in fold.networks}
    warnings += filter(None, [other_images(run.result, checkpoint, used)])
    picked = checkpoint == "best" and run.record.config.selection == "heldout"
    if picked and own and any(fold.fold in fold.networks for fold in folds):
        warnings.append(OPTIMISTIC)
    return warnings


def open_own_store(run: FinishedRun, moved: str | None = None) -> StoredDataset:
    """Open the store on which a run was trained, at its new path or URL if it was moved.

    Raises:
        TrainedRunError: The store is missing, or holds other clips now.
    """
    place = moved or run.record.store
    try:
        own = open_store(moved or from_json_text(place), run.record.config.dataset)
    except FeatureStoreError as error:
        raise TrainedRunError(f"the run's own store: {error}; give --store") from error
    if own.fingerprint != run.record.fingerprint:
        raise TrainedRunError(
            f"{place}: has other clips or features than when the run was trained; "
            f"--store {place} evaluates it as another store"
        )
    return own


def check_match(record: RunRecord, dataset: StoredDataset) -> None:
    """Check that a store has the images and classes on which a run was trained.

    Raises:
        TrainedRunError: They differ; the message names the fields.
    """
    if mismatches := _mismatches(record, dataset):
        raise TrainedRunError(
            f"{dataset.path}: not what the run was trained on: {'; '.join(mismatches)}"
        )


def _mismatches(record: RunRecord, dataset: StoredDataset) -> list[str]:
    of_run = record.features.model_dump(mode="json")
    of_store = dataset.manifest.spec.model_dump(mode="json")
    manifest, versions = dataset.manifest, record.versions
    pairs = {name: (of_store[name], of_run[name]) for name in of_run} | {
        "the extractor's version": (manifest.extractor_version, record.extractor_version),
        "librosa's version": (manifest.libraries.get("librosa"), versions.get("librosa")),
    }
    mismatches = [
        f"{name} is {here} in the store, {then} in the run"
        for name, (here, then) in pairs.items()
        if here != then
    ]
    if dataset.multilabel != (record.config.task == "multilabel"):
        has = "several labels per clip" if dataset.multilabel else "one class per clip"
        mismatches.append(f"the store has {has}, the run's task is {record.config.task}")
    if dataset.class_names != record.class_names:
        mismatches.append(_class_mismatch(dataset.class_names, record.class_names))
    return mismatches


def _class_mismatch(of_store: Sequence[str], of_run: Sequence[str]) -> str:
    if set(of_store) == set(of_run):
        return "the classes are the same in another order"
    more, fewer = sorted(set(of_store) - set(of_run)), sorted(set(of_run) - set(of_store))
    sides = [f"only the store has {_some(more)}"] if more else []
    sides += [f"only the run has {_some(fewer)}"] if fewer else []
    return f"classes: {', '.join(sides)}"


def _some(names: Sequence[str], number: int = 5) -> str:
    more = f" and {len(names) - number} more" if len(names) > number else ""
    return ", ".join(names[:number]) + more
