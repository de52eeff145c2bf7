"""The place of a store, in a form that holds for other processes and working directories."""

from pathlib import Path

from featurestore import StoredDataset


def place(dataset: StoredDataset) -> str:
    """Return where the dataset's store is: an absolute path, or a URL."""
    path = str(dataset.path)
    return path if "://" in path else str(Path(path).absolute())
