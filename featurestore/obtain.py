"""Datasets for the command line: found on disk or, after asking, downloaded."""

import sys
from pathlib import Path

from featurestore.datasets import Dataset, Download, find_root, load_dataset, plan_download
from featurestore.datasets.download import find_archive
from featurestore.datasets.kinds import DatasetKind, find_kind
from featurestore.datasets.own import FOLDER, OwnOptions, load_own
from featurestore.errors import DatasetError, DatasetNotFoundError, DownloadError
from featurestore.progress import StepProgress
from featurestore.storage import Storage
from featurestore.terminal import Terminal
from featurestore.text import quantity


def load_source(
    console: Terminal,
    name: str | None,
    root: Path | None,
    own: OwnOptions,
    *,
    yes: bool,
    only_look: bool = False,
    may_ask: bool = True,
) -> tuple[Dataset, str]:
    """Read the dataset requested for a build; download it if necessary and allowed.

    Args:
        console: Console for questions and progress.
        name: One of `DATASETS`; None for a custom collection.
        root: Directory of the audio.
        own: How to read a custom collection.
        yes: Whether to download without asking.
        only_look: Whether to neither download nor create anything.
        may_ask: Whether the user can be asked.

    Returns:
        The dataset, and the default path of its store.

    Raises:
        DatasetError: The dataset is unavailable or unreadable, or the options contradict each
            other.
    """
    if name is None or (name == FOLDER and own.given):
        dataset = load_own(root, own, FOLDER if name else "")
        return dataset, f"./{dataset.card.name}.zarr"
    kind = find_kind(name)
    if own.given:
        raise DatasetError(
            f"{', '.join(own.given)} {'is' if len(own.given) == 1 else 'are'} for collections of "
            f"your own, and {name} has its own folds and names: leave out --dataset {name}, or "
            "those options"
        )
    if only_look:
        return _load_present(kind, root), kind.default_store
    dataset = ensure_dataset(console, name, root, yes=yes, may_ask=may_ask)
    return dataset, kind.default_store


def accept_partial(
    console: Terminal, dataset: Dataset, *, accepted: bool, may_ask: bool = True
) -> None:
    """Warn that only a part of a published dataset is here, and ask whether to build from it.

    Args:
        console: Console for the warning and the question.
        dataset: The dataset on disk.
        accepted: Whether the user has accepted a part in advance.
        may_ask: Whether the user can be asked.

    Raises:
        DatasetError: The user declines, or cannot be asked.
    """
    if dataset.partial is None:
        return
    console.warn(f"{dataset.root} has {dataset.partial}")
    if accepted:
        return
    if not may_ask or not sys.stdin.isatty():
        raise DatasetError(
            f"{dataset.root} has {dataset.partial}. Complete it, or build from this part with "
            "--partial"
        )
    console.print("Build from this part? [y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise DatasetError("nothing was built")


def print_source(console: Terminal, dataset: Dataset, store: Storage) -> None:
    """Print how the source of a build was interpreted, what is left out, and warnings."""
    console.print(
        f"{dataset.card.title}: {quantity(len(dataset.clips), 'clip')} in {dataset.root} → {store}"
    )
    if dataset.understood:
        console.print(f"understood as {'; '.join(dataset.understood)}")
    if dataset.left_out:
        console.warn(f"left out: {', '.join(dataset.left_out)}")
    for warning in dataset.warnings:
        console.warn(warning)


def _load_present(kind: DatasetKind, root: Path | None) -> Dataset:
    """Read a dataset that is there."""
    if kind.made_on_demand and not (place := find_root(kind.name, root)).exists():
        raise DatasetNotFoundError(f"{kind.name} is not there yet; a build makes it in {place}")
    return load_dataset(kind.name, root)


def ensure_dataset(
    console: Terminal, name: str, root: Path | None, *, yes: bool, may_ask: bool = True
) -> Dataset:
    """Read a dataset, downloaded first if it is in none of the usual places.

    Args:
        console: Console for the question and the progress.
        name: One of `DATASETS`.
        root: Directory of the dataset; nothing is downloaded to it, as it may be mistyped.
        yes: Whether to download without asking.
        may_ask: Whether the user can be asked; if not, nothing is downloaded without `yes`.

    Raises:
        DatasetNotFoundError: The dataset is not on disk, and cannot or may not be downloaded.
        FeatureStoreError: The download failed, or the table is invalid.
    """
    try:
        return load_dataset(name, root)
    except DatasetNotFoundError as error:
        if root is not None or find_kind(name).archive is None or not (yes or may_ask):
            raise
        _download(console, plan_download(name), yes=yes, absent=f"{error}")
    return load_dataset(name)


def download_dataset(console: Terminal, name: str, root: Path | None, *, yes: bool) -> Dataset:
    """Download a dataset, unless it is on disk.

    Args:
        console: Console for the question and the progress.
        name: One of `DATASETS`.
        root: Target directory; if None, one of those searched by `ensure_dataset`.
        yes: Whether to download without asking.

    Raises:
        FeatureStoreError: The dataset cannot or may not be downloaded, or its table is invalid.
    """
    archive = find_archive(name)
    try:
        existing = find_root(name, root)
    except DatasetNotFoundError:
        plan = plan_download(name, root)
        _download(console, plan, yes=yes, absent=f"{name} is not in {plan.root}")
    else:
        console.print(f"{name} is in {existing} already.")
        Download(archive, existing.resolve()).clean_up()
    return load_dataset(name, root)


def _download(console: Terminal, plan: Download, *, yes: bool, absent: str) -> None:
    archive = plan.archive
    had = f" ({plan.num_bytes_had / 1e9:.2f} GB of it are here)" if plan.num_bytes_had else ""
    rows = {
        "what": archive.title,
        "licence": archive.licence,
        "from": archive.url,
        "size": f"{archive.num_bytes / 1e9:.2f} GB{had}, "
        f"about {archive.num_unpacked_bytes / 1e9:.1f} GB unpacked",
        "to": f"{plan.root} ({plan.num_bytes_needed / 1e9:.1f} GB needed until it is unpacked, "
        f"{plan.num_bytes_free / 1e9:.1f} GB free)",
    }
    console.print("To be downloaded:")
    for key, text in rows.items():
        console.print(f"  {key:8}{text}")
    if not yes:
        _ask(console, absent)
    with StepProgress(console) as progress:
        plan.run(progress)


def _ask(console: Terminal, absent: str) -> None:
    if not sys.stdin.isatty():
        raise DatasetNotFoundError(
            f"{absent}. There is no terminal to ask on whether to download it: add --yes"
        )
    console.print("Download it? [y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise DownloadError("nothing was downloaded")
