"""A collection of one's own as the command line describes it: options to a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from featurestore.datasets.base import Dataset
from featurestore.datasets.kinds import DATASETS, DatasetKind, known_names
from featurestore.datasets.roles import parse_columns
from featurestore.errors import DatasetError, first_problem
from schemas import Collection

FOLDER = "folder"
"""Name that every collection of one's own had before they could be named."""


@dataclass(frozen=True)
class OwnOptions:
    """Options of `build` for a collection of one's own; what is empty is not given."""

    table: Path | None = None
    columns: Sequence[str] = ()
    folds: int = 0
    group_by: str = ""
    fold_seed: int = 0
    name: str = ""
    title: str = ""
    licence: str = ""
    citation: str = ""

    @property
    def given(self) -> tuple[str, ...]:
        """The options that are given, as they are written."""
        return tuple(f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value)


def load_own(root: Path | None, own: OwnOptions, default_name: str = "") -> Dataset:
    """Read a collection of one's own.

    Args:
        root: Its directory.
        own: How to read it and what to call it.
        default_name: Name if no other is given; that of the directory if empty.

    Raises:
        DatasetError: No directory is given, or it is that of a dataset that has a reader, or it
            cannot be read.
    """
    from featurestore.datasets.collection import Naming, load_collection

    if root is None:
        raise DatasetError(
            "expected --root DIR, a directory of your own sounds, or --dataset NAME "
            f"({', '.join(known_names())})"
        )
    if not own.name and not own.table and (kind := _recognised(root)):
        raise DatasetError(
            f"{root} holds {kind.name}: add --dataset {kind.name}; or --name NAME, to read it as "
            "a collection of your own"
        )
    if own.name in known_names() and own.name != FOLDER:
        raise DatasetError(
            f"--name {own.name}: is the name of a dataset that has its own reader and results to "
            "compare with; give another"
        )
    try:
        how = Collection(
            columns=parse_columns(own.columns),
            folds=own.folds,
            group_by=own.group_by,
            fold_seed=own.fold_seed,
        )
        naming = Naming(own.name or default_name, own.title, own.licence, own.citation)
        return load_collection(root, naming, how, own.table)
    except ValidationError as error:
        raise DatasetError(f"--name and the other options: {first_problem(error)}") from error


def _recognised(root: Path) -> DatasetKind | None:
    """Return the dataset that is told by what lies in a root, if any."""
    for kind in DATASETS.values():
        for markers in filter(None, kind.layouts):
            if all((root / marker).exists() for marker in markers):
                return kind
    return None
