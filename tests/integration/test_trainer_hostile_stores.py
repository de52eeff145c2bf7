"""A store whose checksums fit, and which holds what no build writes, trains and judges nothing."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featurestore.store.arrays import StoredArrays, open_arrays
from featurestore.store.cliptable import write_columns
from featurestore.store.counts import status_counts
from featurestore.store.documents import put_in_root, put_manifest
from featurestore.store.fingerprint import signed
from featurestore.store.layout import TABLE
from featurestore.store.plan import fold_blocks
from schemas import Fold, StoreManifest
from tests.integration.trainer_runs import finished_run
from tests.integration.trainer_store import TINY, tiny_store
from tests.pairs import by_name, each_in_turn
from trainer.cli import main

NAME = "synthetic"
TRAIN = f"--method mel --init random --arch {TINY} --batch-size 48 --device cpu --threads 1"
QUICK = f"run {TRAIN} --fold 1 --epochs-scale 0.001 --out run"
LR_FIND = f"lr-find {TRAIN}"
EVALUATE = f"evaluate --run {finished_run.__name__}"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def arrays(tmp_path: Path) -> StoredArrays:
    """A copy of the store, to be spoilt and sealed again by whoever has our own code."""
    shutil.copytree(tiny_store(), tmp_path / "s.zarr")
    return open_arrays(tmp_path / "s.zarr", NAME)


def seal(arrays: StoredArrays, **update: Any) -> None:
    manifest = arrays.manifest.model_copy(update={"state": "complete", **update})
    arrays.set_manifest(manifest)


def put_column(arrays: StoredArrays, column: str, row: int, value: object, fold: int = 2) -> None:
    table = {name: arrays.read(fold, name).copy() for name in TABLE}
    table[column][row] = value
    write_columns(arrays, fold, [column], table)
    seal(arrays)


def put_value(arrays: StoredArrays, value: float, fold: int = 2) -> None:
    """Put the value into every array of a clip."""
    sizes = {part.fold: part.num_clips for part in arrays.manifest.folds}
    block = fold_blocks(fold, sizes[fold], arrays.manifest.block_clips)[0]
    spoilt = {}
    for array in arrays.manifest.spec.arrays:
        spoilt[array] = arrays.read(fold, array, block.rows).copy()
        spoilt[array][1, ...] = value
    arrays.write_block(block, spoilt)
    seal(arrays)


def put(arrays: StoredArrays, **update: Any) -> None:
    manifest: StoreManifest = signed(arrays.manifest.model_copy(update=update))
    put_in_root(arrays.storage, manifest)
    put_manifest(arrays.storage, manifest)


def refused(command: str, capsys: pytest.CaptureFixture[str], *words: str) -> None:
    command = command.replace(EVALUATE, f"evaluate --run {finished_run()}")
    code = main([*command.split(), "--store", "s.zarr"])
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if not line.startswith("warning: ")]
    assert code == 1, (command, error)
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in words), lines[0]
    assert not Path("run/result.json").exists()


COMMANDS = (QUICK, LR_FIND, EVALUATE)
LABELS = (-100, -1, 6, 9999, -(2**31), 2**31 - 1)
VALUES = (np.nan, np.inf, -np.inf, -0.25, 1.25, 60_000.0)


def to_each_command(rows: Iterable[Any]) -> list[Any]:
    """Return all pairs with a command; by default each row goes to one of them in turn."""
    return each_in_turn(rows, COMMANDS, lambda value: by_name(value).partition(" ")[0])


@pytest.mark.parametrize(("label", "command"), to_each_command(LABELS))
def test_labels_outside_the_classes_are_damage_to_every_command(
    arrays: StoredArrays, label: int, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put_column(arrays, "class_id", 3, label)
    refused(command, capsys, "class_id")


@pytest.mark.parametrize(("value", "command"), to_each_command(VALUES))
def test_features_outside_zero_to_one_are_damage_to_every_command(
    arrays: StoredArrays, value: float, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put_value(arrays, value)
    refused(command, capsys, "fold2/R")


def test_an_outcome_that_there_is_not_is_damage_to_every_command(
    arrays: StoredArrays, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {part.fold: part.num_clips for part in arrays.manifest.folds}
    block = fold_blocks(2, sizes[2], arrays.manifest.block_clips)[0]
    status = arrays.read(2, "status", block.rows).copy()
    status[1] = 77
    arrays.write_block(block, {"status": status})
    seal(arrays)
    for command in COMMANDS:
        refused(command, capsys, "status")


def fewer_classes(arrays: StoredArrays) -> None:
    card = arrays.manifest.card
    put(arrays, card=card.model_copy(update={"class_names": card.class_names[:3]}))


def more_clips(arrays: StoredArrays) -> None:
    folds = [fold.model_copy(update={"num_clips": 10**6}) for fold in arrays.manifest.folds]
    put(arrays, folds=tuple(folds), num_clips=sum(fold.num_clips for fold in folds))


def fewer_clips(arrays: StoredArrays) -> None:
    folds = [fold.model_copy(update={"num_clips": 20}) for fold in arrays.manifest.folds]
    put(arrays, folds=tuple(folds), num_clips=60)


def another_fold(arrays: StoredArrays) -> None:
    first, *rest = arrays.manifest.folds
    put(arrays, folds=(*rest, Fold(**first.model_dump() | {"fold": 9})))


def another_hop(arrays: StoredArrays) -> None:
    put(arrays, spec=arrays.manifest.spec.model_copy(update={"hop_length": 128}))


def other_chunks(arrays: StoredArrays) -> None:
    put(arrays, chunk_clips=arrays.manifest.chunk_clips * 2)


def other_counts(arrays: StoredArrays) -> None:
    put(arrays, counts={"ok": arrays.manifest.num_clips})


def unfinished(arrays: StoredArrays) -> None:
    put(arrays, state="building", counts={})


SPOILS = (
    *(fewer_classes, more_clips, fewer_clips, another_fold),
    *(another_hop, other_chunks, other_counts, unfinished),
)


@pytest.mark.parametrize(("spoil", "command"), to_each_command(SPOILS))
def test_a_manifest_that_contradicts_its_store_is_refused_by_every_command(
    arrays: StoredArrays,
    spoil: Callable[[StoredArrays], None],
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(arrays)
    refused(command, capsys)


def test_the_store_is_as_good_as_before_when_it_is_sealed_again(arrays: StoredArrays) -> None:
    """Stores refused above are refused for the fault in them, not for being copies."""
    seal(arrays, counts=status_counts(arrays))
    assert main([*QUICK.split(), "--store", "s.zarr"]) == 0
