"""Every file of the page, live or exported: `Site.answer` returns the bytes at a path.

index.html, static/…                          the page itself
data/stores.json                              the stores, and the state of their builds
data/STORE/DATASET/collection.json            what the dataset is; see `contents`
data/STORE/DATASET/clips.json                 its clip table
data/STORE/DATASET/repetition.json            clips that were repeated
data/STORE/DATASET/thumbnails/GROUP.bin       tiles of the grid
data/STORE/DATASET/clips/NUMBER.json, .bin    a clip's row and images
data/STORE/DATASET/sounds/NUMBER.json, .wav   its sound
data/STORE/DATASET/runs.json                  the runs; see `runs`
data/STORE/DATASET/probabilities/NUMBER.json  class probabilities of a clip by run

The content depends on nothing but the store, the audio and the runs.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import Any

from featurestore.browsing.contents import Contents
from featurestore.browsing.runs import Runs, RunsOfDataset
from featurestore.browsing.shelf import Shelf
from featurestore.browsing.sounds import Sounds
from featurestore.errors import FeatureStoreError
from featurestore.text import mask_url
from featurestore.version import __version__

JSON = "application/json"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": JSON,
    ".wav": "audio/wav",
    ".bin": "application/octet-stream",
}
_LEAST_AGE_S = 1.0
"""Seconds after which a dataset is reopened to see whether it has changed."""
_DATA = re.compile(r"data/(?P<store>[^/]+)/(?P<dataset>[^/]+)/(?P<file>.+)")
_NUMBERED = re.compile(
    r"(?P<kind>thumbnails|clips|sounds|probabilities)/(?P<number>\d{1,9})\.(?P<type>\w+)"
)


@dataclass(frozen=True)
class Answer:
    """Content at a path.

    Args:
        body: Content.
        media_type: MIME type of the content.
        status: HTTP status code.
    """

    body: bytes
    media_type: str = JSON
    status: int = 200


def json_answer(value: object, status: int = 200) -> Answer:
    """Return a value as ASCII JSON, in which lone surrogates of names survive."""
    return Answer(json.dumps(value, separators=(",", ":"), allow_nan=False).encode(), JSON, status)


@dataclass(frozen=True)
class _Opened:
    contents: Contents
    digest: str
    at: float


@dataclass
class Site:
    """The page's files.

    Args:
        shelf: Stores to show.
        root: Directory of the audio; None for a page without sounds.
        runs: Training runs to show with the clips.
        exported: Whether the page is a static export, which never changes.
    """

    shelf: Shelf
    root: Path | None = None
    runs: Runs = field(default_factory=lambda: Runs([]))
    exported: bool = False
    _opened: dict[tuple[str, str], _Opened] = field(default_factory=dict)
    _matched: dict[Contents, RunsOfDataset] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def answer(self, path: str) -> Answer:
        """Return the content at a path below the page; the path is not trusted.

        Errors are returned as answers, too: a damaged tile says so.
        """
        try:
            return self._answer(path)
        except (LookupError, ValueError):
            return json_answer({"error": "there is no such thing"}, 404)
        except FeatureStoreError as error:
            return json_answer({"error": mask_url(error)}, 422)
        except OSError as error:
            return json_answer({"error": mask_url(error.strerror or error)}, 422)

    def _answer(self, path: str) -> Answer:
        if path in self._pages:
            return self._pages[path]
        if path == "data/stores.json":
            return json_answer(self.stores())
        match = _DATA.fullmatch(path)
        if not match:
            raise LookupError(path)
        return self._of_dataset(match["store"], match["dataset"], match["file"])

    def stores(self) -> dict[str, Any]:
        """Return the stores, with the state of their builds."""
        return {
            "version": __version__,
            "exported": self.exported,
            "sounds": self.root is not None,
            "runs": bool(self.runs),
            "several": self.shelf.several,
            "place": self.shelf.place,
            "stores": self.shelf.describe(),
        }

    @cached_property
    def _pages(self) -> Mapping[str, Answer]:
        """The files of the page itself, by path: nothing else can be asked for."""
        files = {
            file.name: file.read_bytes()
            for file in resources.files("featurestore.browsing").joinpath("static").iterdir()
            if Path(file.name).suffix in _TYPES
        }
        pages = {
            f"static/{name}": Answer(data, _TYPES[Path(name).suffix])
            for name, data in files.items()
            if name != "index.html"
        }
        index = Answer(files["index.html"], _TYPES[".html"])
        return pages | {"": index, "index.html": index}

    @property
    def page_paths(self) -> Sequence[str]:
        """Paths of the page's own files."""
        return [path for path in self._pages if path]

    def _of_dataset(self, store: str, dataset: str, file: str) -> Answer:
        contents = self.contents(store, dataset, refresh=file == "collection.json")
        whole: dict[str, Callable[[], object]] = {
            "collection.json": contents.collection,
            "clips.json": contents.clips,
            "repetition.json": lambda: contents.repetition(wait=self.exported),
            "runs.json": lambda: self._runs_of(contents).facts(),
        }
        if file in whole:
            return json_answer(whole[file]())
        match = _NUMBERED.fullmatch(file)
        if not match:
            raise LookupError(file)
        return self._numbered(contents, match["kind"], int(match["number"]), match["type"])

    def _numbered(self, contents: Contents, kind: str, number: int, suffix: str) -> Answer:
        media_type = _TYPES.get(f".{suffix}", "")
        if (kind, suffix) == ("thumbnails", "bin"):
            return Answer(contents.thumbnails(number), media_type)
        if (kind, suffix) == ("clips", "json"):
            return json_answer(contents.clip(number))
        if (kind, suffix) == ("clips", "bin"):
            return Answer(contents.images(number), media_type)
        if (kind, suffix) == ("probabilities", "json"):
            return json_answer(self._runs_of(contents).probabilities(number))
        if kind == "sounds" and suffix in ("json", "wav") and self._sounds:
            sound = self._sounds.sound(contents, number)
            return json_answer(sound.facts) if suffix == "json" else Answer(sound.wav, media_type)
        raise LookupError(number)

    def _runs_of(self, contents: Contents) -> RunsOfDataset:
        if contents not in self._matched:
            self._matched.clear()  # it has changed, or another dataset is looked at
            self._matched[contents] = self.runs.of(contents)
        return self._matched[contents]

    @cached_property
    def _sounds(self) -> Sounds | None:
        return Sounds(self.root) if self.root else None

    def contents(self, store: str, dataset: str, *, refresh: bool = False) -> Contents:
        """Return an open dataset, reopened with `refresh` if it has changed.

        Raises:
            LookupError: There is no such store or dataset.
            StoreError: It is damaged.
        """
        key = store, dataset
        with self._lock:
            opened = self._opened.get(key)
            if opened and not (refresh and time.monotonic() - opened.at > _LEAST_AGE_S):
                return opened.contents
            stored = self.shelf.open(store, dataset)
            contents, digest = Contents(stored), stored.manifest.model_dump_json()
            if opened and opened.digest == digest and opened.contents.revision == contents.revision:
                contents = opened.contents
            self._opened[key] = _Opened(contents, digest, time.monotonic())
            return contents
