"""Finding the directory of a dataset on disk, without creating or downloading anything."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from featurestore.arguments import typed
from featurestore.datasets.base import Dataset
from featurestore.datasets.kinds import DatasetKind, find_kind
from featurestore.errors import DatasetError, DatasetNotFoundError, cause

DATA_VARIABLE = "FEATURESTORE_DATA"
"""Environment variable with the parent directory of all datasets."""


@typed
def find_root(
    name: str, root: Path | str | None = None, environ: Mapping[str, str] | None = None
) -> Path:
    """Find the directory that holds a dataset.

    Args:
        name: One of `DATASETS`.
        root: Directory of the dataset, or its parent; if None, the usual places:
            `$FEATURESTORE_DATA/NAME`, `./data/NAME`, `./NAME`.
        environ: Environment variables; those of the process if None.

    Returns:
        The directory with the dataset's markers. For a dataset that is created on demand, it may
        not exist yet.

    Raises:
        DatasetNotFoundError: The dataset is in none of the places; the message lists them and says
            how to get it.
        DatasetError: There is no such dataset, or a place cannot be read or holds several.
    """
    kind = find_kind(name)
    try:
        if root is not None:
            return _given_root(kind, Path(root))
        return _usual_root(kind, os.environ if environ is None else environ)
    except OSError as error:
        where = f"{error.filename} ({cause(error)})"
        raise DatasetError(f"cannot look for {name} in {where}; check the path") from error


@typed
def load_dataset(name: str, root: Path | str | None = None) -> Dataset:
    """Find a dataset and read its table.

    Args:
        name: One of `DATASETS`.
        root: See `find_root`.

    Raises:
        DatasetNotFoundError: It is not on disk.
        DatasetError: There is no such dataset, or its table is invalid.
    """
    kind = find_kind(name)
    return _counted(kind, kind.load(find_root(name, root)))


def _counted(kind: DatasetKind, dataset: Dataset) -> Dataset:
    """Return the dataset with the number of its clips that are here, if not all of them are."""
    if not kind.num_clips:
        return dataset
    paths = (dataset.root / path for path in dataset.clips.path.tolist())
    present = sum(map(os.path.lexists, paths))
    if present >= kind.num_clips:
        return dataset
    return replace(dataset, official_clips=kind.num_clips, num_present=present)


def is_here(kind: DatasetKind) -> Path | None:
    """Return the directory of a dataset, if it is in one of the usual places."""
    try:
        root = find_root(kind.name)
    except DatasetError:
        return None
    return root if root.exists() else None


def _usual_root(kind: DatasetKind, environ: Mapping[str, str]) -> Path:
    places = _usual_places(kind, environ)
    for place in places:
        if (recognised := _recognise(kind, place)) is not None:
            return recognised
    if kind.made_on_demand:
        return places[0]
    looked = ", ".join(str(place) if place.is_absolute() else f"./{place}" for place in places)
    raise DatasetNotFoundError(
        f"{kind.name} is in none of: {looked} (in {Path.cwd()}). To have it, {kind.how_to_get}; or "
        f"put it in one of these places; or set {DATA_VARIABLE} to the directory it is in"
    )


def _usual_places(kind: DatasetKind, environ: Mapping[str, str]) -> list[Path]:
    bases = [Path("data"), Path()]
    if variable := environ.get(DATA_VARIABLE):
        bases.insert(0, Path(variable))
    return [base / directory for base in bases for directory in kind.directories]


def _given_root(kind: DatasetKind, root: Path) -> Path:
    if root.exists() and not root.is_dir():
        raise DatasetError(f"{root}: is a file; expected the directory of {kind.name}")
    recognised = _recognise(kind, root)
    if recognised is not None:
        return recognised
    if kind.made_on_demand:
        return root
    raise DatasetNotFoundError(_not_there(kind, root))


def _not_there(kind: DatasetKind, root: Path) -> str:
    if not root.exists():
        fault = "does not exist"
    elif not any(root.iterdir()):
        fault = "is empty"
    else:
        absent = [marker for marker in kind.markers if not (root / marker).exists()]
        names = sorted(path.name for path in root.iterdir())
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        fault = f"holds no {kind.name}: there is no {' and no '.join(absent)}, but {shown}"
    return f"{root}: {fault}. Give the right directory; to have the dataset, {kind.how_to_get}"


def _recognise(kind: DatasetKind, place: Path) -> Path | None:
    """Return the root in a place: itself, or the one directory in it that is one."""
    if not place.is_dir():
        return None
    if not kind.markers:
        return place if any(place.iterdir()) else None
    if _is_root(kind, place):
        return place
    roots = [path for path in sorted(place.iterdir()) if _is_root(kind, path)]
    if len(roots) > 1:
        raise DatasetError(
            f"{place}: {kind.name} is in several directories: "
            f"{', '.join(path.name for path in roots)}; give the right one with --root"
        )
    return roots[0] if roots else None


def _is_root(kind: DatasetKind, place: Path) -> bool:
    try:
        return any(all((place / marker).exists() for marker in markers) for markers in kind.layouts)
    except PermissionError:
        # Some neighbour of the dataset, such as lost+found.
        return False
