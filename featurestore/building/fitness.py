"""Whether this process may build blocks of a store: its version, its libraries, its data.

Workers of a cluster may join from anywhere and at any time, so each checks itself before its first
block. One that is unfit says so, and its blocks are given to others.
"""

import importlib.metadata
import os
import socket
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import soundfile

from featurestore.errors import NewerError, StoreError, UnfitWorkerError
from featurestore.storage import Storage
from featurestore.store.arrays import open_arrays
from featurestore.store.fingerprint import LIBROSA
from schemas import StoreManifest, features


def check_versions(manifest: StoreManifest) -> None:
    """Refuse to extract for a store started with another version of the extractor or of librosa.

    Raises:
        UnfitWorkerError: The versions differ; the message names both.
    """
    if manifest.extractor_version != features.EXTRACTOR_VERSION:
        raise UnfitWorkerError(
            f"the featurestore on {socket.gethostname()} extracts by version "
            f"{features.EXTRACTOR_VERSION}, the store was started with version "
            f"{manifest.extractor_version}: install the same featurestore there as where the "
            "build runs"
        )
    version = manifest.libraries.get(LIBROSA)
    if manifest.spec.features and (here := _version(LIBROSA)) != version:
        raise UnfitWorkerError(
            f"{socket.gethostname()} has librosa {here}, and the store's features are of librosa "
            f"{version}: install that one there (pip install librosa=={version})"
        )


@lru_cache(maxsize=4)
def check_fit(store: Storage, dataset: str, root: Path, witness: str | None) -> str:
    """Check this process before its first block.

    Args:
        store: Storage of the store.
        dataset: Name of the dataset in it.
        root: Root of the files.
        witness: A file below the root that the process that started the build can see.

    Returns:
        Differences between its libraries and those with which the store was started; empty if
        none.

    Raises:
        UnfitWorkerError: The process has another extractor, is too old for the store, or cannot see
            the store or the files.
    """
    try:
        manifest = open_arrays(store, dataset).manifest
    except NewerError as error:
        raise UnfitWorkerError(
            f"the featurestore on {socket.gethostname()} is older: {error}"
        ) from error
    except StoreError as error:
        if store.remote or store.exists("zarr.json"):
            raise
        raise UnfitWorkerError(
            f"{socket.gethostname()} sees no store at {store}: is its disk mounted there?"
        ) from error
    check_versions(manifest)
    check_root(root, witness)
    return differing_libraries(manifest.libraries)


def check_root(root: Path, witness: str | None) -> None:
    """Refuse to report files as missing if the whole root is missing.

    Raises:
        UnfitWorkerError: The root or the witness in it is missing.
    """
    if not root.is_dir() or (witness is not None and not os.path.lexists(root / witness)):
        what = f"{witness} is not there" if root.is_dir() else "there is no such directory"
        raise UnfitWorkerError(
            f"{socket.gethostname()} does not see the sounds at {root} ({what}): is its disk "
            "mounted there?"
        )


def differing_libraries(libraries: Mapping[str, str]) -> str:
    """Return how this process's libraries differ from a store's, in words; empty if they do not."""
    here = {name: _version(name) for name in libraries}
    return ", ".join(
        f"{name} {here[name]} (the store: {version})"
        for name, version in libraries.items()
        if here[name] != version
    )


def _version(name: str) -> str:
    if name == "libsndfile":
        return str(soundfile.__libsndfile_version__)
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"
