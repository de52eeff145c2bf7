"""A store as a pandas table, an xarray tree and a PyTorch dataset."""

import shutil
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

import featurestore
from featurestore.building.build import build
from featurestore.datasets import load_dataset
from featurestore.errors import CorruptError, MissingLibraryError, UnknownNameError
from featurestore.extraction.spec import spec_of
from featurestore.store.frames import TORCH_GROUP
from featurestore.store.reader import StoredDataset
from schemas import ClipStatus, FeatureSpec
from tests.conftest import four_clips_a_block, write_folder

SPEC = {
    "resolutions": [
        {"name": "R1", "n_mels": 16, "num_frames": 16},
        {"name": "R2", "n_mels": 24, "num_frames": 24},
        {"name": "R3", "n_mels": 32, "num_frames": 40},
    ],
    "variants": ["mel", "resize", "mel-bands", "mel-time", "resize-area"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of twenty clips, one of which failed; blocks of four. Not to be changed."""
    place = tmp_path_factory.mktemp("conversions")
    root = write_folder(place / "sounds")
    (root / "fold1/low/low2.wav").write_text("no sound")
    with pytest.MonkeyPatch.context() as patch:
        four_clips_a_block(patch)
        build(load_dataset("folder", root), place / "s.zarr", spec_of(SPEC))
    return place / "s.zarr"


@pytest.fixture
def store(place: Path) -> StoredDataset:
    return featurestore.open_store(place)


class StoppedError(Exception):
    """Raised to stop a build at some block."""


@pytest.fixture(scope="module")
def unfinished(place: Path) -> Path:
    """An unfinished copy of the store, with two blocks built."""

    class Watch:
        committed_blocks = 0

        def started(self, manifest: object, num_done: int) -> None:
            pass

        def committed(self, outcome: object) -> None:
            self.committed_blocks += 1
            if self.committed_blocks == 2:
                raise StoppedError

    with pytest.MonkeyPatch.context() as patch, suppress(StoppedError):
        four_clips_a_block(patch)
        build(
            load_dataset("folder", place.parent / "sounds"),
            place.parent / "half.zarr",
            spec_of(SPEC),
            observer=Watch(),
        )
    return place.parent / "half.zarr"


def test_the_table_has_every_clip_and_those_with_features_in_the_order_of_read(
    store: StoredDataset,
) -> None:
    frame = store.to_pandas()
    assert len(frame) == 20
    assert frame["status"].value_counts()["ok"] == 19
    (failed,) = frame[frame["status"] != "ok"].itertuples()
    assert (failed.path, failed.status) == ("fold1/low/low2.wav", "unreadable")
    ok = frame[frame["status"] == "ok"]
    _, labels = store.read("R1/mel")
    np.testing.assert_array_equal(ok["class_id"], labels)
    assert list(ok["class_name"]) == [store.class_names[label] for label in labels]
    assert list(ok["clip_id"]) == list(store.clips().clip_id)
    assert frame["split"].isna().all()
    assert list(store.to_pandas([2])["fold"].unique()) == [2]


def test_the_table_names_official_splits(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "sounds", clips_a_class=1)
    for number, split in enumerate(("train", "test"), start=1):
        (root / f"fold{number}").rename(root / split)
    built = featurestore.build(
        root, tmp_path / "s.zarr", spec=SPEC, workers=0, progress=False
    ).store
    frame = built.to_pandas()
    assert {path.split("/")[0] for path in frame["path"]} == {"train", "test"}
    assert list(frame["split"]) == [path.split("/")[0] for path in frame["path"]]


@pytest.mark.parametrize("array", spec_of(SPEC).arrays)
def test_the_tree_has_every_array_with_the_values_of_read(array: str, store: StoredDataset) -> None:
    node = store.to_xarray()[array]
    values = node.features
    assert values.dims == ("clip", "band", "frame")
    assert values.dtype == np.float32
    assert values.shape == (20, *store.shape(array))
    assert values.chunks[0] == (4, 4, 2, 4, 4, 2)
    ok = node.status.values == "ok"
    np.testing.assert_array_equal(values[ok].values, store.read(array)[0])
    assert np.isnan(values[~ok].values).all()
    assert list(node.clip.values) == list(store.to_pandas()["clip_id"])


def test_a_selection_of_the_tree_equals_the_same_of_its_values(store: StoredDataset) -> None:
    node = store.to_xarray(arrays=["R1/mel"])["R1/mel"].to_dataset()
    whole = node.features.values
    selections: list[dict[str, Any]] = [
        {"clip": slice(3, 17, 5)},
        {"clip": [19, 0, 7, 7]},
        {"clip": 11},
        {"clip": slice(None, None, -1), "band": slice(2, 5)},
        {"band": 3, "frame": [1, 0]},
    ]
    for chosen in selections:
        expected = xarray.DataArray(whole, dims=("clip", "band", "frame")).isel(chosen)
        np.testing.assert_array_equal(node.features.isel(chosen).values, expected.values)
    means = node.features.mean(("band", "frame")).groupby(node.class_name).mean()
    assert list(means.class_name.values) == ["high", "low"]


def test_opening_the_tree_reads_no_image_and_a_selection_only_its_blocks(
    place: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(place, tmp_path / "s.zarr")
    (chunk,) = copy.glob("folder/fold1/R1/mel/c/0/0/0")
    chunk.write_bytes(b"damaged")
    features = featurestore.open_store(copy).to_xarray()["R1/mel"].features
    assert np.isfinite(features[4:8].values).any()
    with pytest.raises(CorruptError, match="fold1/R1/mel"):
        features[:4].compute()


def test_clips_that_are_not_built_yet_are_nan_and_said_to_be_pending(unfinished: Path) -> None:
    store = featurestore.open_store(unfinished, committed_only=True)
    frame = store.to_pandas()
    assert frame["status"].value_counts()["pending"] == 12
    node = store.to_xarray()["R2/resize"]
    pending = node.status.values == "pending"
    assert list(pending) == list(frame["status"] == "pending")
    assert np.isnan(node.features.values[pending]).all()
    assert np.isfinite(node.features.values[node.status.values == "ok"]).all()


def test_bands_and_frames_are_where_the_extractor_puts_a_tone(tmp_path: Path) -> None:
    """A tone's loudest band is the one whose centre is nearest to it."""
    import soundfile

    seconds = np.arange(4 * 22_050) / 22_050
    for fold in (1, 2):
        (tmp_path / f"sounds/fold{fold}/tone").mkdir(parents=True)
        for hz in (500, 1500, 5000):
            path = tmp_path / f"sounds/fold{fold}/tone/{hz}.wav"
            soundfile.write(path, 0.5 * np.sin(2 * np.pi * hz * seconds), 22_050)
    for scale in ("htk", "slaney", "torchaudio-2019"):
        spec = {"mel_scale": scale, "variants": ["mel", "resize"]}
        built = featurestore.build(
            tmp_path / "sounds", tmp_path / f"{scale}.zarr", spec=spec, workers=0, progress=False
        )
        for array in ("R1/mel", "R1/resize", "R3/full"):
            node = built.store.to_xarray()[array]
            for clip, path in zip(node.features, node["path"].values, strict=True):
                hz = float(path.split("/")[-1].removesuffix(".wav"))
                loudest = int(clip.mean("frame").argmax("band"))
                nearest = int(np.abs(node.band_hz.values - hz).argmin())
                assert abs(loudest - nearest) <= 1, (scale, array, hz)


def test_frames_of_images_that_are_cut_or_resized_are_in_seconds(store: StoredDataset) -> None:
    tree, spec = store.to_xarray(), FeatureSpec()
    hop = spec.hop_length / spec.sample_rate
    np.testing.assert_allclose(tree["R1/mel"].frame_s, np.arange(16) * hop)
    np.testing.assert_allclose(tree["R3/full"].frame_s, np.arange(40) * hop)
    resized = tree["R1/resize"].frame_s.values
    np.testing.assert_allclose(np.diff(resized), 40 / 16 * hop)
    assert resized.mean() == pytest.approx(tree["R3/full"].frame_s.values.mean())
    full = tree["R3/full"].band_hz.values
    np.testing.assert_allclose(tree["R1/mel-time"].band_hz, full)
    assert full[0] <= tree["R1/resize"].band_hz[0] < tree["R1/resize"].band_hz[-1] <= full[-1]


@pytest.mark.skipif(
    not entry_points(group=TORCH_GROUP),
    reason="installed before pyproject.toml named the trainer's dataset: make install",
)
def test_the_torch_dataset_is_the_trainers_own(store: StoredDataset) -> None:
    from trainer import ZarrDataset

    data = store.torch_dataset("R1/mel", folds=[2], cache_blocks=2)
    assert type(data) is ZarrDataset
    images, labels = store.read("R1/mel", [2])
    np.testing.assert_array_equal(data[:][0].numpy()[:, 0], images)
    np.testing.assert_array_equal(data.labels, labels)
    with pytest.raises(UnknownNameError, match="R9"):
        store.torch_dataset("R9/mel")


@pytest.mark.parametrize(
    ("library", "call", "what"),
    [
        ("pandas", lambda store: store.to_pandas(), r"pandas.*featurestore\[analysis\]"),
        ("xarray", lambda store: store.to_xarray(), r"xarray.*featurestore\[analysis\]"),
        ("trainer", lambda store: store.torch_dataset("R1/mel"), r"featurestore\[trainer\]"),
    ],
)
def test_a_library_that_is_absent_is_named_with_how_to_get_it(
    library: str, call: Any, what: str, store: StoredDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match=what):
        call(store)


def test_every_outcome_of_a_clip_has_a_name_in_the_table(store: StoredDataset) -> None:
    assert list(store.to_pandas()["status"].cat.categories) == [s.name.lower() for s in ClipStatus]


def test_the_table_of_clips_of_several_labels_names_them_all(place: Path, tmp_path: Path) -> None:
    root = place.parent / "sounds"
    files = sorted(str(f.relative_to(root)) for f in (root / "fold2").rglob("*.*"))[:4]
    files.append("fold1/low/low2.wav")  # no sound
    table = {"path": files, "labels": ["a;b", "b", "", "a", "b"]}
    with pytest.warns(featurestore.FeatureStoreWarning, match="15 sounds that the table does not"):
        store = featurestore.build(
            table, tmp_path / "m.zarr", root=root, spec=SPEC, workers=0, progress=False
        ).store
    frame = store.to_pandas().set_index("path").loc[files]
    assert list(frame["labels"])[:4] == [("a", "b"), ("b",), (), ("a",)]
    assert frame["labels"].iloc[4] is None
    assert store.to_xarray()["R1/mel"].sizes["clip"] == 5
