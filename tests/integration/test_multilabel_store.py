"""A store of clips with several labels, or none: built, read, verified, repaired."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import zarr
from torch.utils.data import DataLoader

import featurestore
from featurestore import cli
from featurestore.building.build import build
from featurestore.checking.repair import repair
from featurestore.checking.verify import verify
from featurestore.datasets import Dataset
from featurestore.datasets.collection import load_collection
from featurestore.errors import CorruptError
from featurestore.store.values import check_primary, check_values
from schemas import FeatureSpec, Resolution
from tests.conftest import contents, sound
from trainer import ZarrDataset

SPEC = FeatureSpec(resolutions=(Resolution(name="R1", n_mels=8, num_frames=8),), variants=())
LABELS = ("owl;tit", "", "tit", "owl", "owl;jay;tit", "jay")


@pytest.fixture
def birds(tmp_path: Path) -> Dataset:
    """Two folds of six clips; the last clip of each is no sound."""
    rows = ["path,labels,fold"]
    for fold in (1, 2):
        for number, cell in enumerate(LABELS):
            path = tmp_path / "birds" / f"{fold}-{number}.wav"
            path.parent.mkdir(exist_ok=True)
            if number < len(LABELS) - 1:
                soundfile.write(path, sound(number, 1.0, 22_050), 22_050)
            else:
                path.write_bytes(b"no sound")
            rows.append(f"{path.name},{cell},{fold}")
    (tmp_path / "birds" / "clips.csv").write_text("\n".join(rows))
    return load_collection(tmp_path / "birds")


def problems(store: Path, root: Path | None = None) -> list[str]:
    return [problem for part in verify(store, root=root) for problem in part]


def test_labels_are_stored_multi_hot_and_read_as_they_were_listed(
    birds: Dataset, tmp_path: Path
) -> None:
    build(birds, tmp_path / "s.zarr", SPEC)
    store = featurestore.open_store(tmp_path / "s.zarr")
    assert (store.manifest.format_version, store.multilabel) == (3, True)
    assert store.class_names == ("jay", "owl", "tit")
    clips, labels = store.clips(), store.all_labels()
    assert labels.dtype == np.uint8
    named = {
        name: ";".join(np.array(store.class_names)[row > 0])
        for name, row in zip(clips.clip_id, labels, strict=True)
    }
    expected = {f"{fold}-{n}.wav": ";".join(sorted(filter(None, LABELS[n].split(";"))))
                for fold in (1, 2) for n in range(5)}  # fmt: skip
    assert named == expected
    assert dict(zip(clips.clip_id, clips.class_id, strict=True))["1-2.wav"] == 2
    assert dict(zip(clips.clip_id, clips.class_id, strict=True))["1-0.wav"] == -1
    images, read = store.read("R1/full", [2])
    assert len(images) == len(read) == 5
    array = zarr.open_array(tmp_path / "s.zarr" / "birds" / "fold1" / "labels", mode="r")
    assert array.shape == (6, 3)
    assert array.metadata.dimension_names == ("clip", "class")


def test_damage_of_the_labels_is_found_in_every_byte_and_repaired(
    birds: Dataset, tmp_path: Path
) -> None:
    store = tmp_path / "s.zarr"
    build(birds, store, SPEC)
    assert problems(store, birds.root) == []
    before = contents(store)
    chunk = store / "birds" / "fold1" / "labels" / "c" / "0" / "0"
    data = chunk.read_bytes()
    for at in range(0, len(data), 5):
        chunk.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(CorruptError):
            featurestore.open_store(store).all_labels()
    assert problems(store)
    list(repair(birds, store))
    assert contents(store) == before
    chunk.write_bytes((store / "birds" / "fold2" / "labels" / "c" / "0" / "0").read_bytes())
    assert any("labels" in problem for problem in problems(store))


def test_labels_that_no_build_writes_are_refused(birds: Dataset, tmp_path: Path) -> None:
    build(birds, tmp_path / "s.zarr", SPEC)
    manifest = featurestore.open_store(tmp_path / "s.zarr").manifest
    with pytest.raises(CorruptError, match="labels 2 is outside 0 to 1"):
        check_values("labels", np.array([[0, 2, 0]], np.uint8), manifest)
    with pytest.raises(CorruptError, match="class_id -2 is outside -1 to 2"):
        check_values("class_id", np.array([-2], np.int32), manifest)
    with pytest.raises(CorruptError, match="not among its labels"):
        check_primary(np.array([-1, 1]), np.array([[0, 0, 0], [1, 0, 1]], np.uint8))


def test_other_labels_are_other_clips_and_not_built_into_the_same_store(
    birds: Dataset, tmp_path: Path
) -> None:
    build(birds, tmp_path / "s.zarr", SPEC)
    table = birds.root / "clips.csv"
    table.write_text(table.read_text().replace("owl;jay;tit", "owl;jay"))
    with pytest.raises(featurestore.errors.FingerprintError, match="class or source"):
        build(load_collection(birds.root), tmp_path / "s.zarr", SPEC)


def test_info_counts_the_clips_of_each_class(
    birds: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(birds, tmp_path / "s.zarr", SPEC)
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "s.zarr"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["datasets"]["birds"]
    assert found["clips_by_class"] == {"jay": 4, "owl": 6, "tit": 6}
    assert cli.main(["info", str(tmp_path / "s.zarr")]) == 0
    assert "several per clip, or none" in capsys.readouterr().out


def test_zarr_dataset_gives_images_with_multi_hot_labels(birds: Dataset, tmp_path: Path) -> None:
    build(birds, tmp_path / "s.zarr", SPEC)
    store = featurestore.open_store(tmp_path / "s.zarr")
    data = ZarrDataset(tmp_path / "s.zarr", "R1/full", folds=[2])
    images, labels = data[:]
    assert labels.dtype == torch.float32
    assert np.array_equal(labels.numpy(), store.all_labels([2]))
    assert np.array_equal(images.numpy()[:, 0], store.read("R1/full", [2])[0])
    one = data[3][1]
    assert torch.equal(one, labels[3])
    (_, stacked), *_ = DataLoader(data, batch_size=5)
    assert torch.equal(stacked, labels)
