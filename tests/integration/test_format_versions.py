"""Versions of the format: each is kept in its own layout; newer, not ours and damaged differ."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import featurestore
from featurestore import cli
from featurestore.building.build import BuildOptions, build
from featurestore.checking.repair import repair
from featurestore.checking.verify import verify
from featurestore.datasets import Dataset, load_dataset
from featurestore.errors import CorruptError, NewerError, NotAStoreError, StoreError
from schemas.store import FORMAT_VERSION
from tests.conftest import contents
from tests.golden.make_v1 import SMALL
from tests.integration.conftest import GOLDEN, told

their_warning = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
SOURCES = {"folder": GOLDEN / "sounds", "esc50": GOLDEN / "esc50"}
BROKEN = {
    "folder": ("fold1/R1/mel/c/0/0/0", "fold2/status/c/0", "fold1/path/c/0", "fold1/zarr.json"),
    "esc50": ("fold1/S/mel/c/0/0/0", "fold2/status/c/0", "zarr.json"),
}


def problems(store: Path) -> list[str]:
    return [problem for found in verify(store) for problem in found]


def edit(document: Path, change: Callable[[Any], None]) -> None:
    values = json.loads(document.read_text())
    change(values)
    document.write_text(json.dumps(values))


@pytest.mark.parametrize("name", SOURCES)
def test_a_damaged_store_of_version_1_is_repaired_to_its_own_bytes(golden: Path, name: str) -> None:
    before = contents(golden)
    assert problems(golden) == []
    for key in BROKEN[name]:
        (golden / name / key).unlink()
    assert problems(golden)
    list(repair(load_dataset(name, SOURCES[name]), golden))
    assert contents(golden) == before


def test_a_build_of_version_1_is_finished_in_version_1(golden: Path, tmp_path: Path) -> None:
    before, original = contents(golden), shutil.copytree(golden, tmp_path / "original")
    dataset = load_dataset("folder", SOURCES["folder"])
    assert build(dataset, golden).num_built == 0
    build(dataset, golden, options=BuildOptions(retry_failed=True))
    after = contents(golden)
    assert after.keys() == before.keys()
    # Another processor's last digits differ, in images alone.
    assert all("/R" in key for key in before if after[key] != before[key])
    one, other = (featurestore.open_store(path, "folder") for path in (golden, original))
    for array in one.arrays:
        np.testing.assert_allclose(one.load(array)[0], other.load(array)[0], atol=2e-3)
    assert build(load_dataset("esc50", SOURCES["esc50"]), golden, SMALL).num_built == 0


def test_a_new_dataset_in_a_store_of_version_1_leaves_the_others_as_they_are(
    golden: Path, folder: Dataset
) -> None:
    before = contents(golden)
    card = folder.card.model_copy(update={"name": "more"})
    build(Dataset(card, folder.root, folder.clips), golden)
    after = contents(golden)
    assert {key: after[key] for key in before if key != "zarr.json"} == {
        key: data for key, data in before.items() if key != "zarr.json"
    }
    root = json.loads(after["zarr.json"])["attributes"]["featurestore"]
    assert root == {"format_version": 2, "datasets": ["esc50", "folder", "more"]}
    assert problems(golden) == []
    assert featurestore.open_store(golden, "more").manifest.format_version == 2


def newer_mark(store: Path) -> None:
    newer = {"format_version": FORMAT_VERSION + 1}
    edit(store / "zarr.json", lambda v: v["attributes"]["featurestore"].update(newer))


def newer_manifest(store: Path) -> None:
    edit(
        store / "folder/zarr.json",
        lambda v: v["attributes"].update(format_version=FORMAT_VERSION + 1),
    )


def newer_everything(store: Path) -> None:
    for document in store.rglob("zarr.json"):
        text = document.read_text().replace('"format_version": 2', '"format_version": 77')
        document.write_text(text)


def not_ours(store: Path) -> None:
    for key in store.iterdir():
        key.rename(store.parent / key.name)
    zarr.create_group(store / "theirs").create_array("x", shape=(2,), dtype="int8")[:] = 1
    zarr.create_group(store)


def damaged(store: Path) -> None:
    (store / "zarr.json").write_text("{")
    (store / "folder/zarr.json").write_text("{")


def marked_wrongly(store: Path) -> None:
    edit(store / "zarr.json", lambda v: v["attributes"]["featurestore"].update(format_version=0))
    edit(store / "folder/zarr.json", lambda v: v["attributes"].update(format_version=-1))


@pytest.mark.parametrize(
    ("spoil", "answer", "words"),
    [
        (newer_mark, NewerError, "newer version"),
        (newer_manifest, NewerError, "newer version"),
        (newer_everything, NewerError, "newer version"),
        (not_ours, NotAStoreError, "not a feature store"),
        (damaged, CorruptError, "damaged"),
        (marked_wrongly, CorruptError, "damaged"),
    ],
)
def test_newer_not_ours_and_damaged_are_three_answers_in_every_command(
    store: Path,
    folder: Dataset,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    answer: type[StoreError],
    words: str,
) -> None:
    spoil(store)
    before = contents(store)
    root = ("--root", str(folder.root))
    building = ("build", "--dataset", "folder", *root, "--workers", "0", "--store")
    with pytest.raises(answer, match=words):
        featurestore.open_store(store)
    commands: list[tuple[str, ...]] = [("info",), ("plot", "--clip", "x"), building]
    if answer is not CorruptError:
        commands += [("verify",), ("repair", "--dataset", "folder", *root)]
    for command in commands:
        line = told(capsys, *command, str(store))
        assert words in line, command
        assert "install the version" in line or answer is not NewerError
        assert "repair" not in line or answer is CorruptError
    assert contents(store) == before, "something was written"
    if answer is CorruptError:
        assert cli.main(["verify", str(store)]) == 1
        assert words in capsys.readouterr().out


@their_warning
def test_what_other_tools_add_is_no_damage_and_is_kept(store: Path, folder: Dataset) -> None:
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    group.attrs["note"] = "theirs"
    group.create_group("embeddings").create_array("x", shape=(3,), dtype="f4")[:] = 1
    group["folder"].attrs["note"] = {"by": "them"}
    group["folder/fold1"].create_array("loudness", shape=(10,), dtype="f4")[:] = 1
    group["folder/fold1"].attrs["note"] = 1
    group["folder/fold1/R1/mel"].attrs["units"] = "none"
    for document in store.rglob("zarr.json"):
        text = json.dumps(json.loads(document.read_text()), sort_keys=True)
        document.write_text(text)
    zarr.consolidate_metadata(store)
    assert problems(store) == []
    assert list(repair(folder, store)) == []
    assert len(featurestore.open_store(store).load("R1/mel")[0]) == 20
    edit(store / "zarr.json", lambda v: v["consolidated_metadata"]["metadata"].pop("folder"))
    edit(store / "folder/zarr.json", lambda v: v.update(node_type="array"))
    edit(store / "folder/fold1/R1/mel/zarr.json", lambda v: v.update(shape=[9, 64, 128]))
    assert len(list(repair(folder, store))) == 3
    assert problems(store) == []
    assert zarr.open_group(store, mode="r")["folder/fold1/R1/mel"].attrs["units"] == "none"
    group = zarr.open_group(store, mode="r", use_consolidated=False)
    assert group.attrs["note"] == "theirs"
    assert group["folder"].attrs["note"] == {"by": "them"}
    assert group["folder/fold1/R1/mel"].attrs["units"] == "none"
    assert group["embeddings/x"][0] == group["folder/fold1/loudness"][0] == 1


@their_warning
def test_additions_survive_a_build_of_another_dataset(store: Path, folder: Dataset) -> None:
    zarr.open_group(store, mode="r+").attrs["note"] = "theirs"
    zarr.consolidate_metadata(store)
    card = folder.card.model_copy(update={"name": "more"})
    build(Dataset(card, folder.root, folder.clips[:6]), store)
    assert zarr.open_group(store, mode="r").attrs["note"] == "theirs"
    assert problems(store) == []


def test_a_scale_factor_that_was_added_changes_what_the_values_mean(store: Path) -> None:
    file = store / "folder/fold1/R1/mel/zarr.json"
    edit(file, lambda v: v["attributes"].update(scale_factor=0.5))
    assert any("R1/mel/zarr.json" in problem for problem in problems(store))


_ANOTHER_FIELD = """
import sys
from pathlib import Path
import schemas.features as features
text = Path(features.__file__).read_text()
text = text.replace('    pad_ms: A', '    fade_ms: float = 0.0\\n    pad_ms: A')
text = text.replace('    n_mels: Positive\\n', '    n_mels: Positive\\n    offset: int = 0\\n')
text = text.replace('    n_fft: A', '    emphasis: Literal["none", "some"] = "none"\\n    n_fft: A')
exec(compile(text, "features", "exec"), features.__dict__)
import schemas.store as store
text = Path(store.__file__).read_text()
text = text.replace('    source: str = ""', '    source: str = ""\\n    weight: float = 1.0')
text = text.replace('    citation: str\\n', '    citation: str\\n    doi: str = ""\\n')
exec(compile(text, "store", "exec"), store.__dict__)
import schemas
for module in (features, store):
    for name in vars(schemas).keys() & vars(module).keys():
        if not name.startswith("__"):
            setattr(schemas, name, getattr(module, name))
import featurestore
from featurestore.building.build import build
from featurestore.checking.repair import repair
from featurestore.checking.verify import verify
from featurestore.datasets import load_dataset
from featurestore.errors import FingerprintError
assert "emphasis" in schemas.FeatureSpec.model_fields
for place, root in zip(sys.argv[1::2], sys.argv[2::2]):
    dataset = load_dataset("folder", Path(root))
    assert featurestore.open_store(place, "folder").manifest.spec.emphasis == "none"
    assert [p for found in verify(place, "folder") for p in found] == []
    assert build(dataset, place).num_built == 0
    assert list(repair(dataset, place)) == []
    try:
        build(dataset, place, schemas.FeatureSpec(emphasis="some"))
    except FingerprintError as error:
        print(error)
"""


def test_fields_with_defaults_that_are_added_to_the_schemas_condemn_no_store(
    golden: Path, store: Path, sounds: Path
) -> None:
    places = map(str, (golden, SOURCES["folder"], store, sounds))
    command = [sys.executable, "-c", _ANOTHER_FIELD, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("emphasis is none, asked for some") == 2


def test_settings_that_only_a_newer_version_knows_are_told_as_such(store: Path) -> None:
    from featurestore.store.fingerprint import digest

    def extend(document: Any) -> None:
        attributes = document["attributes"]
        attributes["spec"]["emphasis"] = 0.97
        del attributes["digest"]
        attributes["digest"] = digest(attributes)

    edit(store / "folder/zarr.json", extend)
    with pytest.raises(NewerError, match=r"spec\.emphasis.*install the version that made it"):
        featurestore.open_store(store)
    edit(store / "folder/zarr.json", lambda v: v["attributes"]["spec"].update(emphasis=1))
    with pytest.raises(CorruptError, match=r"spec\.emphasis"):
        featurestore.open_store(store)
