"""trainer: progressive training of sound classifiers from a featurestore store.

`trainer.cli` is the command line, `trainer.run` the same from Python. For training code of one's
own: `ZarrDataset` and `BlockSampler`. torch is imported when these are, not before.
"""

import os
import sys

# As in `featurestore`: nothing of the working directory is run, unless this package lies there.
if (
    sys.argv[:1] == ["-m"]
    and not sys.flags.safe_path
    and __path__[0] != f"{sys.path[0]}{os.sep}{__name__}"
):
    del sys.path[0]

from typing import TYPE_CHECKING

import lazy_loader

from featurestore.version import __version__

if TYPE_CHECKING:
    from trainer.data.dataset import BlockSampler, ZarrDataset
else:
    __getattr__, _, _ = lazy_loader.attach(
        __name__,
        submod_attrs={
            "data.dataset": ["BlockSampler", "ZarrDataset"],
        },
    )

__all__ = ["BlockSampler", "ZarrDataset", "__version__"]


def __dir__() -> list[str]:
    return __all__
