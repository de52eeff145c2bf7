"""Nothing damaged is ever read as data: the reader raises, and verify finds it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import featurestore
from featurestore.building.build import build
from featurestore.checking.verify import count_parts, verify
from featurestore.datasets import Dataset
from featurestore.errors import CorruptError, StoreError
from featurestore.store.files import OUTCOMES
from featurestore.store.fingerprint import digest, fingerprint, meaning
from featurestore.store.metadata import TABLE
from schemas import FeatureSpec
from tests.pairs import by_name, each_in_turn

pytestmark = pytest.mark.usefixtures("small_blocks")

ARRAYS = (*TABLE, *OUTCOMES, *FeatureSpec().arrays)


def problems(store: Path, root: Path | None = None) -> list[str]:
    return [problem for found in verify(store, root=root) for problem in found]


def flip_bit(chunk: Path) -> None:
    data = bytearray(chunk.read_bytes())
    position = int(np.random.default_rng(len(data)).integers(len(data) * 8))
    data[position // 8] ^= 1 << position % 8
    chunk.write_bytes(data)


def truncate(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-3])


def empty(chunk: Path) -> None:
    chunk.write_bytes(b"")


def delete(chunk: Path) -> None:
    chunk.unlink()


DAMAGES = (flip_bit, truncate, empty, delete)


@pytest.mark.parametrize(("array", "damage"), each_in_turn(ARRAYS, DAMAGES, by_name))
def test_verify_finds_every_kind_of_damage_in_every_array(
    store: Path, array: str, damage: Callable[[Path], None]
) -> None:
    chunk = next(
        p for p in sorted((store / "folder/fold1" / array / "c").rglob("*")) if p.is_file()
    )
    damage(chunk)
    found = problems(store)
    assert any(f"fold1/{array}" in problem or "not committed" in problem for problem in found), (
        found
    )


@pytest.mark.parametrize("damage", [flip_bit, truncate, empty, delete])
@pytest.mark.parametrize("array", ["R1/mel", "R3/full"])
def test_a_reader_raises_rather_than_return_damaged_or_fill_values(
    store: Path, array: str, damage: Callable[[Path], None]
) -> None:
    damage(store / "folder/fold1" / array / "c/1/0/0")
    opened = featurestore.open_store(store)
    with pytest.raises(CorruptError, match=rf"fold1/{array}, rows 4 to 8.*featurestore verify"):
        opened.load(array)
    assert len(opened.load("R2/resize")[0]) == 20


def edit_shape(file: Path) -> None:
    text = file.read_text()
    file.write_text(text.replace('"shape": [\n    10', '"shape": [\n    9'))
    assert file.read_text() != text


def cut_short(file: Path) -> None:
    file.write_text(file.read_text()[:40])


@pytest.mark.parametrize(
    ("array", "damage"), each_in_turn(ARRAYS, (edit_shape, cut_short, delete), by_name)
)
def test_verify_finds_metadata_that_is_missing_or_edited(
    store: Path, array: str, damage: Callable[[Path], None]
) -> None:
    damage(store / "folder/fold2" / array / "zarr.json")
    assert problems(store)


@pytest.mark.slow
@pytest.mark.parametrize("array", ARRAYS)
def test_verify_finds_metadata_that_is_damaged_again_and_again(store: Path, array: str) -> None:
    for damage in (edit_shape, cut_short, delete):
        damage(store / "folder/fold2" / array / "zarr.json")
        assert problems(store)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"zarr_format": 3, "node_type": "group"}'])
def test_a_damaged_manifest_is_told_not_guessed(store: Path, text: str) -> None:
    (store / "folder/zarr.json").write_text(text)
    assert problems(store)
    with pytest.raises(StoreError, match="folder"):
        featurestore.open_store(store)


def edit_manifest(store: Path, **changes: object) -> None:
    """Edit it as somebody would who knows how it is signed."""
    file = store / "folder/zarr.json"
    metadata = json.loads(file.read_text())
    attributes = metadata["attributes"] | changes
    attributes["digest"] = digest({k: v for k, v in attributes.items() if k != "digest"})
    file.write_text(json.dumps(metadata | {"attributes": attributes}))


def other_clips() -> dict[str, object]:
    return {"clips_sha256": "0" * 64, "fingerprint": fingerprint(FeatureSpec(), "0" * 64)}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"counts": {"ok": 19}}, "counts: do not add up to the 20 clips"),
        ({"counts": {"ok": 19, "empty": 1}}, "the manifest counts"),
        ({"fingerprint": "0" * 64}, "fingerprint: is not that"),
        (other_clips(), "the clip table is not the one"),
        ({"state": "building"}, "not finished"),
        ({"spec": meaning(FeatureSpec(top_db=50))}, "fingerprint: is not that"),
    ],
)
def test_verify_compares_the_manifest_with_the_rows(
    store: Path, changes: dict[str, object], told: str
) -> None:
    edit_manifest(store, **changes)
    assert told in " ".join(problems(store))


def test_a_whole_store_has_no_problems_also_against_its_sources(
    store: Path, folder: Dataset
) -> None:
    assert problems(store, folder.root) == []
    assert len(list(verify(store))) >= count_parts(store)


def test_a_source_that_changed_after_the_build_is_named(store: Path, folder: Dataset) -> None:
    changed, gone = (folder.root / clip.path for clip in folder.clips[:2])
    changed.write_bytes((folder.root / folder.clips[2].path).read_bytes())
    gone.unlink()
    found = problems(store, folder.root)
    assert len(found) == 2
    assert any(folder.clips[0].path in p and "is not the one" in p for p in found)
    assert any(folder.clips[1].path in p and "does not exist" in p for p in found)


def test_features_that_are_not_the_sources_are_named(store: Path, folder: Dataset) -> None:
    from featurestore.store.arrays import open_arrays
    from featurestore.store.plan import Block

    arrays = open_arrays(store, "folder")
    block = Block(1, 0, 4)
    values = {name: arrays.read(1, name, block.rows).copy() for name in (*OUTCOMES, "R1/mel")}
    values["R1/mel"][2] = 1 - values["R1/mel"][2]
    arrays.write_block(block, values)
    arrays.set_manifest(arrays.manifest)  # vouches for them
    (told,) = problems(store, folder.root)
    assert "R1/mel: stored values differ from the file's" in told


def test_the_manifest_of_another_build_in_place_of_a_stores_own_is_refused(
    folder: Dataset, store: Path, tmp_path: Path
) -> None:
    """It is whole, and fits its own digest."""
    build(folder, tmp_path / "other.zarr", FeatureSpec(hop_length=128))
    (store / "folder/zarr.json").write_bytes(
        (tmp_path / "other.zarr/folder/zarr.json").read_bytes()
    )
    with pytest.raises(CorruptError, match="root's copy of it differ"):
        featurestore.open_store(store)
    assert problems(store)
