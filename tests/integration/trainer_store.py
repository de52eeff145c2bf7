"""Small stores for the trainer's tests: built once, from sounds made on the spot."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

from featurestore import StoredDataset, open_store
from featurestore.building.build import build
from featurestore.datasets import load_dataset
from schemas import FeatureSpec, Resolution
from tests.conftest import write_folder
from tests.once import made_once, synthetic_data
from trainer.config import TrainingOptions
from trainer.plan import Plan, plan_run

# Tests run next to each other; threads that wait for a core they do not get are slow.
torch.set_num_threads(1)

RESOLUTIONS = (
    Resolution(name="R1", n_mels=16, num_frames=16),
    Resolution(name="R2", n_mels=24, num_frames=24),
    Resolution(name="R3", n_mels=32, num_frames=40),
)
CHUNK = 16
# A network of 0.4 million parameters: a run takes a seventh of the time of resnet18's, and a 25th
# of its disk. resnet18 is what the tests of the command line train.
TINY = "timm:test_resnet"
NUM_CLIPS = 143  # of 144: one file is gone


@cache
def place() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="trainer-tests-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@cache
def sounds() -> Path:
    """144 sounds of six classes in three folds, one of them gone."""

    def make(root: Path) -> None:
        shutil.copytree(synthetic_data() / "synthetic", root)
        (root / load_dataset("synthetic", root).clips[5].path).unlink()

    return made_once("sounds", make)


def tiny_store(dtype: str = "float16") -> Path:
    """Three folds of 48 clips, six classes, one clip failed; three chunks per fold and array."""
    return _tiny_store(dtype)


@cache
def _tiny_store(dtype: str) -> Path:
    return made_once(
        f"{dtype}.zarr", lambda store: build_small(sounds(), "synthetic", store, dtype)
    )


@cache
def one_fold_store() -> Path:
    """A store that nothing can be held out of."""
    return build_small(write_folder(place() / "one", num_folds=1), "folder", place() / "one.zarr")


@cache
def lonely_class_store() -> Path:
    """Two folds; all clips of class `low` are in fold 2."""
    root = write_folder(place() / "lonely")
    for file in (root / "fold1" / "low").iterdir():
        file.rename(root / "fold1" / "high" / f"was-{file.name}")
    return build_small(root, "folder", place() / "lonely.zarr")


def build_small(root: Path, name: str, store: Path, dtype: str = "float16") -> Path:
    """A store of small images, in chunks of few clips."""
    spec = FeatureSpec(resolutions=RESOLUTIONS, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurestore.store.plan.chunk_clips", lambda fold_sizes: CHUNK)
        build(load_dataset(name, root), store, spec)
    return store


def tiny_plan(**options: object) -> tuple[StoredDataset, Plan]:
    """The tiny store, and a plan of seconds: one epoch per stage of the smallest network."""
    small = {
        "method": "resize",
        "folds": (1,),
        "init": "random",
        "epochs_scale": 0.01,
        "batch_size": 48,
        "arch": TINY,
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
    }
    dataset = open_store(tiny_store())
    return dataset, plan_run(dataset, TrainingOptions(**(small | options)))
