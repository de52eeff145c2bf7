"""Documents that Zarr makes for us, in memory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import zarr

from featurestore.building.manifests import plan_manifest
from featurestore.datasets import Dataset
from featurestore.store import metadata
from featurestore.store.cliptable import clip_tables
from featurestore.store.documents import store_documents, table_objects
from schemas import FeatureSpec


@pytest.mark.parametrize(
    ("module", "function"),
    [(metadata, "layout"), (zarr, "consolidate_metadata")],
    ids=["settings", "filters"],
)
@pytest.mark.filterwarnings("error")
def test_what_two_threads_make_at_once_is_whole(
    folder: Dataset, monkeypatch: pytest.MonkeyPatch, module: Any, function: str
) -> None:
    """Zarr's settings and Python's filters of warnings are the whole process's.

    One thread is held inside a function until the other has come to it too, and that one until the
    first is done.
    """
    manifest = plan_manifest(folder, FeatureSpec())
    tables = clip_tables(folder.clips, manifest)

    def make() -> dict[str, bytes]:
        made = table_objects(manifest, 1, tables[1]) if module is metadata else {}
        return made | store_documents([manifest])

    alone = make()
    call: Callable[..., Any] = getattr(module, function)
    came, first_came, first_done = Event(), Event(), Event()

    def held(*arguments: Any) -> Any:
        if not first_came.is_set():
            first_came.set()
            came.wait(0.5)
        elif not came.is_set():
            came.set()
            first_done.wait(10)
        return call(*arguments)

    def first() -> dict[str, bytes]:
        try:
            return make()
        finally:
            first_done.set()

    monkeypatch.setattr(module, function, held)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        assert first_came.wait(10)
        other = pool.submit(make)
        assert one.result() == alone
        assert other.result() == alone
    assert module is zarr or "folder/fold1/source/c/0" in alone, "of empty texts only"
