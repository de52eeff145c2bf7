"""`repair` makes a damaged store byte-equal to one that was never damaged, and touches no more."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from featurestore.building.build import build
from featurestore.building.manifests import plan_manifest
from featurestore.checking.repair import repair
from featurestore.checking.verify import verify
from featurestore.cli import main
from featurestore.datasets import Dataset, load_dataset
from featurestore.errors import CorruptError, FingerprintError, SourcesError, StoreError
from featurestore.store.creation import claim_arrays
from schemas import FeatureSpec
from tests.conftest import contents, part
from tests.integration.test_build import StopsAfter
from tests.integration.test_damage import ARRAYS, delete, empty, flip_bit, truncate
from tests.pairs import by_name, each_in_turn

pytestmark = pytest.mark.usefixtures("small_blocks")

DAMAGES = (flip_bit, truncate, empty, delete)


def files(store: Path) -> list[Path]:
    return sorted(file for file in store.rglob("*") if file.is_file())


def chunk(store: Path, fold: int, array: str) -> Path:
    return files(store / f"folder/fold{fold}" / array / "c")[0]


def test_a_store_without_damage_is_left_alone(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in files(store)}
    assert list(repair(folder, store)) == []
    assert {file: file.stat().st_mtime_ns for file in files(store)} == before


def test_a_damaged_chunk_of_every_array_is_mended_and_nothing_else_is_written(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    broken = [chunk(store, 1 + number % 2, array) for number, array in enumerate(ARRAYS)]
    for number, file in enumerate(broken):
        DAMAGES[number % 4](file)
    whole = {f: f.stat().st_mtime_ns for f in files(store) if f not in broken}
    told = list(repair(folder, store))
    assert len(told) == len(broken), told
    assert contents(store) == straight
    assert {file: file.stat().st_mtime_ns for file in whole} == whole
    assert list(repair(folder, store)) == [], "there was more to do the second time"


GROUPS = ("zarr.json", "folder/zarr.json", "folder/fold1/zarr.json", "folder/fold2/R1/zarr.json")


@pytest.mark.parametrize(("key", "damage"), each_in_turn(GROUPS, DAMAGES, by_name))
def test_damaged_group_metadata_is_found_and_mended(
    folder: Dataset,
    store: Path,
    straight: dict[str, bytes],
    key: str,
    damage: Callable[[Path], None],
) -> None:
    damage(store / key)
    assert any(verify(store))
    assert any(key in told for told in repair(folder, store))
    assert contents(store) == straight


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_single_file_is_watched_and_mended(
    folder: Dataset, store: Path, straight: dict[str, bytes], damage: Callable[[Path], None]
) -> None:
    for file in files(store):
        damage(file)
        assert any(verify(store)), file
        assert list(repair(folder, store)), file
        assert contents(store) == straight, file


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "building"},
        {"counts": {"ok": 3}},
        {"libraries": {"numpy": "0.1"}},
        {"chunk_clips": 2},
        {"fingerprint": "0" * 64},
        {"spec": FeatureSpec(top_db=50).model_dump(mode="json")},
        {"folds": [{"fold": 1, "num_clips": 20}]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_edited_manifest_is_found_and_mended(
    folder: Dataset, store: Path, straight: dict[str, bytes], changes: dict[str, object]
) -> None:
    file = store / "folder/zarr.json"
    metadata = json.loads(file.read_text())
    metadata["attributes"] |= changes
    file.write_text(json.dumps(metadata))
    assert any(verify(store))
    list(repair(folder, store))
    assert contents(store) == straight


def test_an_edited_copy_of_the_metadata_is_found_and_mended(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    file = store / "zarr.json"
    file.write_text(file.read_text().replace('"licence": "unknown"', '"licence": "free"'))
    assert any(verify(store))
    assert list(repair(folder, store)) == ["zarr.json written again"]
    assert contents(store) == straight


def test_a_store_of_which_whole_directories_are_gone_is_mended(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    shutil.rmtree(store / "folder/fold1")
    shutil.rmtree(store / "folder/fold2/R3")
    (store / "zarr.json.1234.partial").write_text("half")
    list(repair(folder, store))
    assert contents(store) == straight


def test_a_store_begun_in_chunks_of_another_size_is_finished_and_mended_in_these(
    folder: Dataset, tmp_path: Path, straight: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s.zarr"
    with pytest.raises(RuntimeError, match="power cut"):
        build(folder, store, executor=StopsAfter(2))
    monkeypatch.setattr("featurestore.store.plan.chunk_clips", lambda fold_sizes: 3)
    monkeypatch.setattr("featurestore.store.plan.block_clips", lambda spec, num_clips, chunk: 3)
    assert build(folder, store).num_built == 12
    assert contents(store) == straight
    (store / "folder/zarr.json").write_text("{}")
    chunk(store, 1, "R2/mel").unlink()
    list(repair(folder, store))
    assert contents(store) == straight


def test_a_damaged_shard_is_found_and_mended(
    folder: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurestore.store.plan.block_clips", lambda spec, num_clips, chunk: 8)
    store = tmp_path / "shards.zarr"
    build(folder, store)
    whole = contents(store)
    for damage in DAMAGES:
        damage(chunk(store, 1, "R2/mel"))
        assert any("fold1/R2/mel" in told for found in verify(store) for told in found)
        list(repair(folder, store))
        assert contents(store) == whole


def test_an_unfinished_build_is_mended_as_far_as_it_is_committed(
    folder: Dataset, tmp_path: Path, straight: dict[str, bytes]
) -> None:
    store = tmp_path / "s.zarr"
    with pytest.raises(RuntimeError):
        build(folder, store, executor=StopsAfter(2))
    before = contents(store)
    flip_bit(chunk(store, 1, "R1/mel"))
    flip_bit(chunk(store, 1, "status"))
    assert len(list(repair(folder, store))) == 2
    assert contents(store) == before
    build(folder, store)
    assert contents(store) == straight


def test_a_dataset_whose_creation_was_interrupted_is_not_taken_for_made_by_anothers_repair(
    folder: Dataset, store: Path, tmp_path: Path
) -> None:
    other = part(folder, "other")
    claim_arrays(store, plan_manifest(other, FeatureSpec()))
    assert not [problem for found in verify(store, "folder") for problem in found]
    assert list(repair(folder, store)) == []
    build(other, store)
    build(folder, tmp_path / "alone.zarr")
    build(other, tmp_path / "alone.zarr")
    assert contents(store) == contents(tmp_path / "alone.zarr")


def test_sources_that_changed_are_refused_and_the_rest_is_mended(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    victim = folder.root / folder.clips[0].path
    original = victim.read_bytes()
    victim.write_bytes((folder.root / folder.clips[2].path).read_bytes())
    for file in files(store / "folder"):
        if "R1/mel/c" in str(file):
            delete(file)
    with pytest.raises(
        SourcesError, match=rf"^the files of 1 clip .*{folder.clips[0].path}.*repair again"
    ):
        list(repair(folder, store))
    lost = straight.keys() - contents(store).keys()
    assert len(lost) == 1, "the other blocks were not repaired"
    victim.write_bytes(original)
    list(repair(folder, store))
    assert contents(store) == straight


def test_without_digests_the_features_that_are_left_must_agree_with_the_sources(
    folder: Dataset, store: Path, straight: dict[str, bytes]
) -> None:
    victim = folder.root / folder.clips[0].path
    original = victim.read_bytes()
    for name in ("source_sha256", "R1/mel"):
        shutil.rmtree(store / "folder/fold1" / name / "c")
    victim.write_bytes((folder.root / folder.clips[2].path).read_bytes())
    with pytest.raises(SourcesError, match=folder.clips[0].path):
        list(repair(folder, store))
    victim.write_bytes(original)
    list(repair(folder, store))
    assert contents(store) == straight


def test_another_table_or_a_manifest_lost_for_good_is_refused(folder: Dataset, store: Path) -> None:
    (folder.root / folder.clips[0].path).unlink()
    fewer = load_dataset("folder", folder.root)
    with pytest.raises(FingerprintError, match=folder.clips[0].path):
        list(repair(fewer, store))
    (store / "folder/zarr.json").unlink()
    (store / "zarr.json").unlink()
    with pytest.raises(CorruptError, match="no undamaged copy of the manifest of folder is left"):
        list(repair(folder, store))
    with pytest.raises(StoreError, match="holds no folder"):
        list(repair(folder, store.parent))


def test_repair_from_the_command_line(
    folder: Dataset,
    store: Path,
    straight: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    delete(chunk(store, 1, "R3/full"))
    assert main(["repair", str(store), "--root", str(folder.root)]) == 0
    told = capsys.readouterr().out
    assert "repaired: folder/fold1/R3/full, rows 0 to 4, made again" in told
    assert "1 repaired" in told
    assert contents(store) == straight
    assert main(["repair", str(store), "--root", str(folder.root)]) == 0
    assert "nothing is broken" in capsys.readouterr().out
    for line in (["repair", "nowhere"], ["repair", str(store), "--root", "nowhere"]):
        assert main(line) == 1
        *_, error = capsys.readouterr().err.splitlines()
        assert error.startswith("error: ")
        assert "nowhere" in error
