"""trainer: progressive training of sound classifiers from a featurestore store.

`train`, `resume` and `predict` do what the commands do. `ZarrDataset` and `BlockSampler` are for
your own training code. torch is imported when one of these is first used.
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
    from trainer.api import predict, resume, train
    from trainer.data.dataset import BlockSampler, ZarrDataset
    from trainer.errors import TrainerError, TrainerWarning
    from trainer.records.finished import FinishedRun, open_finished
else:
    __getattr__, _, _ = lazy_loader.attach(
        __name__,
        submod_attrs={
            "api": ["predict", "resume", "train"],
            "data.dataset": ["BlockSampler", "ZarrDataset"],
            "errors": ["TrainerError", "TrainerWarning"],
            "records.finished": ["FinishedRun", "open_finished"],
        },
    )

__all__ = [
    "BlockSampler",
    "FinishedRun",
    "TrainerError",
    "TrainerWarning",
    "ZarrDataset",
    "__version__",
    "open_finished",
    "predict",
    "resume",
    "train",
]


def __dir__() -> list[str]:
    return __all__
