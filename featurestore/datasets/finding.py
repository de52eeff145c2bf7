"""Finding what lists the clips of a root: a table, shards, or its directories alone."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from featurestore.datasets.directories import is_store
from featurestore.datasets.formats import SUFFIXES
from featurestore.datasets.leftout import SUFFIXES as SOUNDS
from featurestore.datasets.shardrows import Shards
from featurestore.datasets.splits import is_split
from featurestore.datasets.table import MAX_SHOWN
from featurestore.errors import DatasetError

TABLE = "clips.csv"
ELSEWHERE = "-"
"""`Collection.table` for a table outside the root, and for a data frame."""
METADATA = tuple(f"metadata{suffix}" for suffix in (".csv", ".jsonl", ".parquet"))
PARQUET, ARROW, TAR, CUTS = (".parquet", ".pq"), (".arrow",), (".tar",), (".jsonl", ".jsonl.gz")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4", ".zip")
_DEPTH = 2
"""Maximum number of directories between the root and a shard: `CONFIG/SPLIT/0000.parquet`."""
_DATA = "data"


def find_table(root: Path) -> Path | None:
    """Return the table of a root, if it is unambiguous.

    One that cannot be read, such as a dead link or a pipe, is returned if it is named as a table or
    the only one: without it, the clips would silently get other classes.
    """
    files = [
        path
        for path in sorted(root.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    ]
    for name in (TABLE, *METADATA):
        if named := [path for path in files if path.name == name]:
            return named[0]
    files = [path for path in files if path.is_file()] or files
    commas = [path for path in files if path.suffix.lower() == ".csv"]
    for tables in (commas, files):
        if len(tables) == 1:
            return tables[0]
    return None


def find_split_tables(root: Path) -> dict[str, Path]:
    """Return the table in each split's directory, as in Hugging Face's AudioFolder; {} if none.

    Raises:
        DatasetError: Some splits have a table, and others do not.
    """
    tops = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    tops = [top for top in tops if not is_store(top)]
    if not tops or not all(is_split(top.name) for top in tops):
        return {}
    tables = {top.name: find_metadata(top) for top in tops}
    known = {name: table for name, table in tables.items() if table is not None}
    if known and len(known) < len(tables):
        lacking = next(name for name, table in tables.items() if table is None)
        raise DatasetError(
            f"{root / lacking}: expected a table like the other splits', "
            f"{next(iter(known.values()))}; add one of {', '.join(METADATA)}"
        )
    return known


def find_metadata(directory: Path) -> Path | None:
    """Return the AudioFolder table in a directory, if there is one."""
    paths = [directory / name for name in METADATA]
    return next((path for path in paths if os.path.lexists(path) and not path.is_dir()), None)


def table_below(root: Path, table: Path) -> str:
    """Return a table's path below the root, for the record; empty if it is found automatically."""
    if table == find_table(root):
        return ""
    inside = table.resolve().is_relative_to(root.resolve())
    return table.resolve().relative_to(root.resolve()).as_posix() if inside else ELSEWHERE


def shards_in(root: Path, file: Path) -> Shards | None:
    """Return the clips of a file that is a shard or lists cuts; None for a table.

    Raises:
        DatasetError: The file is damaged, or does not allow random access to its clips.
    """
    from featurestore.datasets import cuts, hfshards, webdataset

    name = file.name.lower()
    if name.endswith(_PACKED):
        raise _packed(file)
    if not name.endswith((*PARQUET, *ARROW, *TAR, *CUTS)):
        return None
    # A list of paths or recordings lies anywhere; what holds the sounds, below the root.
    if name.endswith(PARQUET) and not hfshards.holds_sounds(file):
        return None
    if name.endswith(CUTS) and not cuts.is_cuts(file):
        return None
    if not file.resolve().is_relative_to(root.resolve()):
        raise DatasetError(f"{file}: expected a shard below the root, {root}; give another --root")
    below = [file.resolve().relative_to(root.resolve()).as_posix()]
    if name.endswith(TAR):
        return webdataset.read_tars(root, below)
    if name.endswith(CUTS):
        return cuts.read_cuts(root, below)
    return hfshards.read_hf(root, below, official=hfshards.saved_features(root, below[0]))


def find_shards(root: Path) -> Shards | None:
    """Return the clips of the shards in a root, if it holds shards.

    Tars count only if no directory holds sounds: these may have been unpacked from the tars.

    Raises:
        DatasetError: A shard is damaged or a compressed tar, or shards belong to several datasets.
    """
    from featurestore.datasets import cuts, hfshards, webdataset

    if saved := hfshards.saved_files(root):
        features = hfshards.saved_features(root, saved[0])
        return hfshards.read_hf(root, saved, official=features)
    files = list(_files(root))
    manifests = [name for name in files if name.lower().endswith(CUTS) and _is_cuts(root, name)]
    if manifests:
        return cuts.read_cuts(root, _of_one(root, manifests))
    parquet = [name for name in files if name.lower().endswith(PARQUET)]
    if parquet and hfshards.holds_sounds(root / parquet[0]):
        return hfshards.read_hf(root, _of_one(root, parquet))
    if any(name.lower().endswith(tuple(SOUNDS)) for name in files):
        return None
    if tars := [name for name in files if name.lower().endswith(TAR)]:
        return webdataset.read_tars(root, _of_one(root, tars))
    if packed := [name for name in files if name.lower().endswith(_PACKED)]:
        raise _packed(root / packed[0])
    return None


def _is_cuts(root: Path, name: str) -> bool:
    from featurestore.datasets.cuts import is_cuts

    return is_cuts(root / name)


def _files(root: Path) -> Iterator[str]:
    """Yield the visible files of a root that shards may be among, sorted, with `/`."""
    for place, folders, names in os.walk(root):
        depth = len(Path(place).relative_to(root).parts)
        folders[:] = sorted(
            name
            for name in folders
            if depth < _DEPTH and not name.startswith(".") and not is_store(Path(place, name))
        )
        for name in sorted(names):
            if not name.startswith("."):
                yield (Path(place, name).relative_to(root)).as_posix()


def _of_one(root: Path, files: list[str]) -> list[str]:
    """Return the files, provided that they are of one dataset.

    Raises:
        DatasetError: They are in directories that are neither splits nor `data`.
    """
    tops = [PurePosixPath(file).parts[:-1] for file in files]
    configs = sorted({parts[0] if parts else "" for parts in tops if not _is_plain(parts)})
    if len(configs) > 1 or (configs and any(_is_plain(parts) for parts in tops)):
        shown = ", ".join(configs[:MAX_SHOWN])
        raise DatasetError(
            f"{root}: expected the shards of one dataset, in directories named as splits or "
            f"'{_DATA}', found those of {shown}; give one with --root {root / configs[0]}"
        )
    return files


def _is_plain(parts: tuple[str, ...]) -> bool:
    return not parts or parts[0] == _DATA or is_split(parts[0])


def _packed(file: Path) -> DatasetError:
    return DatasetError(
        f"{file}: expected a .tar, from which each clip can be read alone; a compressed archive "
        f"must be read from its start: unpack it (to a .tar with gunzip, or to files) and give "
        "that with --root"
    )
