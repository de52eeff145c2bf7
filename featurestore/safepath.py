"""Protection of child interpreters from modules in the working directory.

Python puts the working directory first on the import path of `python -c` and `python -m`, with
which `multiprocessing`, Dask and torch start their processes. A program run inside an untrusted
collection would thus run the collection's `signal.py`.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SAFE_PATH = "PYTHONSAFEPATH"
_PATH = "PYTHONPATH"
_CALL = (
    "import sys; end = sys.argv.index('--'); sys.path[:] = sys.argv[end + 1 :]; import importlib; "
    "importlib.import_module(sys.argv[1]).main(*sys.argv[2:end])"
)
_PACKAGE_PARENT = Path(__file__).resolve().parents[1]


@contextmanager
def safe_children() -> Iterator[None]:
    """Keep the working directory off the import path of this process and its children.

    The environment and the path are restored afterwards. The working directory stays on the path if
    this package was imported from it.
    """
    before, path = _variables(), sys.path.copy()
    os.environ[SAFE_PATH] = "1"
    if (entries := before[_PATH]) is not None:  # an empty one means the working directory
        os.environ[_PATH] = os.pathsep.join(safe_entries(entries.split(os.pathsep)))
    sys.path[:] = safe_entries(path)
    try:
        yield
    finally:
        restore(before)
        sys.path[:] = path


def safe_entries(path: Iterable[str]) -> list[str]:
    """Return the entries of an import path except the working directory."""
    return [entry for entry in path if not _is_working_directory(entry)]


def interpreter(module: str, *arguments: str) -> list[str]:
    """Return a command that calls `main(*arguments)` of a module in a new interpreter.

    It has the import path of this process. With -m and without -P, the working directory would come
    first.
    """
    return [sys.executable, "-P", "-c", _CALL, module, *arguments, "--", *safe_entries(sys.path)]


def _variables() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in (SAFE_PATH, _PATH)}


def restore(variables: Mapping[str, str | None]) -> None:
    """Restore environment variables; None for those that were not set."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _is_working_directory(entry: str) -> bool:
    try:
        here = Path.cwd().resolve()
        return (Path(entry).resolve() == here) and here != _PACKAGE_PARENT
    except OSError:  # the working directory is gone, or the entry cannot be resolved
        return not os.path.isabs(entry)  # noqa: PTH117  (a Path made of "" is ".")
