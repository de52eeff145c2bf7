"""Training from a store behind a web server: the same batches as from the directory."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from featurestore import open_store  # noqa: E402
from tests.remote_servers import file_server  # noqa: E402
from trainer import BlockSampler, ZarrDataset  # noqa: E402
from trainer.cli import main  # noqa: E402
from trainer.data.order import EpochOrder  # noqa: E402
from trainer.data.streamed import StreamedSource  # noqa: E402


@pytest.fixture
def web(pristine: Path) -> Iterator[str]:
    with file_server(pristine.parent) as address:
        yield f"{address}/{pristine.name}"


@pytest.mark.slow
def test_an_epoch_over_a_web_server_is_the_epoch_over_the_directory(
    web: str, pristine: Path
) -> None:
    epochs = []
    for place in (pristine, web):
        data = ZarrDataset(place, "R1/mel", cache_blocks=8)
        loader = DataLoader(data, batch_size=4, sampler=BlockSampler(data, seed=1))
        epochs.append(list(loader))
    for (here, mine), (there, theirs) in zip(*epochs, strict=True):
        assert torch.equal(here, there)
        assert torch.equal(mine, theirs)


@pytest.mark.slow
def test_worker_processes_that_are_spawned_read_a_web_server(web: str) -> None:
    data = ZarrDataset(web, "R1/mel")
    loader = DataLoader(
        data,
        batch_size=10,
        sampler=BlockSampler(data, seed=1),
        num_workers=1,
        multiprocessing_context="spawn",
    )
    assert sum(len(labels) for _, labels in loader) == 20


def test_streaming_from_a_web_server_gives_the_same_batches(web: str, pristine: Path) -> None:
    batches = []
    for place in (pristine, web):
        store = open_store(place)
        split = StreamedSource(store, "R2/resize", store.folds, torch.device("cpu"))
        sizes = [len(store.labels(block)) for block in store.blocks()]
        order = EpochOrder(0, store.fingerprint, store.folds, sizes)
        batches.append([images.numpy() for images, _ in split.batches(order.windows(1), 4)])
    for here, there in zip(*batches, strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.slow
def test_a_whole_run_trains_from_a_web_server(web: str, tmp_path: Path) -> None:
    command = ["run", "--store", web, "--method", "baseline", "--fold", "1", "--init", "random"]
    command += ["--epochs-scale", "0.001", "--batch-size", "4", "--arch", "resnet18"]
    for reading in ("host", "stream"):
        out = tmp_path / reading
        assert main([*command, "--placement", reading, "--out", str(out)]) == 0
        assert (out / "result.json").exists()
        assert json.loads((out / "run.json").read_text())["store"] == web
    assert main(["evaluate", "--run", str(out), "--out", str(tmp_path / "evaluation")]) == 0
