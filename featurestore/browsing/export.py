"""The page as static files for any web server: the same bytes at the same paths as live."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from featurestore.browsing.contents import GROUP_CLIPS
from featurestore.browsing.site import JSON, Site
from featurestore.errors import StorageError
from featurestore.files import replace_file

_DONE = "index.html"
"""Written last: an export that was interrupted cannot be opened."""


def export_paths(site: Site) -> list[str]:
    """Return the paths of all files of the page, `index.html` last.

    Raises:
        StoreError: A dataset is damaged.
    """
    paths = [path for path in site.page_paths if path != _DONE]
    paths.append("data/stores.json")
    for store in site.stores()["stores"]:
        for dataset in store["datasets"]:
            if not dataset["error"]:
                paths += _of_dataset(site, store["key"], dataset["name"])
    return [*paths, _DONE]


def _of_dataset(site: Site, store: str, dataset: str) -> Iterator[str]:
    base, contents = f"data/{store}/{dataset}", site.contents(store, dataset)
    size = len(contents.table)
    yield from (f"{base}/{name}.json" for name in ("collection", "clips", "repetition"))
    yield from (f"{base}/thumbnails/{group}.bin" for group in range(-(-size // GROUP_CLIPS)))
    if site.runs:
        yield f"{base}/runs.json"
    for number in range(size):
        stored = contents.has_features(number)
        yield f"{base}/clips/{number}.json"
        if stored:
            yield f"{base}/clips/{number}.bin"
        if site.root:
            yield f"{base}/sounds/{number}.json"
            if stored:
                yield f"{base}/sounds/{number}.wav"
        if site.runs:
            yield f"{base}/probabilities/{number}.json"


def export(site: Site, to: Path) -> tuple[int, Iterator[int]]:
    """Write the page to a directory.

    Args:
        site: Files of the page.
        to: A directory that is empty or does not exist.

    Returns:
        The number of files, and an iterator that writes them and yields the size of each in bytes:
        0 for an unavailable sound or image, for which the file next to it says why.

    Raises:
        StorageError: The directory is not empty, or cannot be written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise StorageError(f"{to} is there and not empty: name another directory for the page")
    site = replace(site, exported=True)
    paths = export_paths(site)
    return len(paths), (_write(site, path, to) for path in paths)


def _write(site: Site, path: str, to: Path) -> int:
    answer = site.answer(path)
    if answer.status != 200 and answer.media_type == JSON and not path.endswith(".json"):
        return 0
    file = to / PurePosixPath(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, answer.body, durable=False)
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror or error}") from error
    return len(answer.body)
