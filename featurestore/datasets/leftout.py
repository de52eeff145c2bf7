"""Sound files of a directory, and a count of all other files by kind."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from featurestore.arguments import typed
from featurestore.errors import cause

# fmt: off
SUFFIXES = frozenset((
    ".8svx", ".aif", ".aifc", ".aiff", ".au", ".avr", ".bwf", ".caf", ".flac", ".iff", ".mp2",
    ".mp3", ".mpga", ".nist", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph", ".svx", ".voc",
    ".w64", ".wav", ".wave",
))
# fmt: on
"""Suffixes of formats that libsndfile recognises by content and that declare their length.

IRCAM (.sf), PVF, PAF and others do not: a truncated file could not be told from a whole one.
"""
HIDDEN = "hidden"
LINKED = "links to directories"
_MOST_KINDS = 12
_MOST_NAMES = 1_000_000
"""Number of files that can be compared with a table within seconds on a local disk."""


@dataclass(frozen=True)
class FoundSounds:
    """The sound files of a directory.

    Attributes:
        files: Sorted.
        left_out: Other files, counted by kind, such as `3 with suffix .m4a`.
    """

    files: tuple[Path, ...]
    left_out: tuple[str, ...]


@typed
def find_sounds(directory: Path) -> FoundSounds:
    """Find the sound files in a directory, at any depth.

    Sounds are recognised by suffix. Hidden files and directories are skipped, and symbolic links to
    directories are not followed.

    Args:
        directory: Directory to search.
    """
    files: list[Path] = []
    kinds: Counter[str] = Counter()

    def unlisted(error: OSError) -> None:
        kinds[f"that cannot be listed ({cause(error)})"] += 1

    for place, folders, names in os.walk(directory, onerror=unlisted):
        for name in list(folders):
            path = Path(place, name)
            if name.startswith("."):
                kinds[HIDDEN] += 1
            elif path.is_symlink():
                kinds[LINKED] += 1
            else:
                continue
            folders.remove(name)
        for name in names:
            if kind := why_not(Path(place, name)):
                kinds[kind] += 1
            else:
                files.append(Path(place, name))
    return FoundSounds(tuple(sorted(files)), by_number(kinds))


def count_unlisted(
    root: Path,
    listed_paths: Collection[str],
    is_apart: Callable[[Path], bool],
    most_names: int = _MOST_NAMES,
) -> int:
    """Return the number of sounds below a root that a table does not list.

    Args:
        root: Directory to search. Hidden directories and links to directories are skipped.
        listed_paths: Paths in the table, relative to the root, with `/`.
        is_apart: Returns whether a directory is skipped, too.
        most_names: Maximum number of files and directories to look at; 0 is returned if there
            are more, such as below the root of a disk.
    """
    number = 0
    for place, folders, names in os.walk(root):
        most_names -= len(folders) + len(names)
        if most_names < 0:
            return 0
        folders[:] = [f for f in folders if f[0] != "." and not is_apart(Path(place, f))]
        below = os.path.relpath(place, root)
        start = "" if below == "." else f"{below}/"
        number += sum(
            name[0] != "."
            and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 (for every file)
            and f"{start}{name}" not in listed_paths
            for name in names
        )
    return number


def why_not(path: Path) -> str:
    """Return why a file is not a sound file, as a kind to count; "" for a sound file."""
    if path.name.startswith("."):
        return HIDDEN
    if not path.exists():
        return "dead links" if path.is_symlink() else "gone"
    if not path.is_file():
        return "special files or directories"
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return ""
    return f"with suffix {suffix}" if suffix else "without a suffix"


def by_number(kinds: Counter[str]) -> tuple[str, ...]:
    """Return the kinds with their counts, most frequent first, rare ones combined if very many."""
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{number} {kind}" for kind, number in ordered[:_MOST_KINDS]]
    if rest := sum(number for _, number in ordered[_MOST_KINDS:]):
        shown.append(f"{rest} others")
    return tuple(shown)


def listed(left_out: Iterable[str]) -> str:
    """Return the files that were left out as one phrase."""
    return ", ".join(left_out)
