"""The available datasets: how each is recognised, downloaded and read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType

from featurestore.arguments import typed
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
from featurestore.text import did_you_mean

GROUP = "featurestore.datasets"
"""Entry point group by which other packages add datasets: each entry names a DatasetKind."""


@dataclass(frozen=True)
class DatasetKind:
    """An entry of `DATASETS`: how to recognise, obtain and read a dataset."""

    name: str
    summary: str
    """Summary in one line."""
    default_store: str
    """Default file name of the store."""
    by_hand: str
    """How to get the dataset without this program; one sentence without a full stop."""
    load: Callable[[Path], Dataset]
    """Function that reads the dataset at a root; raises DatasetError."""
    markers: tuple[str, ...] = ()
    """Files and directories by which a root is recognised. If empty, any non-empty directory is a
        root."""
    other_markers: tuple[tuple[str, ...], ...] = ()
    """Markers of other layouts that `load` reads, such as Kaggle's."""
    directories: tuple[str, ...] = ()
    """Usual names of its directory."""
    num_clips: int = 0
    """Number of clips of the published dataset; 0 if it is not published."""
    num_classes: int = 0
    folds: str = ""
    """Folds or official splits, in words."""
    num_bytes: int = 0
    """Size of the download in bytes; 0 if unknown."""
    licence: str = ""
    made_on_demand: bool = False
    """Whether `load` creates the dataset if it is missing."""
    archive: Archive | None = None
    """Archive from which it is downloaded; None if it cannot be."""

    @property
    def layouts(self) -> tuple[tuple[str, ...], ...]:
        """Markers of each layout."""
        return (self.markers, *self.other_markers)

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
        dataset: Dataset = getattr(import_module(f"featurestore.datasets.{module}"), function)(root)
        return dataset

    return load


_GET_ESC50 = (
    f"get ESC-50 from {ESC50_PAGE} (about 650 MB; clone it, or unpack the archive of its main "
    "branch) and give its directory with --root"
)
_ESC50_DIRECTORIES = ("esc50", "ESC-50", "ESC-50-master")

_ESC50_KAGGLE = ("esc50.csv", AUDIO)

_KINDS = (
    DatasetKind(
        name="urbansound8k",
        summary="UrbanSound8K: 8732 clips of city sounds in 10 classes and 10 folds",
        default_store="./us8k.zarr",
        by_hand="download UrbanSound8K.tar.gz (6.0 GB) from https://zenodo.org/records/1203745, "
        "unpack it and give its directory with --root",
        archive=URBANSOUND8K,
        load=_loader("urbansound8k"),
        other_markers=(("UrbanSound8K.csv", "fold1"),),
        num_clips=8732,
        num_classes=10,
        folds="10",
        num_bytes=URBANSOUND8K.num_bytes,
        licence=URBANSOUND8K.licence,
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
        other_markers=(_ESC50_KAGGLE,),
        num_clips=2000,
        num_classes=50,
        folds="5",
        num_bytes=ESC50.num_bytes,
        licence="CC BY-NC 3.0",
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
        other_markers=(_ESC50_KAGGLE,),
        num_clips=400,
        num_classes=10,
        folds="5",
        num_bytes=ESC50.num_bytes,
        licence="CC BY 3.0",
        markers=(ESC50_TABLE, AUDIO),
        directories=("esc10", "ESC-10", *_ESC50_DIRECTORIES),
    ),
    DatasetKind(
        name="fsdnoisy18k",
        summary="FSDnoisy18k: 18532 clips of Freesound, 20 classes, noisy labels and a clean test",
        default_store="./fsdnoisy18k.zarr",
        by_hand="download the archives of https://zenodo.org/records/2529934, unpack them into one "
        "directory and give it with --root",
        load=_loader("published", "load_fsdnoisy18k"),
        markers=("FSDnoisy18k.meta", "FSDnoisy18k.audio_train", "FSDnoisy18k.audio_test"),
        directories=("fsdnoisy18k", "FSDnoisy18k"),
        num_clips=18_532,
        num_classes=20,
        folds="train, test",
        licence="CC BY 4.0",
    ),
    DatasetKind(
        name="tau_scenes",
        summary="TAU Urban Acoustic Scenes 2020 Mobile, development: ten scenes in ten cities",
        default_store="./tau_scenes.zarr",
        by_hand="download the archives of https://zenodo.org/records/3819968, unpack them and give "
        "the directory with meta.csv with --root",
        load=_loader("published", "load_tau"),
        markers=("meta.csv", "evaluation_setup/fold1_train.csv", AUDIO),
        directories=("tau_scenes", "TAU-urban-acoustic-scenes-2020-mobile-development"),
        num_clips=16_930,
        num_classes=10,
        folds="train, test",
        licence="academic use",
    ),
    DatasetKind(
        name="speech_commands",
        summary="Speech Commands 0.02: 105829 spoken words in 35 classes",
        default_store="./speech_commands.zarr",
        by_hand="download http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz, unpack "
        "it and give its directory with --root",
        load=_loader("published", "load_speech_commands"),
        markers=("testing_list.txt", "validation_list.txt"),
        directories=("speech_commands", "speech_commands_v0.02", "SpeechCommands"),
        num_clips=105_829,
        num_classes=35,
        folds="train, valid, test",
        num_bytes=2_428_923_189,
        licence="CC BY 4.0",
    ),
    DatasetKind(
        name="gtzan",
        summary="GTZAN by its fault-filtered split: 930 excerpts of music in 10 genres",
        default_store="./gtzan.zarr",
        by_hand="get GTZAN's genres.tar.gz, unpack it and give the directory with genres/ (or "
        "Kaggle's genres_original/) with --root",
        load=_loader("published", "load_gtzan"),
        markers=("genres/blues",),
        other_markers=(("genres_original/blues",),),
        directories=("gtzan", "GTZAN"),
        num_clips=930,
        num_classes=10,
        folds="train, valid, test",
        licence="unknown",
    ),
    DatasetKind(
        name="fsd50k",
        summary="FSD50K: 51197 clips of Freesound with several labels each of 200 classes",
        default_store="./fsd50k.zarr",
        by_hand="download the archives of https://zenodo.org/records/4060432, unpack them into one "
        "directory and give it with --root",
        load=_loader("several", "load_fsd50k"),
        markers=("FSD50K.ground_truth/dev.csv", "FSD50K.dev_audio"),
        directories=("fsd50k", "FSD50K"),
        num_clips=51_197,
        num_classes=200,
        folds="train, valid, test",
        licence="CC BY 4.0",
    ),
    DatasetKind(
        name="birdset",
        summary="A subset of BirdSet, such as HSN: bird calls, several species per clip or none",
        default_store="./birdset.zarr",
        by_hand="download a subset's directory of "
        "https://huggingface.co/datasets/DBD-research-group/BirdSet, unpack its archives there and "
        "give it with --root",
        load=_loader("several", "load_birdset"),
        directories=("birdset", "BirdSet"),
        folds="train, test",
        licence="by recording",
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
"""Built-in datasets by name."""


@typed
def find_kind(name: str) -> DatasetKind:
    """Return the dataset with a given name.

    Raises:
        DatasetError: There is none; the message lists all names, and the one probably meant.
    """
    if name in DATASETS:
        return DATASETS[name]
    for point in entry_points(group=GROUP, name=name):
        return _kind_of(point)
    names = known_names()
    meant = did_you_mean(name.lower(), names, cutoff=0.4)
    raise DatasetError(f"no dataset {name!r}; there are: {', '.join(names)}{meant}")


def known_names() -> tuple[str, ...]:
    """Return the names of the built-in datasets, and of those added by other packages."""
    added = (point.name for point in entry_points(group=GROUP))
    return (*DATASETS, *sorted(set(added) - set(DATASETS)))


def all_kinds() -> tuple[DatasetKind, ...]:
    """Return the built-in datasets, and those added by other packages.

    Raises:
        DatasetError: A dataset of another package cannot be loaded.
    """
    return tuple(map(find_kind, known_names()))


def _kind_of(point: EntryPoint) -> DatasetKind:
    """Return the dataset that an entry point names.

    Raises:
        DatasetError: It cannot be loaded, or is something else.
    """
    where = f"the dataset {point.name}, which the entry point {point.value} adds,"
    try:
        kind = point.load()
    except Exception as error:  # somebody else's code
        raise DatasetError(
            f"{where} cannot be loaded ({type(error).__name__}: {error}); update or remove the "
            "package that adds it"
        ) from error
    if not isinstance(kind, DatasetKind) or kind.name != point.name:
        raise DatasetError(
            f"{where} is no DatasetKind of that name; update or remove the package that adds it"
        )
    return kind
