"""The collections of sounds a store can be built from.

    known_names, all_kinds, find_kind   available datasets: layout, size, licence, folds
    find_root       location of a dataset on disk
    load_dataset    its card and its clips
    load_collection, read_frame   a custom collection, from a directory or a data frame
    plan_download   download of a dataset that is not on disk

Audio files are opened by the build, not here.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from featurestore.datasets.base import Dataset
    from featurestore.datasets.collection import Naming, load_collection, read_frame
    from featurestore.datasets.download import Download, plan_download
    from featurestore.datasets.kinds import (
        DATASETS,
        DatasetKind,
        all_kinds,
        find_kind,
        known_names,
    )
    from featurestore.datasets.roots import find_root, load_dataset
    from featurestore.datasets.synthetic import make_synthetic
else:
    __getattr__, __dir__, _ = lazy_loader.attach(
        __name__,
        submod_attrs={
            "base": ["Dataset"],
            "collection": ["Naming", "load_collection", "read_frame"],
            "download": ["Download", "plan_download"],
            "kinds": ["DATASETS", "DatasetKind", "all_kinds", "find_kind", "known_names"],
            "roots": ["find_root", "load_dataset"],
            "synthetic": ["make_synthetic"],
        },
    )

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetKind",
    "Download",
    "Naming",
    "all_kinds",
    "find_kind",
    "find_root",
    "known_names",
    "load_collection",
    "load_dataset",
    "make_synthetic",
    "plan_download",
    "read_frame",
]
