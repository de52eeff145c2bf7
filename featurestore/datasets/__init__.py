"""The collections of sounds a store can be built from.

    DATASETS        what there is
    find_root       where one is on disk
    load_dataset    its card and its clips
    plan_download   how one that is absent is brought here

Audio files are opened by the build, not here.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from featurestore.datasets.base import Dataset
    from featurestore.datasets.download import Download, plan_download
    from featurestore.datasets.kinds import DATASETS, DatasetKind
    from featurestore.datasets.roots import find_root, load_dataset
    from featurestore.datasets.synthetic import make_synthetic
else:
    __getattr__, __dir__, _ = lazy_loader.attach(
        __name__,
        submod_attrs={
            "base": ["Dataset"],
            "download": ["Download", "plan_download"],
            "kinds": ["DATASETS", "DatasetKind"],
            "roots": ["find_root", "load_dataset"],
            "synthetic": ["make_synthetic"],
        },
    )

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetKind",
    "Download",
    "find_root",
    "load_dataset",
    "make_synthetic",
    "plan_download",
]
