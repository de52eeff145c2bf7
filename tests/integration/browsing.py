"""A store with hostile names to browse, and the page's server on a free port of loopback."""

import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import uvicorn

from featurestore.browsing.server import LOOPBACK, make_app
from featurestore.browsing.site import Site
from featurestore.building.build import build
from featurestore.datasets import load_dataset
from schemas import FeatureSpec, Resolution
from tests.conftest import four_clips_a_block

TOKEN = "the-token"  # noqa: S105  (of a test)
HOSTILE = "<script>window.hacked=1<"
"""A class's name; a directory's cannot hold a slash."""
CLASSES = (HOSTILE, "high", "low")
RATE = 22_050
SMALL = FeatureSpec(
    resolutions=(
        Resolution(name="R1", n_mels=16, num_frames=24),
        Resolution(name="R2", n_mels=32, num_frames=60),
    )
)


def write_sounds(root: Path, clips_a_class: int = 3) -> Path:
    """Two folds of three classes; each clip a tone of its own, and one that is no audio."""
    tone = 300.0
    for fold in (1, 2):
        for name in CLASSES:
            place = root / f"fold{fold}" / name
            place.mkdir(parents=True)
            for index in range(clips_a_class):
                tone += 100
                time = np.arange(int(RATE * (0.4 + 0.3 * index))) / RATE
                wave = 0.5 * np.sin(2 * np.pi * tone * time)
                soundfile.write(place / f"{'<b>' if index else ''}{index}.wav", wave, RATE)
    (root / "fold2" / "low" / "broken.wav").write_bytes(b"no audio at all")
    return root


def build_browsed(root: Path, store: Path) -> Path:
    """Build the store of `write_sounds`, four clips a chunk."""
    with pytest.MonkeyPatch.context() as patch:
        four_clips_a_block(patch)
        build(load_dataset("folder", root), store, SMALL)
    return store


@dataclass(frozen=True)
class Served:
    """A page that is served.

    Args:
        site: Its files.
        port: Its port.
    """

    site: Site
    port: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/{TOKEN}/"

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, token: str = TOKEN
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of what is at a path below the page."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=20)
        try:
            connection.request("GET", f"/{token}/{path}", headers=dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.headers, response.read()  # type: ignore[return-value]
        finally:
            connection.close()


@contextmanager
def served(site: Site) -> Iterator[Served]:
    """Serve a page for the time of the block."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        port = listening.getsockname()[1]
        options: dict[str, Any] = {"log_level": "critical", "lifespan": "off", "ws": "none"}
        server = uvicorn.Server(uvicorn.Config(make_app(site, TOKEN, port), **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Served(site, port)
        finally:
            server.should_exit = server.force_exit = True
            thread.join()
