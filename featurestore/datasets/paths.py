"""Paths in a table, as columns: prefixed, normalised, and checked to stay below the root."""

from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.cliplist import TEXT


def placed(directory: str, folds: NDArray[np.int64], paths: NDArray[Any]) -> NDArray[Any]:
    """Return the paths prefixed by a directory, in which `{fold}` is replaced."""
    if not directory:
        return paths
    start, _, end = directory.partition("{fold}")
    if "{fold}" not in directory:
        return np.strings.add(f"{start}/", paths)
    numbers = np.strings.add(start, folds.astype(TEXT))
    return np.strings.add(np.strings.add(numbers, f"{end}/"), paths)


def plain_paths(paths: NDArray[Any]) -> NDArray[Any]:
    """Return paths without empty components and `.`."""
    padded = np.strings.add(np.strings.add("/", paths), "/")
    odd = np.zeros(len(paths), bool)
    for step in ("//", "/./"):
        odd |= np.strings.find(padded, step) >= 0
    plain = paths.copy()
    for row in np.flatnonzero(odd):
        plain[row] = PurePosixPath(paths[row]).as_posix()
    return plain


def may_be_unsafe(paths: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask (n,) of paths that must not be opened below a root."""
    suspects = np.strings.find(paths, "\\") >= 0
    suspects |= np.strings.startswith(paths, "/")
    suspects |= np.strings.find(paths, ":/") == 1
    suspects |= np.strings.find(paths, "..") >= 0
    for row in np.flatnonzero(suspects):
        suspects[row] = path_fault(paths[row]) is not None
    return np.asarray(suspects)


def path_fault(path: str) -> str | None:
    """Return why a path must not be opened below a root; None if it may."""
    if "\\" in path:
        return "with a backslash; write / between directories"
    if path.startswith("/") or path[1:3] == ":/":
        return "an absolute path; give it relative to the dataset's root"
    if ".." in PurePosixPath(path).parts:
        return "which leaves the dataset's root; remove the '..'"
    return None
