"""Conversion of a stored dataset for other libraries: pandas, xarray, PyTorch.

Each library is imported by the method that needs it. Unlike with `read`, tables and arrays have a
row for every clip, and give the reason for clips without features.
"""

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from featurestore.arguments import typed_methods
from featurestore.errors import MissingLibraryError
from featurestore.store.axes import attributes, axes_of
from featurestore.store.plan import Block
from schemas import ClipStatus

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from featurestore.store.columns import ClipTable
    from featurestore.store.reader import StoredDataset

TORCH_GROUP = "featurestore.torch_dataset"
"""Entry point group by which a package provides a PyTorch dataset with the signature of
`trainer.ZarrDataset`, so that this package depends on neither PyTorch nor the trainer."""
_TABLE = (
    "fold",
    "class_id",
    "path",
    "source",
    "start_s",
    "end_s",
    "duration_s",
    "peak",
    "trimmed_s",
)


@typed_methods
class Conversions:
    """Methods of `StoredDataset` that convert it for other libraries."""

    def to_pandas(self, folds: Iterable[int] | None = None) -> "pd.DataFrame":
        """Return the clip table with a row per clip, including clips without features.

        The rows with `status` `ok` are those returned by `read`, in the same order.

        Args:
            folds: Numbers of folds; all by default.

        Returns:
            Columns `clip_id`, `fold`, `split` (name of the official split, if the fold is one),
            `row` (in the fold's arrays), `class_id`, `class_name` (categorical), `path`,
            `source`, `start_s`, `end_s`, `duration_s`, `peak`, `trimmed_s`, and `status`
            (categorical): `ok`, `pending` if not built yet, or the reason for the failure.

        Raises:
            MissingLibraryError: pandas is not installed.
            UnknownNameError: The store does not have one of the folds.
        """
        store = cast("StoredDataset", self)
        try:
            import pandas as pd
        except ImportError as error:
            raise _missing("pandas", "analysis") from error
        table = store.all_clips(folds)
        frame = pd.DataFrame(table.columns())
        names = pd.Series(store.fold_names, dtype=object)
        frame.insert(2, "split", frame["fold"].map(names))
        classes = pd.Categorical.from_codes(table.class_id, list(store.class_names))
        frame.insert(frame.columns.get_loc("class_id") + 1, "class_name", classes)
        frame["status"] = pd.Categorical.from_codes(table.status, _STATUSES)
        if store.multilabel:
            labels = pd.Series([None] * len(table), dtype=object)
            classes_of = np.array(store.class_names, object)
            present = np.flatnonzero(table.status == ClipStatus.OK)
            for row, flags in zip(present, store.all_labels(folds), strict=True):
                labels[row] = tuple(classes_of[flags > 0])
            frame.insert(frame.columns.get_loc("class_name") + 1, "labels", labels)
        return frame

    def to_xarray(
        self, folds: Iterable[int] | None = None, arrays: Iterable[str] | None = None
    ) -> "xr.DataTree":
        """Return the stored arrays, loaded lazily, with coordinates for all axes.

        `store.to_xarray()["R1/mel"].features` is one array, with one Dask chunk per chunk of the
        store, so that selecting clips reads only their chunks.

        Args:
            folds: Numbers of folds; all by default.
            arrays: Keys of arrays; all by default.

        Returns:
            A node for each array, with `features` (clip, band, frame), or (clip, sample) for a
            waveform, float32, images in [0, 1]; NaN for clips without features, whose `status`
            gives the reason (`pending`: not built yet). Coordinates: `clip` (the id), `band_hz`
            (centre of each band in Hz; or `coefficient`, `pitch_class`), `frame_s` (centre of
            each frame, in seconds from the start of the trimmed clip; or `sample_s`), and the
            columns of `to_pandas`.

        Raises:
            MissingLibraryError: xarray is not installed.
            UnknownNameError: The store does not have one of the folds or arrays.
            CorruptError: A chunk is damaged (raised when it is loaded).
        """
        store = cast("StoredDataset", self)
        try:
            import dask.array as da
            import xarray as xr
        except ImportError as error:
            raise _missing("xarray", "analysis") from error
        blocks, table = store.blocks(folds), store.all_clips(folds)
        columns = _clip_coordinates(store, table)
        present = table.status == ClipStatus.OK
        nodes = {"/": xr.Dataset(attrs=_attributes(store))}
        for array in store.arrays if arrays is None else arrays:
            lazy = _Rows(store, array, blocks, present)
            sizes = (tuple(map(len, blocks)) or (0,), *((size,) for size in store.shape(array)))
            features = da.from_array(lazy, chunks=sizes, name=False, asarray=False)
            spec, words = store.manifest.spec, {"long_name": array}
            of_array = axes_of(spec, array)
            if spec.feature(array) is not None:
                words = attributes(spec, array)
            dimensions = ("clip", *(axis.dimension for axis in of_array))
            points = {a.coordinate: (a.dimension, a.points, a.attributes) for a in of_array}
            nodes[f"/{array}"] = xr.Dataset(
                {"features": (dimensions, features, words)}, coords=columns | points
            )
        return xr.DataTree.from_dict(nodes, name=store.name)

    def torch_dataset(
        self,
        array: str,
        folds: Iterable[int] | None = None,
        **options: Any,  # noqa: ANN401 - those of the class
    ) -> Any:  # noqa: ANN401 - PyTorch is not known here
        """Return an array as a PyTorch dataset of the trainer: a `trainer.ZarrDataset`.

        Args:
            array: Key of the array.
            folds: Numbers of folds; all by default.
            options: Other arguments of `trainer.ZarrDataset`, such as `cache_blocks`.

        Raises:
            MissingLibraryError: The trainer or PyTorch is not installed.
            StoreError: The store lacks the array or a fold, or is unfinished.
        """
        store = cast("StoredDataset", self)
        store.shape(array)
        entry = next(iter(entry_points(group=TORCH_GROUP)), None)
        if entry is None:
            raise _missing("the trainer", "trainer")
        try:
            make = entry.load()
        except ImportError as error:
            raise _missing("PyTorch", "trainer") from error
        return make(store.path, array, dataset=store.name, folds=folds, **options)


_STATUSES = [status.name.lower() for status in ClipStatus]


def _missing(library: str, extra: str) -> MissingLibraryError:
    return MissingLibraryError(
        f"this needs {library}, which is not installed: pip install 'featurestore[{extra}]'"
    )


def _clip_coordinates(store: "StoredDataset", table: "ClipTable") -> dict[str, Any]:
    """Return the columns of the clip table as coordinates of xarray."""
    columns = {name: getattr(table, name) for name in _TABLE}
    columns["class_name"] = np.array([*store.class_names, ""], object)[table.class_id]  # -1: none
    columns["status"] = np.array(_STATUSES, object)[table.status]
    return {"clip": table.clip_id} | {name: ("clip", col) for name, col in columns.items()}


def _attributes(store: "StoredDataset") -> dict[str, str]:
    """Return where the data are from, for whoever is handed them."""
    card = store.card
    known = {"title": card.title, "license": card.licence, "references": card.citation}
    known |= {"fingerprint": store.fingerprint, "partial": store.partial or ""}
    return {name: text for name, text in known.items() if text}


class _Rows:
    """An array that reads the blocks that are asked for, as `dask.array.from_array` takes it."""

    def __init__(
        self,
        store: "StoredDataset",
        array: str,
        blocks: tuple[Block, ...],
        present: NDArray[np.bool_],
    ) -> None:
        self._store, self._array, self._blocks, self._present = store, array, blocks, present
        self._stops = np.cumsum([0, *map(len, blocks)])
        self.shape = (int(self._stops[-1]), *store.shape(array))
        self.dtype = np.dtype(np.float32)
        self.ndim = len(self.shape)

    def __getitem__(self, index: tuple[Any, ...]) -> NDArray[np.float32]:
        """Return some rows, and of them what the rest of the index says."""
        first, *rest = index
        rows = np.arange(self.shape[0])[first]
        flat = np.atleast_1d(rows)
        numbers = np.searchsorted(self._stops, flat, side="right") - 1
        result = np.empty((len(flat), *self.shape[1:]), np.float32)
        for number in np.unique(numbers):
            of_block = numbers == number
            result[of_block] = self._read(int(number))[flat[of_block] - self._stops[number]]
        return result[(slice(None) if rows.ndim else 0, *rest)]

    def _read(self, number: int) -> NDArray[np.float32]:
        """Return every row of a block; NaN in those without features."""
        block = self._blocks[number]
        values = np.full((len(block), *self.shape[1:]), np.nan, np.float32)
        ok = self._present[self._stops[number] : self._stops[number + 1]]
        if ok.any():
            scale = np.float32(self._store.scale_of(self._array))
            values[ok] = self._store.read_block(block, self._array).astype(np.float32) * scale
        return values
