"""The available datasets: how each is recognised, downloaded and read."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from featurestore.datasets.archives import (
    AUDIO,
    ESC50,
    ESC50_PAGE,
    ESC50_TABLE,
    URBANSOUND8K,
    URBANSOUND8K_TABLE,
    Archive,
)
from featurestore.datasets.base import SYNTHETIC_MARKER, Dataset
from featurestore.errors import DatasetError


@dataclass(frozen=True)
class DatasetKind:
    """One entry of `DATASETS`."""

    name: str
    summary: str
    """Summary in one line."""
    default_store: str
    """File name of the store if the user names no other."""
    by_hand: str
    """Instructions for getting it without this program; one sentence without a full stop."""
    load: Callable[[Path], Dataset]
    """Reads the dataset at a root; raises DatasetError."""
    markers: tuple[str, ...] = ()
    """Files and directories that recognise a root. Without any, each directory with something
    in it is one."""
    directories: tuple[str, ...] = ()
    """Usual names of its directory."""
    num_clips: int = 0
    """Number of clips of the published dataset; 0 if it is none."""
    made_on_demand: bool = False
    """Whether `load` creates what is absent."""
    archive: Archive | None = None
    """Archive to download it from."""

    @property
    def how_to_get(self) -> str:
        """Return how a user gets the dataset; one sentence without a full stop."""
        return (
            f"run featurestore download {self.name}; or {self.by_hand}"
            if self.archive
            else self.by_hand
        )


def _loader(module: str, function: str = "load") -> Callable[[Path], Dataset]:
    """Return a function of a module that needs NumPy, for which a list need not wait."""

    def load(root: Path) -> Dataset:
        found: Dataset = getattr(import_module(f"featurestore.datasets.{module}"), function)(root)
        return found

    return load


_GET_ESC50 = (
    f"get ESC-50 from {ESC50_PAGE} (about 650 MB; clone it, or unpack the archive of its main "
    "branch) and give its directory with --root"
)
_ESC50_DIRECTORIES = ("esc50", "ESC-50", "ESC-50-master")

_KINDS = (
    DatasetKind(
        name="urbansound8k",
        summary="UrbanSound8K: 8732 clips of city sounds in 10 classes and 10 folds",
        default_store="./us8k.zarr",
        by_hand="download UrbanSound8K.tar.gz (6.0 GB) from https://zenodo.org/records/1203745, "
        "unpack it and give its directory with --root",
        archive=URBANSOUND8K,
        load=_loader("urbansound8k"),
        num_clips=8732,
        markers=(URBANSOUND8K_TABLE, AUDIO),
        directories=("urbansound8k", "UrbanSound8K"),
    ),
    DatasetKind(
        name="esc50",
        summary="ESC-50: 2000 clips of environmental sounds in 50 classes and 5 folds",
        default_store="./esc50.zarr",
        by_hand=_GET_ESC50,
        archive=ESC50,
        load=_loader("esc50", "load_esc50"),
        num_clips=2000,
        markers=(ESC50_TABLE, AUDIO),
        directories=_ESC50_DIRECTORIES,
    ),
    DatasetKind(
        name="esc10",
        summary="ESC-10: the 400 clips of ESC-50 in 10 classes that are CC BY",
        default_store="./esc10.zarr",
        by_hand=_GET_ESC50,
        archive=ESC50,
        load=_loader("esc50", "load_esc10"),
        num_clips=400,
        markers=(ESC50_TABLE, AUDIO),
        directories=("esc10", "ESC-10", *_ESC50_DIRECTORIES),
    ),
    DatasetKind(
        name="synthetic",
        summary="Six classes of made-up sound events in 3 folds, made on the spot from a seed",
        default_store="./synthetic.zarr",
        by_hand="it is made where it is absent",
        load=_loader("synthetic"),
        markers=(SYNTHETIC_MARKER,),
        directories=("synthetic",),
        made_on_demand=True,
    ),
    DatasetKind(
        name="folder",
        summary="Any directory: class/file, fold/class/file, split/class/file, or a table",
        default_store="./folder.zarr",
        by_hand="put your files at class/file or fold/class/file, or list them in a clips.csv "
        "with path, class and, where there are folds, fold, and give their directory with --root",
        load=_loader("collection", "load_folder"),
        directories=("folder",),
    ),
)

DATASETS: Mapping[str, DatasetKind] = MappingProxyType({kind.name: kind for kind in _KINDS})
"""Every dataset by its name."""


def find_kind(name: str) -> DatasetKind:
    """Return the dataset of that name.

    Raises:
        DatasetError: There is none; it names those there are, and the one probably meant.
    """
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name.lower(), DATASETS, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise DatasetError(f"no dataset {name!r}; there are: {', '.join(DATASETS)}.{hint}")
