"""Check that other distributions do not shadow this one's packages.

`trainer` and `schemas` are also import names of other packages on PyPI. One that is installed over
ours, or comes before it on the path, breaks it with misleading errors. Only names and sizes of
files are compared, with the standard library alone.
"""

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib.util import find_spec

PACKAGES = ("schemas", "trainer")
_DISTRIBUTION = "featurestore"
_PROGRAMS = ("featurestore", "trainer")
_HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120 - no pathlib yet


def check_imports() -> None:
    """Warn of files of other packages under our names, in one line each.

    Raises:
        ImportError: `schemas` is another package, so that nothing here can work.
        SystemExit: The same, if one of our programs is running.
    """
    for package in PACKAGES:
        place = _place(package)
        if place is None or place == os.path.join(_HERE, package):  # noqa: PTH118
            continue
        message = (
            f"`import {package}` finds another package of that name, {place}, and not that of "
            f"{_DISTRIBUTION}: uninstall it, rename it, or use an environment of its own"
        )
        if package == "schemas":
            if os.path.basename(sys.argv[0]) in _PROGRAMS:  # noqa: PTH119
                raise SystemExit(f"error: {message}")
            raise ImportError(message, name=package)
        _warn(message)
    for problem in _mixed():
        _warn(problem)


def _warn(message: str) -> None:
    # A file name without a file: Python prints no source line after it.
    warnings.warn_explicit(message, UserWarning, _DISTRIBUTION, 1)


def _place(package: str) -> str | None:
    """Return the directory, or the file, that an import takes; None if there is none."""
    loaded = sys.modules.get(package)
    spec = getattr(loaded, "__spec__", None) if loaded else None
    try:
        spec = spec or find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return os.path.realpath(next(iter(spec.submodule_search_locations)))
    return spec.origin


def _mixed() -> Iterator[str]:
    """Yield a warning for each of our packages in whose directory another has put files.

    What is ours is in the list that the installer keeps. A checkout has none.
    """
    installed = _installed()
    if not installed:
        return
    for package in PACKAGES:
        foreign = sorted(_foreign(package, installed))
        if foreign:
            shown = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" * (len(foreign) > 3))
            yield (
                f"another package has put files into the directory of `{package}` "
                f"({os.path.join(_HERE, package)}: {shown}): "  # noqa: PTH118
                f"uninstall it and install {_DISTRIBUTION} again, or use an environment of its own"
            )


def _foreign(package: str, installed: dict[str, int | None]) -> Iterator[str]:
    """Yield the modules of a package's directory that are not ours, and ours that were replaced."""
    inside = {name.split("/")[1] for name in installed if name.startswith(f"{package}/")}
    try:
        entries = list(os.scandir(os.path.join(_HERE, package)))  # noqa: PTH118
    except OSError:
        return
    for entry in entries:
        name, size = entry.name, installed.get(f"{package}/{entry.name}")
        is_code = name.endswith((".py", ".so")) or (entry.is_dir() and name.isidentifier())
        if name == "__pycache__" or not is_code:
            continue
        if name not in inside or (size is not None and entry.stat().st_size != size):
            yield name


def _installed() -> dict[str, int | None]:
    """Return the size of each file that was installed with us, None if it is not known."""
    for name in _metadata_directories():
        try:
            with open(os.path.join(_HERE, name, "RECORD"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
                return dict(_records(file))
        except OSError:
            continue
    return {}


def _metadata_directories() -> list[str]:
    try:
        names = os.listdir(_HERE)  # noqa: PTH208
    except OSError:
        return []
    return [n for n in names if n.startswith(f"{_DISTRIBUTION}-") and n.endswith(".dist-info")]


def _records(lines: Iterable[str]) -> Iterator[tuple[str, int | None]]:
    """Yield path and size of each line of a RECORD, `path,digest,size`."""
    for line in lines:
        path, _, rest = line.rstrip("\n").partition(",")
        size = rest.rpartition(",")[2]
        if path.startswith(tuple(f"{package}/" for package in PACKAGES)):
            yield path, int(size) if size.isdecimal() else None
