"""Clips of a store in files for other programs: `.npz`, WebDataset tars, Parquet for `datasets`.

Features and labels come from the store; if a root is given, the audio files are included, after
comparing their digests with the store's. Names within the files are numbers; clip ids are data in
them. All output is written to temporary files first and renamed.
"""

import io
import json
import os
import shutil
import tarfile
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DatasetError, MissingLibraryError
from featurestore.files import TEMPORARY, check_output, replacing
from featurestore.reading import Watch
from featurestore.reading.exportplan import Part, Plan, chosen_arrays, fold_numbers
from featurestore.store.reader import StoredDataset
from featurestore.text import json_text, printable

Format = Literal["npz", "webdataset", "parquet"]
_TAR_BYTES, _TAR_CLIPS = 1 << 28, 10_000
"""Size in bytes and number of clips at which a new tar is started."""
_TEXT_COLUMNS = ("clip_id", "path")


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Attributes:
        path: Path of the file or the directory.
        files: Files in the directory, relative to it.
        num_clips: Number of clips written.
        num_left_out: Number of clips of the folds that have no features.
        arrays: Keys of the arrays written.
        folds: Numbers of the folds written.
    """

    path: Path
    files: tuple[str, ...]
    num_clips: int
    num_left_out: int
    arrays: tuple[str, ...]
    folds: tuple[int, ...]


def export(
    store: StoredDataset,
    out: Path,
    kind: Format,
    *,
    folds: Iterable[int | str] = (),
    arrays: Iterable[str] = (),
    root: Path | None = None,
    watch: Watch = lambda steps, total: steps,
) -> Exported:
    """Write clips of a store for other programs.

    Args:
        store: Dataset to export; clips without features are left out.
        out: Path of the `.npz` file, or of a directory that must not exist.
        kind: `npz`: arrays by their keys, `class_id` (or `labels`), `class_names` and the clip
            table, for `numpy.load`. `webdataset`: tars of samples `KEY.R1-mel.npy`, `KEY.cls`,
            `KEY.json` and, with a root, the sound. `parquet`: a file per fold with features of type
                `ClassLabel`, `Array2D` and, with a root, `Audio`, for `datasets.load_dataset`.
        folds: Numbers or names of folds; all by default.
        arrays: Keys of arrays; all by default, or none with a root.
        root: Root of the audio files, to write these as well.
        watch: Shows the progress.

    Raises:
        UnknownNameError: The store has no such fold or array.
        DatasetError: The directory exists, the file is not named `.npz`, or the sounds cannot be
            written.
        SourcesError: An audio file is missing, or not the one from which the features were made.
        CorruptError: The store is damaged.
        MissingLibraryError: pyarrow is not installed, for `parquet`.
    """
    plan = Plan(store, fold_numbers(store, folds), chosen_arrays(store, arrays, root), root)
    if kind == "npz":
        if root is not None:
            raise DatasetError("a .npz file holds no sounds: leave the root out, or take another")
        _check_npz(out)
        with replacing(out) as aside:
            num_clips = _write_npz(plan, aside, watch)
        files: tuple[str, ...] = ()
    else:
        write = _write_tars if kind == "webdataset" else _write_parquet
        with _new_directory(out) as directory:
            num_clips = write(plan, directory, watch)
            files = tuple(
                sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())
            )
    left_out = len(store.all_clips(plan.folds)) - num_clips
    return Exported(out, files, num_clips, left_out, plan.arrays, plan.folds)


def _check_npz(out: Path) -> None:
    """Refuse a file that no export may replace, such as a table named by mistake.

    Raises:
        DatasetError: It is not named `.npz`, or there is no place for it.
    """
    if out.suffix != ".npz":
        raise DatasetError(f"{out}: expected a file whose name ends in .npz")
    _check_parent(out)
    check_output(out)


def _check_parent(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise DatasetError(f"{out}: the directory {out.absolute().parent} does not exist")


@contextmanager
def _new_directory(out: Path) -> Iterator[Path]:
    """Yield a directory that becomes `out` when the block has ended well; else nothing is left.

    Raises:
        DatasetError: There is something of that name, or no place for it.
    """
    if os.path.lexists(out):
        raise DatasetError(f"{out}: exists; give another --out, or remove it")
    _check_parent(out)
    aside = out.with_name(f".{out.name[:60]}.{uuid.uuid4().hex}{TEMPORARY}")
    aside.mkdir()
    try:
        yield aside
        aside.rename(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _write_npz(plan: Plan, path: Path, watch: Watch) -> int:
    """Write arrays block by block, so that memory holds one."""
    table = plan.store.clips(plan.folds)
    labels = plan.store.all_labels(plan.folds)
    columns = {
        "labels" if plan.store.multilabel else "class_id": labels,
        "class_names": np.array([json_text(n) for n in plan.store.class_names]),
        "fold": table.fold,
        "duration_s": table.duration_s,
        "fingerprint": np.array(plan.store.fingerprint),
        **{
            name: np.array([json_text(text) for text in getattr(table, name)])
            for name in _TEXT_COLUMNS
        },
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as file:
        for name, column in columns.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, column, allow_pickle=False)
        for key in plan.arrays:
            _write_member(file, key, Plan(plan.store, plan.folds, (key,), None), watch)
    return len(table)


def _write_member(file: zipfile.ZipFile, key: str, plan: Plan, watch: Watch) -> None:
    shape = (plan.num_clips, *plan.store.shape(key))
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with file.open(f"{key}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for part in plan.parts(watch):
            member.write(part.arrays[key].astype("<f4", copy=False).tobytes())


def _write_tars(plan: Plan, directory: Path, watch: Watch) -> int:
    """Write WebDataset's tars and an index of them."""
    names = {key: f"{key.replace('/', '-').lower()}.npy" for key in plan.arrays}
    if len(set(names.values())) < len(names):
        raise DatasetError("names of arrays differ in upper and lower case only: choose --array")
    tars = _Tars(directory)
    with tars:
        for part in plan.parts(watch):
            for row, key in enumerate(part.keys):
                tars.add(part.split, key, dict(_members(plan, part, row, names)))
    index = {
        "dataset": plan.store.name,
        "fingerprint": plan.store.fingerprint,
        "class_names": [json_text(name) for name in plan.store.class_names],
        "arrays": {names[key]: [key, *plan.store.shape(key)] for key in plan.arrays},
        "shards": tars.counts,
    }
    (directory / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return sum(tars.counts.values())


def _members(
    plan: Plan, part: Part, row: int, names: dict[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a sample by what follows the key's dot."""
    table, classes = part.table, plan.store.class_names
    facts: dict[str, Any] = {name: json_text(getattr(table, name)[row]) for name in _TEXT_COLUMNS}
    facts |= {"fold": int(table.fold[row]), "duration_s": float(table.duration_s[row])}
    if plan.store.multilabel:
        facts["labels"] = [json_text(classes[i]) for i in np.flatnonzero(part.labels[row])]
    else:
        facts["class"] = json_text(classes[part.labels[row]])
        yield "cls", str(int(part.labels[row])).encode()
    yield "json", json.dumps(facts).encode()
    for key, name in names.items():
        data = io.BytesIO()
        np.lib.format.write_array(data, part.arrays[key][row], allow_pickle=False)
        yield name, data.getvalue()
    if part.sounds is not None:
        yield part.sounds[row]


class _Tars:
    """Tars of samples, a new one for each split and whenever one is large. A context manager."""

    def __init__(self, directory: Path) -> None:
        self.counts: dict[str, int] = {}
        self._directory = directory
        self._stack = ExitStack()
        self._file: tarfile.TarFile | None = None
        self._split, self._name, self._number = "", "", 0

    def __enter__(self) -> "_Tars":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, split: str, key: str, members: dict[str, bytes]) -> None:
        """Add a sample."""
        file = self._current(split)
        self.counts[self._name] += 1
        for suffix, data in members.items():
            entry = tarfile.TarInfo(f"{key}.{suffix}")  # with no time and no owner: same bytes
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))

    def _current(self, split: str) -> tarfile.TarFile:
        file = self._file
        has_room = file is not None and file.offset < _TAR_BYTES
        if file and has_room and split == self._split and self.counts[self._name] < _TAR_CLIPS:
            return file
        self._stack.close()
        self._number = self._number + 1 if split == self._split else 0
        self._split, self._name = split, f"{split}-{self._number:06d}.tar"
        self.counts[self._name] = 0
        tar = tarfile.open(self._directory / self._name, "w")  # noqa: SIM115 - the stack closes it
        self._file = self._stack.enter_context(tar)
        return self._file


def _write_parquet(plan: Plan, directory: Path, watch: Watch) -> int:
    """Write a Parquet file per fold, and a card that names them as splits.

    Raises:
        MissingLibraryError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingLibraryError(
            "Parquet is written by pyarrow, which is not installed: "
            "pip install 'featurestore[tables]'"
        ) from error
    fields, features = _parquet_fields(plan, pa)
    info = json.dumps({"info": {"features": features}})
    schema = pa.schema(fields, metadata={"huggingface": info})
    counts: dict[str, int] = {}
    (directory / "data").mkdir()
    with ExitStack() as stack:
        for part in plan.parts(watch):
            if part.split not in counts:
                stack.close()
                counts[part.split] = 0
                path = directory / "data" / f"{part.split}-00000-of-00001.parquet"
                writer = stack.enter_context(parquet.ParquetWriter(path, schema))
            counts[part.split] += len(part.keys)
            writer.write_table(pa.table(_parquet_columns(plan, part, pa), schema=schema))
    (directory / "README.md").write_text(_card(plan, counts), encoding="utf-8")
    return sum(counts.values())


def _parquet_fields(plan: Plan, pa: Any) -> tuple[list[Any], dict[str, Any]]:  # noqa: ANN401
    """Return the fields for Arrow, and what `datasets` makes of them."""
    names = {"names": [json_text(name) for name in plan.store.class_names], "_type": "ClassLabel"}
    fields: dict[str, tuple[Any, Any]] = {
        name: (pa.string(), _value("string")) for name in _TEXT_COLUMNS
    }
    if plan.root is not None:
        sound = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        fields = {"audio": (sound, {"_type": "Audio"})} | fields
    if plan.store.multilabel:
        fields["labels"] = pa.list_(pa.int64()), {"feature": names, "_type": "Sequence"}
    else:
        fields["label"] = pa.int64(), names
    fields["duration_s"] = pa.float32(), _value("float32")
    marks: dict[str, dict[str, str]] = {}
    for key in plan.arrays:
        shape = plan.store.shape(key)
        if len(shape) == 2:
            image = {"shape": list(shape), "dtype": "float32", "_type": "Array2D"}
            fields[key] = pa.list_(pa.list_(pa.float32())), image
            marks[key] = {
                "ARROW:extension:name": "datasets.features.features.Array2DExtensionType",
                "ARROW:extension:metadata": json.dumps([list(shape), "float32"]),
            }
        else:
            sequence = {"feature": _value("float32"), "length": shape[0], "_type": "Sequence"}
            fields[key] = pa.list_(pa.float32(), shape[0]), sequence
    features = {name: feature for name, (_, feature) in fields.items()}
    kinds = [pa.field(name, kind, metadata=marks.get(name)) for name, (kind, _) in fields.items()]
    return kinds, features


def _value(dtype: str) -> dict[str, str]:
    return {"dtype": dtype, "_type": "Value"}


def _parquet_columns(plan: Plan, part: Part, pa: Any) -> dict[str, Any]:  # noqa: ANN401
    table = part.table
    columns: dict[str, Any] = {
        name: [json_text(text) for text in getattr(table, name)] for name in _TEXT_COLUMNS
    }
    columns["duration_s"] = table.duration_s
    if plan.store.multilabel:
        columns["labels"] = [np.flatnonzero(row) for row in part.labels]
    else:
        columns["label"] = part.labels
    if part.sounds is not None:
        columns["audio"] = [
            {"bytes": data, "path": f"{key}.{suffix}"}
            for key, (suffix, data) in zip(part.keys, part.sounds, strict=True)
        ]
    return columns | {key: _nested(values, pa) for key, values in part.arrays.items()}


def _nested(values: Any, pa: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return an array as Arrow's lists of lists."""
    flat, (num, *shape) = pa.array(values.reshape(-1)), values.shape
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(flat, shape[0])
    bands, frames = shape
    rows = pa.ListArray.from_arrays(_offsets(num * bands, frames), flat)
    return pa.ListArray.from_arrays(_offsets(num, bands), rows)


def _offsets(num: int, length: int) -> NDArray[np.int32]:
    return np.arange(0, num * length + 1, length, dtype=np.int32)


def _card(plan: Plan, counts: dict[str, int]) -> str:
    """Return the card by which `datasets.load_dataset` finds the splits; Markdown with YAML."""
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in counts:
        lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    card = plan.store.card
    words = (card.title, f"Licence: {card.licence}", card.citation, card.url)
    lines += ["---", "", *(f"{printable(text)}\n" for text in words if text)]
    return (
        "\n".join([*lines, f"Exported from a feature store, fingerprint {plan.store.fingerprint}."])
        + "\n"
    )
