"""trainer: progressive training of sound classifiers from a featurestore store.

`trainer.cli` is the command line, `trainer.run` the same from Python. For training code of one's
own: `ZarrDataset` and `BlockSampler`. torch is imported when these are, not before.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.data.dataset import BlockSampler, ZarrDataset

__all__ = ["BlockSampler", "ZarrDataset"]


def __getattr__(name: str) -> object:
    """Import the dataset's module when one of its names is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trainer.data import dataset

    return getattr(dataset, name)
