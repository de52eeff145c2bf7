"""In a finished dataset whatever is absent, cut or flipped is damage, in every array."""

from collections.abc import Callable
from pathlib import Path

import pytest

import featurestore
from featurestore import cli
from featurestore.errors import CorruptError
from featurestore.store.arrays import open_arrays
from tests.integration.conftest import told
from tests.integration.test_damage import ARRAYS, DAMAGES, delete
from tests.remote_servers import file_server

pytestmark = pytest.mark.usefixtures("small_blocks")

NOT_READ = {"index"}
"""By nobody but builds."""


def read_all(place: Path | str) -> None:
    dataset = featurestore.open_store(place)
    for array in dataset.arrays:
        dataset.load(array)
    dataset.source_digests()
    dataset.clips()


# Every array with one kind of damage, in turn; among the slow tests with all.
@pytest.mark.parametrize(
    "each", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["in turn", "each"]
)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_chunk_of_any_array_is_an_error_on_disk_and_from_afar(
    store: Path, damage: Callable[[Path], None], each: bool
) -> None:
    with file_server(store.parent) as address:
        for number, array in enumerate((*ARRAYS, "../checksums/fold2")):
            if not each and DAMAGES[number % len(DAMAGES)] is not damage:
                continue
            place = store / "folder/fold2" / array / "c"
            chunk = max(path for path in place.resolve().rglob("*") if path.is_file())
            data = chunk.read_bytes()
            damage(chunk)
            for at in (store, f"{address}/{store.name}"):
                if array in NOT_READ:
                    with pytest.raises(CorruptError):
                        open_arrays(at, "folder").read(2, array)
                    continue
                with pytest.raises(CorruptError, match=r"featurestore verify|checksums"):
                    read_all(at)
            chunk.write_bytes(data)
        read_all(f"{address}/{store.name}")


def test_a_status_chunk_that_vanished_is_damage_for_every_command(
    store: Path, sounds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    delete(store / "folder/fold1/status/c/1")
    building = ("build", "--dataset", "folder", "--root", str(sounds), "--workers", "0", "--store")
    for command in (("info",), ("plot", "--clip", "x"), building):
        line = told(capsys, *command, str(store))
        assert "fold1/status, rows 0 to 10: the chunk is missing" in line
        assert "featurestore repair" in line
    assert cli.main(["verify", str(store)]) == 1
    assert "fold1/status, rows 4 to 8: the chunk is missing" in capsys.readouterr().out


def test_a_status_chunk_of_version_1_that_vanished_is_damage(golden: Path) -> None:
    for name in ("folder", "esc50"):
        delete(golden / name / "fold1/status/c/0")
        with pytest.raises(CorruptError, match="the chunk is missing"):
            featurestore.open_store(golden, name)
