"""Custom collections as the command line describes them: from options to a dataset."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from featurestore.datasets.base import Dataset
from featurestore.datasets.kinds import DATASETS, DatasetKind, known_names
from featurestore.datasets.roles import parse_columns
from featurestore.errors import DatasetError, first_problem
from schemas import Collection

if TYPE_CHECKING:
    from featurestore.datasets.collection import Naming

FOLDER = "folder"
"""Name of every custom collection before they could be named."""


@dataclass(frozen=True)
class OwnOptions:
    """Options of `build` for a custom collection; empty if not given.

    `columns` are strings such as `path=Filename,class=Label`, or a mapping of roles to columns.
    """

    table: Path | None = None
    columns: Sequence[str] | Mapping[str, str] = ()
    folds: int = 0
    group_by: str = ""
    fold_seed: int = 0
    name: str = ""
    title: str = ""
    licence: str = ""
    citation: str = ""

    @property
    def given(self) -> tuple[str, ...]:
        """The options that were given, as written on the command line."""
        return tuple(f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value)


def load_own(root: Path | None, own: OwnOptions, default_name: str = "") -> Dataset:
    """Read a custom collection.

    Args:
        root: Directory of the collection.
        own: How to read it and what to call it.
        default_name: Name if no other is given; if empty, the name of the directory.

    Raises:
        DatasetError: No directory is given, it holds a known dataset with its own reader, or it
            cannot be read.
    """
    from featurestore.datasets.collection import load_collection

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
    with _described(own, default_name) as (naming, how):
        return load_collection(root, naming, how, own.table)


def load_frame(frame: Any, root: Path | None, own: OwnOptions) -> Dataset:  # noqa: ANN401
    """Read a custom collection that is listed in a data frame.

    Args:
        frame: A pandas data frame, an Arrow table, or a mapping of names to columns.
        root: Directory that the paths are relative to.
        own: How to read it and what to call it.

    Raises:
        DatasetError: No directory is given, or the frame cannot be read.
    """
    from featurestore.datasets.collection import read_frame

    if root is None:
        raise DatasetError(
            "expected root=DIR, the directory that the paths in the data frame are relative to"
        )
    if own.table is not None:
        raise DatasetError("expected a data frame or a table, got both")
    if not root.is_dir():
        raise DatasetError(f"{root}: expected the directory of a collection; there is none")
    with _described(own, "") as (naming, how):
        return read_frame(frame, root, naming, how)


@contextmanager
def _described(own: OwnOptions, default_name: str) -> Iterator[tuple["Naming", Collection]]:
    """Yield what a collection is called and how it is read; explain values that cannot be."""
    from featurestore.datasets.collection import Naming

    if own.name in known_names() and own.name != FOLDER:
        raise DatasetError(
            f"--name {own.name}: is the name of a dataset that has its own reader and results to "
            "compare with; give another"
        )
    try:
        naming = Naming(own.name or default_name, own.title, own.licence, own.citation)
        yield (
            naming,
            Collection(
                columns=parse_columns(own.columns),
                folds=own.folds,
                group_by=own.group_by,
                fold_seed=own.fold_seed,
            ),
        )
    except ValidationError as error:
        raise DatasetError(_option_problem(error)) from error


def _option_problem(error: ValidationError) -> str:
    """Return the first problem of the options, by the option's own name."""
    problem = error.errors(include_url=False)[0]
    if problem["type"] == "string_pattern_mismatch":
        return (
            f"--name: expected letters, digits, _ and -, beginning with a letter or digit, got "
            f"{str(problem['input'])!r}"
        )
    field, colon, what = first_problem(error).partition(":")
    return f"--{field.replace('_', '-')}{colon}{what}"


def _recognised(root: Path) -> DatasetKind | None:
    """Return the dataset recognised by the contents of a root, if any."""
    for kind in DATASETS.values():
        for markers in filter(None, kind.layouts):
            if all((root / marker).exists() for marker in markers):
                return kind
    return None
