"""Errors cross process boundaries: each must survive pickling with its message."""

import pickle

import pytest

from featurestore import errors
from schemas import ClipStatus

SAMPLES = [
    errors.FeatureStoreError("m"),
    errors.ArgumentError("m"),
    errors.SpecError("m"),
    errors.DatasetError("m"),
    errors.DatasetNotFoundError("m"),
    errors.DownloadError("m"),
    errors.ArchiveError("m"),
    errors.AudioError(ClipStatus.EMPTY, "0 bytes"),
    errors.BuildError("m"),
    errors.StrictError("m"),
    errors.RunError("a"),
    errors.StorageError("m"),
    errors.BusyError("m"),
    errors.ClusterError("m"),
    errors.UnfitWorkerError("m"),
    errors.MissingLibraryError("m"),
    errors.StoreError("m"),
    errors.FingerprintError("m"),
    errors.SourcesError("m"),
    errors.UnfinishedError("m"),
    errors.CorruptError("m"),
    errors.NewerError("m"),
    errors.NotAStoreError("m"),
    errors.UnknownNameError("fold", 9, (1, 2), "Try 1."),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_an_error_survives_pickling(error: errors.FeatureStoreError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own bytes)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_every_error_class_is_among_the_samples_and_in_the_tree_of_the_docstring() -> None:
    classes = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.FeatureStoreError)
    }
    assert classes == {type(error) for error in SAMPLES}
    assert errors.__doc__ is not None
    assert all(cls.__name__ in errors.__doc__ for cls in classes)
