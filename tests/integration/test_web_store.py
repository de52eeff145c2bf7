"""A finished store behind a web server: read as from the directory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import featurestore
from featurestore import cli
from featurestore.browsing.export import export_paths
from featurestore.browsing.shelf import Shelf
from featurestore.browsing.site import Site
from tests.conftest import contents
from tests.integration.conftest import problems, put_all, told
from tests.integration.filled_store import fill_store
from tests.remote_servers import file_server


@pytest.fixture
def web(store: Path) -> Iterator[str]:
    """The finished store, behind a web server that serves its directory."""
    with file_server(store.parent) as address:
        yield f"{address}/{store.name}"


def test_a_web_server_serves_a_finished_store(
    web: str, store: Path, sounds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, here = featurestore.open_store(web), featurestore.open_store(store)
    assert there.path == web
    for array in here.arrays:
        for mine, theirs in zip(here.load(array), there.load(array), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert there.clips().clip_id.tolist() == here.clips().clip_id.tolist()
    assert cli.main(["info", web]) == 0
    assert "a web server lists nothing" in capsys.readouterr().out
    assert cli.main(["verify", web, "--root", str(sounds)]) == 0
    building = ("build", "--dataset", "folder", "--root", str(sounds), "--workers", "0", "--store")
    assert "can be read only" in told(capsys, *building, web.replace("s.zarr", "new.zarr"))
    assert "no store at" in told(capsys, "info", web.replace("s.zarr", "new.zarr"))


def test_verify_finds_damage_behind_a_web_server(web: str, store: Path) -> None:
    (store / "folder/fold2/R3/full/c/0/0/0").unlink()
    (store / "folder/fold1/R1/mel/zarr.json").write_text("{}")
    found = " ".join(problems(web))
    assert "fold2/R3/full, rows 0 to 4: the chunk is missing" in found
    assert "folder/fold1/R1/mel/zarr.json is not what the manifest demands" in found


def test_shards_are_read_through_a_server_without_ranges_and_in_parts_through_one_with(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.integration.filled_store.BLOCK_CHUNKS", 3)
    here = fill_store(tmp_path / "n.zarr", (4, 6), {1: 20, 2: 5}, chunk=2)
    images, labels = here.load("R3/full")
    put_all(url, contents(tmp_path / "n.zarr"))
    with file_server(tmp_path) as address:
        for place in (url, f"{address}/n.zarr"):
            found = featurestore.open_store(place)
            np.testing.assert_array_equal(found.load("R3/full")[0], images)
            np.testing.assert_array_equal(found.load("R3/full")[1], labels)


def test_the_page_of_a_store_behind_an_s3_or_a_web_server_is_that_of_the_directory(
    web: str, url: str, store: Path, sounds: Path
) -> None:
    put_all(url, contents(store))
    near = Site(Shelf(store), sounds, exported=True)
    paths = [path for path in export_paths(near) if path.startswith("data/s.zarr/")]
    kinds = {path.rsplit("/", 2)[-2]: path for path in paths}
    assert kinds.keys() >= {"folder", "thumbnails", "clips", "sounds"}
    for place in (web, url):
        far = Site(Shelf(place), sounds, exported=True)
        for path in [*kinds.values(), "data/s.zarr/folder/clips.json"]:
            if not path.endswith("collection.json"):  # it names the place
                assert far.answer(path) == near.answer(path)
        (listed,) = far.stores()["stores"]
        assert listed == near.stores()["stores"][0]
