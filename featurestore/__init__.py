"""featurestore: a sound collection as multi-resolution mel-spectrograms, made once.

Everything else may use `open_store` and what it returns, `Extractor` and `load` for the same
features of other files (`extract_file`: as stored), and the errors. Importing this loads no torch.
"""

from featurestore.audio import Recording, load
from featurestore.clip import extract_file, one_thread
from featurestore.columns import ClipTable
from featurestore.cores import usable_cores
from featurestore.datasets.folder import SUFFIXES
from featurestore.errors import FeatureStoreError
from featurestore.extractor import EXTRACTOR_VERSION, Extractor
from featurestore.plan import Block
from featurestore.reader import StoredDataset, open_store
from schemas import FeatureSpec

__all__ = [
    "EXTRACTOR_VERSION",
    "SUFFIXES",
    "Block",
    "ClipTable",
    "Extractor",
    "FeatureSpec",
    "FeatureStoreError",
    "Recording",
    "StoredDataset",
    "extract_file",
    "load",
    "one_thread",
    "open_store",
    "usable_cores",
]
