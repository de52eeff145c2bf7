"""Stores that were made to harm: an error of ours in one line, before anything large is made."""

import json
import resource
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featurestore
from featurestore import cli
from featurestore.errors import CorruptError, FeatureStoreError
from featurestore.store.chunks import encode_chunk
from featurestore.store.fingerprint import digest
from tests.conftest import contents
from tests.integration.conftest import GOLDEN, the_error

Change = Callable[[Any], object]


def edit(file: Path, change: Change) -> None:
    """Change the JSON of a file; a change that returns something replaces all."""
    values = json.loads(file.read_text())
    replaced = change(values)
    file.write_text(json.dumps(values if replaced is None else replaced))


def sign(store: Path, dataset: str = "folder") -> None:
    """Make an edited manifest fit its digest, as whoever means harm would, in both places."""
    file = store / dataset / "zarr.json"
    attributes = json.loads(file.read_text())["attributes"]
    if attributes["format_version"] != 1:
        attributes["digest"] = digest({k: v for k, v in attributes.items() if k != "digest"})
    edit(file, lambda v: v.update(attributes=attributes))

    def copy(root: Any) -> None:
        root["consolidated_metadata"]["metadata"][dataset]["attributes"] = attributes

    edit(store / "zarr.json", copy)


def write_chunk(file: Path, values: Any, dtype: str, size: int) -> None:
    file.write_bytes(encode_chunk(np.array(values, dtype), size, 0))


LABELS = {
    "a label of no class": (
        "class_id",
        [0, 1, 9999, 0],
        "int32",
        "class_id 9999 is outside 0 to 1",
    ),
    "a negative label": ("class_id", [0, 1, -100, 0], "int32", "class_id -100 is outside 0 to 1"),
    "labels as float": ("class_id", [0, np.nan, 1.9, 0], "float32", "outside 0 to 1"),
    "labels as int64": ("class_id", [0, 1, 0, 0], "int64", "52 bytes, where at most 36"),
    "labels of the other end": ("class_id", [0, 1, 1, 0], ">i4", "class_id 16777216"),
    "an outcome that is none": ("status", [1, 1, 77, 1] + [0] * 28, "uint8", "status 77"),
    "an outcome that is pending": ("status", [1, 0, 1, 1] + [0] * 28, "uint8", "not committed"),
}


@pytest.mark.parametrize("what", LABELS)
def test_an_impossible_value_in_a_table_is_damage(golden: Path, what: str) -> None:
    name, values, dtype, told = LABELS[what]
    write_chunk(golden / f"folder/fold1/{name}/c/0", values, dtype, len(values))
    with pytest.raises(CorruptError, match=told):
        featurestore.open_store(golden, "folder").load("R1/mel")
    assert cli.main(["verify", str(golden)]) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, 60_000, -0.5, 1.001])
def test_a_feature_outside_0_to_1_is_damage(golden: Path, value: float) -> None:
    images = np.zeros((32, 64, 128), np.float16)
    file = golden / "folder/fold1/R1/mel/c/0/0/0"
    for position in ((0, 0, 0), (3, 63, 127)):
        spoilt = images.copy()
        spoilt[position] = value
        file.write_bytes(encode_chunk(spoilt, 32, 0))
        with pytest.raises(CorruptError, match=r"outside \[0, 1\]"):
            featurestore.open_store(golden, "folder").load("R1/mel")
    images[0] = -0.0
    images[1] = 1
    file.write_bytes(encode_chunk(images, 32, 0))
    assert len(featurestore.open_store(golden, "folder").load("R1/mel")[0]) == 8


def test_every_document_must_be_what_the_manifest_demands(golden: Path) -> None:
    changes: list[Change] = [
        lambda v: v.update(data_type="float64"),
        lambda v: v.update(shape=[4_000_000]),
        lambda v: v["chunk_grid"]["configuration"].update(chunk_shape=[0]),
        lambda v: v.update(fill_value=1),
        lambda v: v["codecs"].pop(),
        lambda v: v["codecs"].insert(0, {"name": "transpose", "configuration": {"order": [0]}}),
        lambda v: v.update(attributes=None),
        lambda v: [v],
    ]
    for array in ("class_id", "clip_id", "status", "peak", "R1/mel"):
        file = golden / "folder/fold1" / array / "zarr.json"
        before = file.read_text()
        for change in changes:
            edit(file, change)
            with pytest.raises(CorruptError, match=f"fold1/{array}/zarr.json"):
                read(golden)
            file.write_text(before)


def test_a_chunk_that_would_fill_the_memory_is_refused_before_it_is_decoded(golden: Path) -> None:
    bomb = np.zeros(2**28, np.uint8)
    for name in ("clip_id", "path", "class_id", "status"):
        file = golden / f"folder/fold1/{name}/c/0"
        before = file.read_bytes()
        file.write_bytes(encode_chunk(bomb, len(bomb), 0))
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(CorruptError, match=r"268435456 bytes, expected|where at most"):
            featurestore.open_store(golden, "folder").clips()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 50_000
        file.write_bytes(before)


def read(store: Path) -> None:
    featurestore.open_store(store, "folder").load("R1/mel")


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


ROOTS: dict[str, str | bytes] = {
    "nothing": "",
    "no JSON": "{",
    "a list": "[]",
    "null": "null",
    "a BOM": b'\xef\xbb\xbf{"zarr_format": 3}',
    "no UTF-8": b'{"zarr_format": 3, "\xff": 1}',
    "UTF-16": '{"zarr_format": 3}'.encode("utf-16"),
    "nested": '{"zarr_format": 3, "attributes": ' + nested(100_000) + "}",
    "a number of 6,000 digits": '{"zarr_format": ' + "9" * 6000 + "}",
    "Zarr 2": '{"zarr_format": 2}',
}
EDITS: dict[str, Change] = {
    "attributes null": lambda v: v.update(attributes=None),
    "attributes a list": lambda v: v.update(attributes=[1]),
    "no attributes": lambda v: v.pop("attributes") and None,
}
ROOT_EDITS: dict[str, Change] = EDITS | {
    "mark a list": lambda v: v["attributes"].update(featurestore=[]),
    "mark null": lambda v: v["attributes"].update(featurestore=None),
    "datasets null": lambda v: v["attributes"]["featurestore"].update(datasets=None),
    "datasets numbers": lambda v: v["attributes"]["featurestore"].update(datasets=[1]),
    "datasets outside": lambda v: v["attributes"]["featurestore"].update(datasets=["../x"]),
    "datasets twice": lambda v: v["attributes"]["featurestore"].update(datasets=["folder"] * 2),
    "version true": lambda v: v["attributes"]["featurestore"].update(format_version=True),
    "version text": lambda v: v["attributes"]["featurestore"].update(format_version="1"),
}


def manifest(**changes: object) -> Change:
    return lambda v: v["attributes"].update(changes)


def in_spec(**changes: object) -> Change:
    return lambda v: v["attributes"]["spec"].update(changes)


MANIFEST_EDITS: dict[str, Change] = EDITS | {
    "folds null": manifest(folds=None),
    "folds empty": manifest(folds=[]),
    "a fold twice": lambda v: v["attributes"].update(folds=v["attributes"]["folds"][:1] * 2),
    "a fold a list": manifest(folds=[[1, 2]]),
    "a huge fold": manifest(folds=[{"fold": 1, "num_clips": 10**12}], num_clips=10**12),
    "a billion chunks": manifest(
        folds=[{"fold": 1, "num_clips": 10**9}], num_clips=10**9, chunk_clips=1, block_clips=1
    ),
    "a fold outside": manifest(folds=[{"fold": -1, "num_clips": 9}]),
    "chunks of nothing": manifest(chunk_clips=0),
    "chunks of too much": manifest(chunk_clips=2**17, block_clips=2**17),
    "blocks that are no chunks": manifest(block_clips=33),
    "clips as text": manifest(num_clips="9"),
    "clips true": manifest(num_clips=True),
    "another sum": manifest(num_clips=10),
    "counts of nothing": manifest(counts={"ok": -1}),
    "counts unknown": manifest(counts={"good": 9}),
    "spec null": manifest(spec=None),
    "spec a list": manifest(spec=[]),
    "a huge image": in_spec(
        resolutions=[{"name": "R1", "n_mels": 64, "num_frames": 2_000_000_000}]
    ),
    "resolutions outside": in_spec(
        resolutions=[{"name": "../../x", "n_mels": 64, "num_frames": 10}]
    ),
    "a name outside": lambda v: v["attributes"]["card"].update(name="../folder"),
    "another's name": lambda v: v["attributes"]["card"].update(name="esc50"),
    "a missing field": lambda v: v["attributes"].pop("state") and None,
    "an order beyond": manifest(order_seed=2**70),
    "libraries null": manifest(libraries=None),
    "state": manifest(state="done"),
}


def run_all(store: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    """Every command ends with one line of ours, and `repair` repairs it."""
    root = ("--root", str(GOLDEN / "sounds"))
    building = ("build", "--dataset", "folder", *root, "--workers", "0", "--store", str(store))
    for command in (
        ("info", str(store)),
        ("plot", str(store), "--dataset", "folder", "--clip", "x"),
        building,
    ):
        assert cli.main(command) == 1, (what, command)
        assert len(the_error(capsys)) < 1500
    assert cli.main(("verify", str(store))) == 1, what
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    assert cli.main(("repair", str(store), "--dataset", "folder", *root)) == 0, what
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("key", ["zarr.json", "folder/zarr.json"])
def test_a_document_of_any_contents_is_one_error_of_ours(golden: Path, key: str) -> None:
    whole = (golden / key).read_bytes()
    for what, spoil in spoilers(key).items():
        spoil(golden / key)
        with pytest.raises(CorruptError) as caught:
            featurestore.open_store(golden, "folder")
        assert "\n" not in str(caught.value), what
        assert len(str(caught.value)) < 1000, what
        (golden / key).write_bytes(whole)


def spoilers(key: str) -> dict[str, Callable[[Path], object]]:
    written = {what: partial(write, text) for what, text in ROOTS.items()}
    edits = ROOT_EDITS if key == "zarr.json" else EDITS
    edited = {what: partial(edit, change=change) for what, change in edits.items()}
    return {**written, **edited}


def write(text: str | bytes, file: Path) -> None:
    file.write_bytes(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("key", ["zarr.json", "folder/zarr.json"])
def test_every_command_has_one_line_for_a_spoilt_document_and_repair_mends_it(
    golden: Path, capsys: pytest.CaptureFixture[str], key: str, step: int
) -> None:
    whole = contents(golden)
    for what, spoil in [*spoilers(key).items()][::step]:
        spoil(golden / key)
        run_all(golden, capsys, what)
        assert contents(golden) == whole, what


@pytest.mark.parametrize("version", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_manifest_of_any_values_is_one_error(
    golden: Path, store: Path, capsys: pytest.CaptureFixture[str], version: int
) -> None:
    place = (golden, store)[version - 1]
    before = contents(place)
    for what, change in MANIFEST_EDITS.items():
        file = place / "folder/zarr.json"
        edit(file, change)
        if "attributes" not in what:
            sign(place)
        with pytest.raises(FeatureStoreError) as caught:
            featurestore.open_store(place, "folder")
        assert "\n" not in str(caught.value), what
        assert len(str(caught.value)) < 1000
        assert cli.main(["verify", str(place), "--dataset", "folder"]) == 1, what
        assert "Traceback" not in capsys.readouterr().err
        for key in ("zarr.json", "folder/zarr.json"):
            (place / key).write_bytes(before[key])


def test_a_store_in_the_place_of_another_is_not_read(golden: Path, store: Path) -> None:
    """The manifest of one, the chunks of another."""
    for key in ("folder/zarr.json", "zarr.json"):
        shutil.copy(golden / key, store / key)
    with pytest.raises(FeatureStoreError):
        featurestore.open_store(store, "folder").load("R1/mel")
