"""Where a store is, said so that it holds for other processes and other working directories."""

from pathlib import Path

from featurestore import StoredDataset


def place(dataset: StoredDataset) -> str:
    """Return where the dataset's store is: an absolute path, or a URL."""
    path = str(dataset.path)
    return path if "://" in path else str(Path(path).absolute())
