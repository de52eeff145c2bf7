"""Numba's cache of compiled librosa: a directory of our own, filled by one process.

Numba caches a `guvectorize`d function and its wrapper in two files. Two processes that fill the
cache at the same time can leave the function of one next to the wrapper of the other, and every
process that loads such a pair crashes with a segmentation fault. So one process compiles, under a
lock, and all others read; what other argument types add later is one file each, which is safe.
Numba recompiles for another copy of librosa or another processor, so each has a directory of its
own here. The cache is executable code, so its directory must belong to this user.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from featurestore.errors import SpecError, cause
from featurestore.safepath import interpreter

VARIABLE = "NUMBA_CACHE_DIR"
_READY, _LOCK = "ready", "lock"
_SETTINGS = ".numba_config.yaml"


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries behind these features, without importing them."""
    return {name: importlib.metadata.version(name) for name in ("librosa", "numba")}


def use_cache(*, quiet: bool = False) -> None:
    """Make Numba use the cache directory, which is filled first if it is new (20 s, 400 MB).

    Does nothing if librosa has been imported already, which fixes its cache directory.

    Args:
        quiet: Whether to suppress the line that explains the delay.

    Raises:
        SpecError: No cache directory can be written, librosa cannot be imported, or Numba would
            read settings from the working directory.
    """
    _refuse_settings()
    name = _name()
    place = Path(os.environ.get(VARIABLE, ""))
    if "librosa" in sys.modules or (place.name == name and (place / _READY).exists()):
        return
    place = _own_directory(name)
    try:
        if not (place / _READY).exists():
            if not quiet:
                from featurestore.terminal import Terminal  # Rich, which hardly any process needs

                Terminal(stderr=True).note("compiling librosa, once: about 20 s")
            with _locked(place):
                _fill(place)
    except OSError as error:
        raise SpecError(
            f"features: {place}, where librosa's compiled code is kept, cannot be written "
            f"({cause(error)}): set {VARIABLE} to a directory that can"
        ) from error
    os.environ[VARIABLE] = str(place)
    if numba := sys.modules.get("numba"):
        numba.config.CACHE_DIR = str(place)


def _refuse_settings() -> None:
    """Refuse what Numba reads whenever it compiles: it can make a build take a hundred times."""
    if Path(_SETTINGS).is_file():
        raise SpecError(
            f"features: Numba, with which librosa computes them, would take its settings from the "
            f"{_SETTINGS} in this directory: remove it, or build in another directory"
        )


@cache
def _name() -> str:
    """Return the directory's name, which is another wherever Numba would compile again.

    Numba compiles for each place and time stamp of a source file, for each processor with its
    instructions, and for each of its own settings.
    """
    specification = importlib.util.find_spec("librosa")
    sources = sorted(Path(str(specification and specification.origin)).parent.rglob("*.py"))
    stamps = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in sources]
    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    settings = [(name, value) for name, value in settings if name != VARIABLE]
    identity = repr((stamps, _processor(), settings)).encode()
    versions = "-".join((*library_versions().values(), sys.implementation.cache_tag or ""))
    return f"featurestore-numba-{versions}-{hashlib.sha256(identity).hexdigest()[:16]}"


def _processor() -> list[str]:
    """Return what names the processor and its instructions; machines of one name may differ."""
    lines = [platform.machine(), platform.processor(), platform.node()]
    with suppress(OSError):
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        first = described.split("\n\n", 1)[0].splitlines()
        keys = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU part", "Features")
        lines += [line for line in first if line.split("\t")[0].split(":")[0].strip() in keys]
    return lines


def _own_directory(name: str) -> Path:
    """Return a directory of this user alone: where the variable says, or in the usual places."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111
    temporary = Path(tempfile.gettempdir())
    places = [home / name, temporary / f"{name}-{os.getuid()}" / name]
    if chosen := os.environ.get(VARIABLE):  # where a parent has found it already, it is this one
        places.insert(0, Path(chosen) if Path(chosen).name == name else Path(chosen) / name)
    for place in places:
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        outer = place.parent if place.parent.parent == temporary else place
        if _is_own(place) and _is_own(outer) and os.access(place, os.W_OK | os.X_OK):
            return place
    try:
        return _made(Path(tempfile.mkdtemp(prefix="featurestore-numba-")) / name)
    except OSError as error:
        raise SpecError(
            f"features: librosa keeps compiled code, and {temporary} cannot be written "
            f"({error.strerror}): set {VARIABLE} to a directory that can"
        ) from error


def _made(place: Path) -> Path:
    place.mkdir(mode=0o700)
    return place


def _is_own(place: Path) -> bool:
    status = place.lstat()
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return is_own and not stat.S_IMODE(status.st_mode) & 0o077


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Wait until no other process fills the directory; the lock ends with its process."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(place / _LOCK, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fill(place: Path) -> None:
    """Have a process import all of librosa, which compiles it; what another left goes first."""
    if (place / _READY).exists():
        return
    for entry in place.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
    done = subprocess.run(  # noqa: S603
        interpreter(__name__),
        env={**os.environ, VARIABLE: str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise SpecError(f"features: librosa cannot be imported: {last[0]}")
    (place / _READY).touch()


def main() -> None:
    """Import all modules of librosa in a fixed order, as some orders lead to circular imports."""
    import librosa

    for module in pkgutil.walk_packages(librosa.__path__, "librosa."):
        if module.name != "librosa.display":  # which draws
            importlib.import_module(module.name)
