"""Match of a store with a run: the one it was trained on, or made and labelled like it."""

from collections.abc import Sequence

from featurestore import StoredDataset, open_store
from featurestore.errors import FeatureStoreError
from featurestore.text import from_json_text
from schemas import RunRecord
from trainer.errors import TrainedRunError
from trainer.records.finished import FinishedRun


def open_own_store(run: FinishedRun) -> StoredDataset:
    """Open the store the run was trained on.

    Raises:
        TrainedRunError: It is not there any more, or holds other clips now.
    """
    place = run.record.store
    try:
        own = open_store(from_json_text(place), run.record.config.dataset)
    except FeatureStoreError as error:
        raise TrainedRunError(f"the run's own store: {error}; give --store") from error
    if own.fingerprint != run.record.fingerprint:
        raise TrainedRunError(
            f"{place}: has other clips or features than when the run was trained; "
            f"--store {place} evaluates it as another store"
        )
    return own


def check_match(record: RunRecord, dataset: StoredDataset) -> None:
    """Refuse a store whose images or classes are not those the run was trained on.

    Raises:
        TrainedRunError: They differ; the message names the fields.
    """
    if found := list(_mismatches(record, dataset)):
        raise TrainedRunError(
            f"{dataset.path}: not what the run was trained on: {'; '.join(found)}"
        )


def _mismatches(record: RunRecord, dataset: StoredDataset) -> Sequence[str]:
    ours = record.features.model_dump(mode="json")
    theirs = dataset.manifest.spec.model_dump(mode="json")
    found = [
        f"{name} is {theirs[name]} in the store, {ours[name]} in the run"
        for name in ours
        if theirs[name] != ours[name]
    ]
    if dataset.manifest.extractor_version != record.extractor_version:
        found.append(
            f"the extractor's version is {dataset.manifest.extractor_version} in the store, "
            f"{record.extractor_version} in the run"
        )
    if dataset.class_names != record.class_names:
        found.append(_class_mismatch(dataset.class_names, record.class_names))
    return found


def _class_mismatch(theirs: Sequence[str], ours: Sequence[str]) -> str:
    if set(theirs) == set(ours):
        return "the classes are the same in another order"
    more, fewer = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    sides = [f"only the store has {_some(more)}"] if more else []
    sides += [f"only the run has {_some(fewer)}"] if fewer else []
    return f"classes: {', '.join(sides)}"


def _some(names: Sequence[str], number: int = 5) -> str:
    more = f" and {len(names) - number} more" if len(names) > number else ""
    return ", ".join(names[:number]) + more
