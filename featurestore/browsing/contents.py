"""One dataset for the page: metadata, clip table, images as tiles. JSON-ready, read on demand.

Counts by class and fold, medians and the like are computed from the table by the page itself.
"""

import math
from collections import OrderedDict
from functools import cached_property
from threading import Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import FeatureStoreError, StoreError
from featurestore.reading.axes import (
    detail_window,
    duration_s,
    mel_bounds,
    repetition_period,
)
from featurestore.store.axes import axes_of
from featurestore.store.columns import ClipTable
from featurestore.store.plan import Block
from featurestore.store.reader import StoredDataset
from featurestore.text import json_text, mask_url
from schemas import FULL, ClipStatus, FeatureSpec

GROUP_CLIPS = 16
"""Number of thumbnails per file."""
_THUMBNAIL = (64, 128)
"""Maximum number of bands and of frames in a thumbnail."""
_KEPT_CHUNKS = 128
"""Number of chunks of thumbnails kept in memory, half a MB each."""
_STEPS = 65_535
"""Quantisation steps of the values that the page receives: uint16 over the declared range."""


class Contents:
    """A dataset of a store in the form that the page needs.

    Args:
        dataset: The open dataset, complete or not.
    """

    def __init__(self, dataset: StoredDataset) -> None:
        self.dataset = dataset
        self._thumbnails: OrderedDict[Block, NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()
        self._scan = _Scan(dataset)

    @cached_property
    def table(self) -> ClipTable:
        """All clips in order of folds and rows; a clip's number is its position here."""
        return self.dataset.all_clips()

    @property
    def complete(self) -> bool:
        """Whether the build is complete."""
        return self.dataset.manifest.state == "complete"

    @cached_property
    def revision(self) -> str:
        """String that changes whenever more is built, also of clips that had failed."""
        manifest = self.dataset.manifest
        counts = "-".join(map(str, np.bincount(self.table.status).tolist()))
        return f"{manifest.fingerprint[:16]}-{manifest.state}-{counts}"

    def collection(self) -> dict[str, Any]:
        """Return the dataset's metadata, how it was built, and its arrays."""
        dataset, manifest = self.dataset, self.dataset.manifest
        status, counts = np.unique(self.table.status, return_counts=True)
        return {
            "name": dataset.name,
            "path": json_text(mask_url(dataset.path)),
            "state": manifest.state,
            "revision": self.revision,
            "card": manifest.card.model_dump(mode="json"),
            "partial": dataset.partial,
            "folds": [
                {"fold": f.fold, "name": f.label, "clips": f.num_clips} for f in manifest.folds
            ],
            "num_clips": manifest.num_clips,
            "counts": {
                ClipStatus(int(code)).name.lower(): int(number)
                for code, number in zip(status, counts, strict=True)
            },
            "statuses": {int(s): {"name": s.name.lower(), "reason": s.reason} for s in ClipStatus},
            "fingerprint": manifest.fingerprint,
            "format_version": manifest.format_version,
            "extractor_version": manifest.extractor_version,
            "libraries": manifest.libraries,
            "chunk_clips": manifest.chunk_clips,
            "spec": manifest.spec.model_dump(mode="json"),
            "spec_changes": manifest.spec.model_dump(mode="json", exclude_defaults=True),
            "arrays": [self._array(name) for name in dataset.arrays],
            "thumbnail": {
                "array": self._small,
                "shape": list(self._thumbnail_shape),
                "group": GROUP_CLIPS,
            },
        }

    def _array(self, name: str) -> dict[str, Any]:
        spec = self.dataset.manifest.spec
        shape, is_image = self.dataset.shape(name), name in spec.images
        return {
            "name": name,
            "shape": list(shape),
            "seconds": duration_s(name, spec),
            "is_image": is_image,
            "bands_hz": _bands_hz(spec, name),
        }

    def clips(self) -> dict[str, Any]:
        """Return the clip table as columns, with None for unknown values.

        `path` and `source` are None if they are empty or add nothing to `clip_id`. `labels`, if
        clips may have several, are lists of class_id; None for clips without features.
        """
        table = self.table
        columns: dict[str, list[Any]] = {
            "clip_id": table.clip_id.tolist(),
            "fold": table.fold.tolist(),
            "row": table.row.tolist(),
            "class_id": table.class_id.tolist(),
            "duration_s": _numbers(table.duration_s, 4),
            "peak": _numbers(table.peak, 6),
            "status": table.status.tolist(),
        }
        ids = columns["clip_id"]
        columns["path"] = [
            None if path == name else path
            for path, name in zip(table.path.tolist(), ids, strict=True)
        ]
        columns["source"] = [source or None for source in table.source.tolist()]
        if self.dataset.manifest.parts:
            columns |= {"start_s": _numbers(table.start_s, 6), "end_s": _numbers(table.end_s, 6)}
        if self.dataset.multilabel:
            columns["labels"] = self._labels
        return {"revision": self.revision, "columns": columns}

    def multi_hot(self) -> NDArray[np.bool_]:
        """Return the labels of every clip, (n, classes); all False for clips without features."""
        labels = np.zeros((len(self.table), len(self.dataset.class_names)), np.bool_)
        labels[self.table.status == ClipStatus.OK] = self.dataset.all_labels()
        return labels

    @cached_property
    def _labels(self) -> list[list[int] | None]:
        rows = zip(self.multi_hot(), self.table.status, strict=True)
        return [
            np.flatnonzero(of).tolist() if status == ClipStatus.OK else None for of, status in rows
        ]

    def clip(self, number: int) -> dict[str, Any]:
        """Return a clip's row, the layout of `images`, its repetition and best detail."""
        fold, row = self.place(number)
        columns = {name: _plain(of[number]) for name, of in self.table.columns().items()}
        if self.dataset.multilabel:
            labels = self._labels[number] or []
            columns["labels"] = [self.dataset.class_names[label] for label in labels]
        status = ClipStatus(int(self.table.status[number]))
        answer: dict[str, Any] = {
            "row": columns | {"class_name": self._class_name(number), "reason": status.reason},
            "arrays": [],
            "period_s": None,
            "detail": None,
        }
        if status != ClipStatus.OK:
            return answer
        spec = self.dataset.manifest.spec
        images = self.dataset.read_row(fold, row)
        answer["row"]["source_sha256"] = self.digest(number).hex()
        offset = 0
        for name, values in images.items():
            answer["arrays"].append(
                {
                    "name": name,
                    "offset": offset,
                    "shape": list(values.shape),
                    "range": self._range(name, values),
                }
            )
            offset += values.size
        full = images[f"{spec.full.name}/{FULL}"]
        period = repetition_period(full, spec)
        if period is not None:
            answer["period_s"] = period * spec.hop_length / spec.sample_rate
        durations = [duration_s(name, spec) for name in spec.images]
        answer["detail"] = self._detail(full, min(*durations, answer["period_s"] or math.inf))
        return answer

    def _detail(self, full: NDArray[np.float32], shared_s: float) -> dict[str, float]:
        """Return the part to magnify: seconds, and shares of the height."""
        spec = self.dataset.manifest.spec
        window, (low, high) = detail_window(full, spec, shared_s), mel_bounds(spec)
        return {
            "start_s": window.start_s,
            "stop_s": window.stop_s,
            "low": (window.low_mel - low) / (high - low),
            "high": (window.high_mel - low) / (high - low),
        }

    def images(self, number: int) -> bytes:
        """Return all arrays of a clip, concatenated, as little-endian uint16 scaled to their range.

        Raises:
            StoreError: The clip has no features, or they are damaged.
        """
        fold, row = self.place(number)
        if self.table.status[number] != ClipStatus.OK:
            raise StoreError(f"{self.table.clip_id[number]} has no features")
        parts = []
        for name, values in self.dataset.read_row(fold, row).items():
            low, high = self._range(name, values)
            steps = np.rint((np.clip(values, low, high) - low) * (_STEPS / (high - low)))
            parts.append(steps.astype("<u2").tobytes())
        return b"".join(parts)

    def _range(self, name: str, values: NDArray[np.float32]) -> tuple[float, float]:
        """Return the bounds of an array, or where it has none, those of its values in a clip."""
        low, high = self.dataset.bounds_of(name)
        low = float(values.min()) if low is None else low
        high = float(values.max()) if high is None else high
        return low, high if high > low else low + 1

    def thumbnails(self, group: int) -> bytes:
        """Return the thumbnails of a group of clips: uint8, black for clips without features.

        Raises:
            IndexError: There is no such group.
            StoreError: The images are damaged.
        """
        numbers = range(group * GROUP_CLIPS, min((group + 1) * GROUP_CLIPS, len(self.table)))
        if group < 0 or not len(numbers):
            raise IndexError(group)
        return b"".join(self._thumbnail(number).tobytes() for number in numbers)

    def place(self, number: int) -> tuple[int, int]:
        """Return the fold and the row of a clip.

        Raises:
            IndexError: There is no such clip.
        """
        if not 0 <= number < len(self.table):
            raise IndexError(number)
        return int(self.table.fold[number]), int(self.table.row[number])

    def has_features(self, number: int) -> bool:
        """Return whether a clip has features."""
        return bool(self.table.status[number] == ClipStatus.OK)

    def digest(self, number: int) -> bytes:
        """Return the SHA-256 (32 bytes) of the file from which a clip's features were made."""
        return self.dataset.source_digest(*self.place(number))

    def repetition(self, *, wait: bool = False) -> dict[str, Any]:
        """Return the period in seconds with which each clip was repeated, as far as known yet.

        Args:
            wait: Whether to wait until it is known for all clips.
        """
        return self._scan.facts(wait=wait)

    def _class_name(self, number: int) -> str:
        class_id = int(self.table.class_id[number])
        return self.dataset.class_names[class_id] if class_id >= 0 else ""

    @cached_property
    def _small(self) -> str:
        return self.dataset.arrays[0]

    @cached_property
    def _thumbnail_shape(self) -> tuple[int, int]:
        bands, frames = self.dataset.shape(self._small)
        steps = [
            math.ceil(size / most) for size, most in zip((bands, frames), _THUMBNAIL, strict=True)
        ]
        return bands // steps[0], frames // steps[1]

    def _thumbnail(self, number: int) -> NDArray[np.uint8]:
        fold, row = self.place(number)
        size = self.dataset.manifest.chunk_clips
        start = row // size * size
        stop = min(start + size, self._fold_sizes[fold])
        thumbnail: NDArray[np.uint8] = self._chunk_thumbnails(Block(fold, start, stop))[row - start]
        return thumbnail

    def _chunk_thumbnails(self, block: Block) -> NDArray[np.uint8]:
        with self._lock:
            if block in self._thumbnails:
                self._thumbnails.move_to_end(block)
                return self._thumbnails[block]
        made = self._make_thumbnails(block)
        with self._lock:
            self._thumbnails[block] = made
            while len(self._thumbnails) > _KEPT_CHUNKS:
                self._thumbnails.popitem(last=False)
        return made

    def _make_thumbnails(self, block: Block) -> NDArray[np.uint8]:
        """Return means of neighbouring values of each image of a chunk: (n, bands, frames)."""
        bands, frames = self._thumbnail_shape
        images = self.dataset.read_block(block, self._small)
        steps = images.shape[1] // bands, images.shape[2] // frames
        cut = images[:, : bands * steps[0], : frames * steps[1]].astype(np.float32)
        means = cut.reshape(len(cut), bands, steps[0], frames, steps[1]).mean(axis=(2, 4))
        scaled = np.clip(means * np.float32(self.dataset.scale_of(self._small)), 0, 1) * 255
        ok = self.table.status[self._first[block.fold] :][block.rows] == ClipStatus.OK
        made = np.zeros((len(block), bands, frames), np.uint8)
        made[ok] = np.rint(scaled)
        return made

    @cached_property
    def _fold_sizes(self) -> dict[int, int]:
        return {fold.fold: fold.num_clips for fold in self.dataset.manifest.folds}

    @cached_property
    def _first(self) -> dict[int, int]:
        """The number of the first clip of each fold."""
        sizes = list(self._fold_sizes.values())
        starts = np.cumsum([0, *sizes[:-1]]).tolist()
        return dict(zip(self._fold_sizes, starts, strict=True))


class _Scan:
    """Finds the clips that were repeated to fill the largest image; reads all of these images.

    Where a clip was repeated its images show how long it was once silence was removed: what nothing
    else in a store says.
    """

    def __init__(self, dataset: StoredDataset) -> None:
        self._dataset = dataset
        spec = dataset.manifest.spec
        self._array, self._frame_s = (
            f"{spec.full.name}/{FULL}",
            spec.hop_length / spec.sample_rate,
        )
        self._periods: dict[int, list[float | None]] = {fold: [] for fold in dataset.folds}
        self._done, self._error = 0, ""
        self._thread: Thread | None = None
        self._lock = Lock()

    def facts(self, *, wait: bool) -> dict[str, Any]:
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._run, daemon=True)
                self._thread.start()
        if wait:
            self._thread.join()
        total = sum(fold.num_clips for fold in self._dataset.manifest.folds)
        complete = self._done == total  # seen before the periods, which are added first
        periods = [p for fold in self._dataset.folds for p in self._periods[fold]]
        return {
            "done": self._done,
            "total": total,
            "error": self._error,
            "image_s": self._dataset.manifest.spec.full.num_frames * self._frame_s,
            "period_s": periods if complete else None,
        }

    def _run(self) -> None:
        try:
            for block in self._dataset.blocks():
                self._periods[block.fold] += self._of_block(block)
                self._done += len(block)
        except (FeatureStoreError, OSError) as error:
            self._error = mask_url(error)

    def _of_block(self, block: Block) -> list[float | None]:
        periods: list[float | None] = [None] * len(block)
        images = iter(self._dataset.read_block(block, self._array))
        status = self._dataset.all_clips([block.fold]).status[block.rows]
        for row in np.flatnonzero(status == ClipStatus.OK):
            period = repetition_period(next(images), self._dataset.manifest.spec)
            periods[row] = None if period is None else round(period * self._frame_s, 4)
        return periods


def _bands_hz(spec: FeatureSpec, name: str) -> list[float] | None:
    """Return the frequencies on which the bands of an array are centred, if they are in Hz."""
    first = axes_of(spec, name)[0]
    is_centre = str(first.attributes.get("long_name", "")).startswith("centre")
    is_hz = first.coordinate == "band_hz" and is_centre
    return np.round(first.points, 3).tolist() if is_hz else None


def _numbers(values: NDArray[Any], decimals: int) -> list[float | None]:
    """Return numbers as JSON has them: rounded, None for NaN."""
    rounded = np.round(values.astype(np.float64), decimals).tolist()
    return [None if value != value else value for value in rounded]


def _plain(value: Any) -> Any:  # noqa: ANN401  (of any column)
    """Return a value of a column as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
