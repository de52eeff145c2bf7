"""Contents of an export: clips of selected folds with features, labels and sounds, by block."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.cliplist import NO_ITEM
from featurestore.datasets.leftout import SUFFIXES
from featurestore.errors import AudioError, DatasetError, SourcesError, UnknownNameError
from featurestore.extraction.shards import read_item
from featurestore.extraction.sources import clip_file, open_source
from featurestore.reading import Watch
from featurestore.store.columns import ClipTable
from featurestore.store.plan import Block
from featurestore.store.reader import StoredDataset

_MOST_SOUND_BYTES = 1 << 30
_SPLIT = re.compile(r"[A-Za-z0-9_]{1,60}")
_FIRST_BYTES = {b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3", b"\xff": "mp3"}


@dataclass(frozen=True)
class Part:
    """The clips of a block that have features.

    Attributes:
        split: Name of the fold for other programs: its own if it is a simple word, else `foldN`.
        table: Rows of the clip table.
        keys: Key of each clip in the export, unique and without dots and slashes.
        labels: class_id (n,) int64, or multi-hot labels (n, classes) uint8.
        arrays: Arrays by key, (n, ...) float32; images in [0, 1].
        sounds: Suffix and content of each audio file; None without a root.
    """

    split: str
    table: ClipTable
    keys: list[str]
    labels: NDArray[Any]
    arrays: dict[str, NDArray[np.float32]]
    sounds: list[tuple[str, bytes]] | None


def fold_numbers(store: StoredDataset, folds: Iterable[int | str]) -> tuple[int, ...]:
    """Return the numbers of folds given by number or name."""
    named = {name: fold for fold, name in store.fold_names.items()}
    numbers = []
    for fold in folds:
        text = str(fold)
        known = named.get(text, int(text) if text.isdecimal() else None)
        if known not in store.folds:
            raise UnknownNameError("fold", fold, [*store.folds, *named])
        numbers.append(known)
    return tuple(dict.fromkeys(numbers)) or store.folds


def chosen_arrays(
    store: StoredDataset, arrays: Iterable[str], root: Path | None
) -> tuple[str, ...]:
    """Return the requested arrays; by default all, or none if sounds are exported."""
    chosen = tuple(dict.fromkeys(arrays))
    for array in chosen:
        store.shape(array)
    return chosen or (store.arrays if root is None else ())


@dataclass(frozen=True)
class Plan:
    """Contents of an export, whatever its format."""

    store: StoredDataset
    folds: tuple[int, ...]
    arrays: tuple[str, ...]
    root: Path | None

    def __post_init__(self) -> None:
        table = self.store.clips(self.folds)
        if not len(table):
            raise DatasetError(f"{self.store.path}: no clip of these folds has features")
        if self.root is not None and not (np.isnan(table.start_s) & np.isnan(table.end_s)).all():
            raise DatasetError(
                f"clips of {self.store.name} are parts of their recordings, which are not cut: "
                "leave the root out"
            )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Blocks to read."""
        return self.store.blocks(self.folds)

    @property
    def num_clips(self) -> int:
        """Number of clips to write."""
        return len(self.store.clips(self.folds))

    def split(self, fold: int) -> str:
        """Return the name of a fold for other programs."""
        name = self.store.fold_names.get(fold, "")
        return name if _SPLIT.fullmatch(name) else f"fold{fold}"

    def parts(self, watch: Watch) -> Iterator[Part]:
        """Yield the clips, block by block."""
        done: list[Part] = []

        def steps() -> Iterator[None]:
            fold, table = None, None
            for block in self.blocks:
                if table is None or block.fold != fold:
                    fold, table = block.fold, self.store.clips([block.fold])
                done.append(self._part(block, table))
                yield

        for _ in watch(steps(), len(self.blocks)):
            if len(done[-1].keys):
                yield done[-1]
            done.clear()

    def _part(self, block: Block, of_fold: ClipTable) -> Part:
        store = self.store
        table = of_fold.where((of_fold.row >= block.start) & (of_fold.row < block.stop))
        arrays = {
            key: store.read_block(block, key).astype(np.float32) * np.float32(store.scale_of(key))
            for key in self.arrays
        }
        keys = [f"fold{block.fold}-{row:08d}" for row in table.row]
        sounds = None
        if self.root is not None:
            sounds = [self._sound(self.root, table, row) for row in range(len(table))]
        return Part(self.split(block.fold), table, keys, store.labels(block), arrays, sounds)

    def _sound(self, root: Path, table: ClipTable, row: int) -> tuple[str, bytes]:
        path, item = str(table.path[row]), int(table.item[row])
        try:
            data = _read_sound(clip_file(root, path), item)
        except AudioError as error:
            raise SourcesError(f"{root / path}: {error}") from error
        digest = self.store.source_digest(int(table.fold[row]), int(table.row[row]))
        if sha256(data).digest() != digest:
            raise SourcesError(
                f"{root}: {table.address(row)} is not the file that the features were made from: "
                "put it back, or leave the root out"
            )
        return _suffix(path, data), data


def _read_sound(path: Path, item: int) -> bytes:
    if item != NO_ITEM:
        return read_item(path, item, _MOST_SOUND_BYTES)
    descriptor, _ = open_source(path, _MOST_SOUND_BYTES)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _suffix(path: str, data: bytes) -> str:
    """Return a sound's suffix: its file's, if that is one of a sound; else by its first bytes."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in SUFFIXES:
        return suffix[1:]
    return next((name for first, name in _FIRST_BYTES.items() if data.startswith(first)), "audio")
