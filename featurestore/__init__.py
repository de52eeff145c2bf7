"""featurestore: a sound collection as multi-resolution mel-spectrograms, made once.

`build` makes a store, `open_store` reads one, and `datasets` lists what a store can be built from.
`Extractor` and `load` compute the same features for other files (`extract_file`: as stored).
Importing this package does not load torch; each public name is imported on first use, so that
`--help` need not wait for NumPy.
"""

import os
import sys

# `python -m` puts the working directory first on the path, which may be a received collection that
# holds a `typing.py`. A checkout that this very package is imported from stays.
if (
    sys.argv[:1] == ["-m"]
    and not sys.flags.safe_path
    and __path__[0] != f"{sys.path[0]}{os.sep}{__name__}"
):
    del sys.path[0]

from typing import TYPE_CHECKING

import lazy_loader

from featurestore.shadowing import check_imports

check_imports()

if TYPE_CHECKING:
    from featurestore import datasets
    from featurestore.api import BuildResult, build
    from featurestore.cores import usable_cores
    from featurestore.datasets.leftout import SUFFIXES, FoundSounds, find_sounds
    from featurestore.errors import FeatureStoreError, FeatureStoreWarning
    from featurestore.extraction.audio import Recording, load
    from featurestore.extraction.clip import extract_file, one_thread
    from featurestore.extraction.extractor import Extractor
    from featurestore.extraction.spec import EXTRACTOR_VERSION, FeatureSpec
    from featurestore.store.columns import ClipTable
    from featurestore.store.plan import Block
    from featurestore.store.reader import StoredDataset, open_store
    from featurestore.version import __version__
else:
    __getattr__, __dir__, _ = lazy_loader.attach(
        __name__,
        submodules=["datasets"],
        submod_attrs={
            "api": ["BuildResult", "build"],
            "cores": ["usable_cores"],
            "datasets.leftout": ["SUFFIXES", "FoundSounds", "find_sounds"],
            "errors": ["FeatureStoreError", "FeatureStoreWarning"],
            "extraction.audio": ["Recording", "load"],
            "extraction.clip": ["extract_file", "one_thread"],
            "extraction.extractor": ["Extractor"],
            "extraction.spec": ["EXTRACTOR_VERSION", "FeatureSpec"],
            "store.columns": ["ClipTable"],
            "store.reader": ["StoredDataset", "open_store"],
            "store.plan": ["Block"],
            "version": ["__version__"],
        },
    )

__all__ = [
    "EXTRACTOR_VERSION",
    "SUFFIXES",
    "Block",
    "BuildResult",
    "ClipTable",
    "Extractor",
    "FeatureSpec",
    "FeatureStoreError",
    "FeatureStoreWarning",
    "FoundSounds",
    "Recording",
    "StoredDataset",
    "__version__",
    "build",
    "datasets",
    "extract_file",
    "find_sounds",
    "load",
    "one_thread",
    "open_store",
    "usable_cores",
]
