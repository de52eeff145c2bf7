"""A store with hostile names to browse, and the page's server on a free port of loopback."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import uvicorn

from featurestore import StoredDataset
from featurestore.browsing.server import LOOPBACK, make_app
from featurestore.browsing.site import Site
from featurestore.building.build import build
from featurestore.datasets import load_dataset
from featurestore.datasets.collection import load_collection
from schemas import FeatureSpec, Resolution, RunResult
from tests.conftest import four_clips_a_block
from tests.integration.reported_runs import make_run, seal
from trainer.records.tables import (
    ClipPredictions,
    metrics_bytes,
    parse_metrics,
    predictions_bytes,
)

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
    """Build the store of `write_sounds`, four clips per chunk."""
    with pytest.MonkeyPatch.context() as patch:
        four_clips_a_block(patch)
        build(load_dataset("folder", root), store, SMALL)
    return store


def build_labelled(place: Path) -> Path:
    """Build a store of clips of several labels or none, with features next to the images."""
    sounds, lines = place / "birds", ["path,labels,fold"]
    sounds.mkdir(parents=True)
    for fold in (1, 2):
        for number, labels in enumerate(("owl;tit", "", "tit", "owl;jay;tit")):
            time = np.arange(RATE) / RATE
            wave = 0.4 * np.sin(2 * np.pi * (500 + 300 * number) * time)
            soundfile.write(sounds / f"{fold}-{number}.wav", wave, RATE)
            lines.append(f"{fold}-{number}.wav,{labels},{fold}")
    (sounds / "clips.csv").write_text("\n".join(lines))
    features = [{"kind": "mfcc"}, {"kind": "waveform", "sample_rate": 8000}]
    spec = FeatureSpec.model_validate({**SMALL.model_dump(), "features": features})
    build(load_collection(sounds), place / "birds.zarr", spec)
    return place / "birds.zarr"


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


def write_run(
    path: Path, dataset: StoredDataset, method: str, right: Callable[[str], bool]
) -> Path:
    """Write a finished run's directory, of the clips of a store.

    Args:
        path: Its directory.
        dataset: What it was trained on.
        method: Name of its method.
        right: Whether it recognises the clip of that id; others are taken for the next class, the
            more surely the later the clip. With several labels they are wrong about one of them.
    """
    task = "multilabel" if dataset.multilabel else "multiclass"
    run = make_run(
        path,
        method,
        dict.fromkeys(dataset.folds, 100.0),
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        classes=dataset.class_names,
        selection="last",
        task=task,
    )
    results = []
    result = RunResult.model_validate_json((run / "result.json").read_bytes())
    for fold in result.folds:
        table, labels = dataset.clips([fold.fold]), dataset.all_labels([fold.fold])
        known = np.array([right(clip) for clip in table.clip_id])
        shares = (_shares_of_labels if dataset.multilabel else _shares)(labels, known, dataset)
        judged = ClipPredictions(tuple(table.clip_id), labels, shares, dataset.class_names)
        (run / f"fold{fold.fold}" / "last.csv").write_bytes(predictions_bytes(judged))
        update: dict[str, Any] = {"num_test": len(table), "last_accuracy": None}
        if dataset.multilabel:
            _rescore(run / f"fold{fold.fold}" / "metrics.csv")
            update["last_scores"] = judged.scores
        else:
            update["last_accuracy"] = judged.accuracy
        results.append(fold.model_copy(update=update))
    changed = result.model_copy(update={"folds": tuple(results)})
    (run / "result.json").write_text(changed.model_dump_json())
    return seal(run)


def _shares(labels: Any, known: Any, dataset: StoredDataset) -> Any:
    count, number = len(labels), len(dataset.class_names)
    predicted = np.where(known, labels, (labels + 1) % number)
    sure = 0.9 - 0.3 * np.arange(count, dtype=np.float32)[::-1] / count
    shares = np.repeat(((1 - sure) / (number - 1))[:, None], number, axis=1)
    shares[np.arange(count), predicted] = sure
    return shares


def _shares_of_labels(labels: Any, known: Any, dataset: StoredDataset) -> Any:
    rows = np.arange(len(labels))
    turned = labels.astype(bool)
    turned[rows[~known], rows[~known] % labels.shape[1]] ^= True
    return np.where(turned, 0.9, 0.1).astype(np.float32) + rows[:, None].astype(np.float32) / 100


def _rescore(metrics: Path) -> None:
    """Make the accuracies of epochs mean average precisions."""
    rows = parse_metrics(metrics, metrics.read_bytes())
    moved = ({"valid_map": row.valid_accuracy, "valid_accuracy": None} for row in rows)
    rescored = [row.model_copy(update=to) for row, to in zip(rows, moved, strict=True)]
    metrics.write_bytes(metrics_bytes(rescored))
