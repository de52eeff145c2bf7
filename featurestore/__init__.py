"""featurestore: a sound collection as multi-resolution mel-spectrograms, made once.

Everything else may use `open_store` and what it returns, `Extractor` and `load` for the same
features of other files (`extract_file`: as stored), and the errors. Importing this loads no torch.
"""

from featurestore.cores import usable_cores
from featurestore.datasets.leftout import SUFFIXES, FoundSounds, find_sounds
from featurestore.errors import FeatureStoreError
from featurestore.extraction.audio import Recording, load
from featurestore.extraction.clip import extract_file, one_thread
from featurestore.extraction.extractor import EXTRACTOR_VERSION, Extractor
from featurestore.reading.columns import ClipTable
from featurestore.reading.reader import StoredDataset, open_store
from featurestore.store.plan import Block
from schemas import FeatureSpec

__all__ = [
    "EXTRACTOR_VERSION",
    "SUFFIXES",
    "Block",
    "ClipTable",
    "Extractor",
    "FeatureSpec",
    "FeatureStoreError",
    "FoundSounds",
    "Recording",
    "StoredDataset",
    "extract_file",
    "find_sounds",
    "load",
    "one_thread",
    "open_store",
    "usable_cores",
]
