"""The available datasets: where each is looked for, and the error when it is not there."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from featurestore.datasets import DATASETS, find_root, load_dataset
from featurestore.errors import DatasetError, DatasetNotFoundError
from tests.permissions import permissions_hold

US8K_TABLE = """slice_file_name,fsID,start,end,salience,fold,classID,class
100032-3-0-0.wav,100032,0.0,0.3,1,5,3,dog_bark
100263-2-0-117.wav,100263,58.5,62.5,1,10,2,children_playing
"""
ESC_TABLE = """filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,True,100032,A
1-100038-A-14.wav,1,14,chirping_birds,False,100038,A
2-18766-A-12.wav,2,12,crackling_fire,True,18766,A
"""


def make_us8k(root: Path) -> Path:
    (root / "audio").mkdir(parents=True)
    (root / "metadata").mkdir()
    (root / "metadata" / "UrbanSound8K.csv").write_text(US8K_TABLE)
    return root


def make_esc(root: Path) -> Path:
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text(ESC_TABLE)
    return root


@pytest.fixture(autouse=True)
def _empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATURESTORE_DATA", raising=False)


def test_each_dataset_has_its_default_store() -> None:
    assert {name: kind.default_store for name, kind in DATASETS.items()} == {
        "urbansound8k": "./us8k.zarr",
        "esc50": "./esc50.zarr",
        "esc10": "./esc10.zarr",
        "fsdnoisy18k": "./fsdnoisy18k.zarr",
        "tau_scenes": "./tau_scenes.zarr",
        "speech_commands": "./speech_commands.zarr",
        "gtzan": "./gtzan.zarr",
        "fsd50k": "./fsd50k.zarr",
        "birdset": "./birdset.zarr",
        "synthetic": "./synthetic.zarr",
        "folder": "./folder.zarr",
    }
    assert all(kind.name == name for name, kind in DATASETS.items())
    assert all(kind.summary and "\n" not in kind.summary for kind in DATASETS.values())


def test_a_clip_of_urbansound8k_lies_in_its_folds_directory(tmp_path: Path) -> None:
    dataset = load_dataset("urbansound8k", make_us8k(tmp_path / "any"))
    first, second = dataset.clips
    assert first.clip_id == "100032-3-0-0.wav"
    assert first.path == "audio/fold5/100032-3-0-0.wav"
    assert (first.fold, first.class_id, first.source) == (5, 3, "100032")
    assert second.path.startswith("audio/fold10/")
    assert dataset.card.name == "urbansound8k"
    assert dataset.card.licence == "CC BY-NC 3.0"


def test_a_part_of_a_known_dataset_keeps_all_its_classes(tmp_path: Path) -> None:
    assert len(load_dataset("urbansound8k", make_us8k(tmp_path / "us")).card.class_names) == 10
    assert len(load_dataset("esc50", make_esc(tmp_path / "esc")).card.class_names) == 50


def test_esc10_is_the_marked_rows_with_classes_numbered_again(tmp_path: Path) -> None:
    dataset = load_dataset("esc10", make_esc(tmp_path / "esc"))
    names = dataset.card.class_names
    assert [clip.clip_id for clip in dataset.clips] == ["1-100032-A-0.wav", "2-18766-A-12.wav"]
    assert [names[clip.class_id] for clip in dataset.clips] == ["dog", "crackling_fire"]
    assert len(names) == 10
    assert dataset.clips[1].path == "audio/2-18766-A-12.wav"
    assert dataset.clips[1].source == "18766"
    assert dataset.card.licence == "CC BY 3.0"


def test_esc10_with_other_classes_numbers_those_that_occur(tmp_path: Path) -> None:
    root = make_esc(tmp_path / "esc")
    table = root / "meta" / "esc50.csv"
    table.write_text(ESC_TABLE.replace("12,crackling_fire", "70,bagpipe"))
    dataset = load_dataset("esc10", root)
    assert dataset.card.class_names == ("dog", "bagpipe")
    assert [clip.class_id for clip in dataset.clips] == [0, 1]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("True", "False", "none of 3 rows has esc10 True"),
        ("True", "yes", "line 2: esc10 is 'yes', expected True or False"),
        (",esc10,", ",esc_ten,", "no column esc10"),
    ],
)
def test_esc10_refuses_a_table_without_its_rows(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    root = make_esc(tmp_path / "esc")
    (root / "meta" / "esc50.csv").write_text(ESC_TABLE.replace(old, new))
    with pytest.raises(DatasetError, match=said):
        load_dataset("esc10", root)


@pytest.mark.parametrize(
    "place", ["data/urbansound8k", "urbansound8k", "data/UrbanSound8K", "UrbanSound8K"]
)
def test_the_usual_places_are_found_without_being_told(tmp_path: Path, place: str) -> None:
    make_us8k(tmp_path / place)
    assert find_root("urbansound8k").samefile(tmp_path / place)
    assert len(load_dataset("urbansound8k").clips) == 2


def test_the_environments_directory_goes_first(tmp_path: Path) -> None:
    make_us8k(tmp_path / "data" / "urbansound8k")
    make_us8k(tmp_path / "elsewhere" / "urbansound8k")
    environ = {"FEATURESTORE_DATA": str(tmp_path / "elsewhere")}
    assert find_root("urbansound8k", environ=environ) == tmp_path / "elsewhere" / "urbansound8k"
    assert find_root("urbansound8k", environ={}) == Path("data/urbansound8k")


def test_the_environment_of_the_process_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_esc(tmp_path / "elsewhere" / "esc50")
    monkeypatch.setenv("FEATURESTORE_DATA", str(tmp_path / "elsewhere"))
    assert find_root("esc50") == root


def test_esc10_is_found_where_esc50_is(tmp_path: Path) -> None:
    make_esc(tmp_path / "data" / "esc50")
    assert find_root("esc10") == Path("data/esc50")


@pytest.mark.parametrize("inner", ["UrbanSound8K", "some-archive-1.0"])
def test_an_archive_may_be_unpacked_one_level_deeper(tmp_path: Path, inner: str) -> None:
    made = make_us8k(tmp_path / "downloads" / inner)
    assert find_root("urbansound8k", tmp_path / "downloads") == made


def test_two_candidates_one_level_deeper_are_not_guessed_between(tmp_path: Path) -> None:
    make_us8k(tmp_path / "downloads" / "old")
    make_us8k(tmp_path / "downloads" / "new")
    with pytest.raises(DatasetError, match="in several directories: new, old"):
        find_root("urbansound8k", tmp_path / "downloads")


@pytest.mark.parametrize("name", ["urbansound8k", "esc50", "esc10", "folder"])
def test_a_dataset_not_on_disk_is_told_with_each_place_and_how_to_get_it(name: str) -> None:
    with pytest.raises(DatasetNotFoundError) as caught:
        find_root(name, environ={"FEATURESTORE_DATA": "/no/such"})
    message = str(caught.value)
    for place in (f"/no/such/{name}", f"./data/{name}", f"./{name},"):
        assert place in message.replace(" (in", ",")
    assert DATASETS[name].how_to_get in message
    assert "\n" not in message


def test_how_to_get_names_the_official_sources() -> None:
    assert "https://zenodo.org/records/1203745" in DATASETS["urbansound8k"].how_to_get
    assert "https://github.com/karolpiczak/ESC-50" in DATASETS["esc10"].how_to_get


@pytest.mark.parametrize(
    ("name", "meant"),
    [("urbansound", "urbansound8k"), ("ESC-50", "esc50"), ("sintetic", "synthetic")],
)
def test_an_unknown_name_is_answered_with_the_one_meant(name: str, meant: str) -> None:
    with pytest.raises(DatasetError, match=rf"there are: .*folder; did you mean '{meant}'\?"):
        load_dataset(name)


def test_a_name_like_none_gets_no_suggestion() -> None:
    with pytest.raises(DatasetError) as caught:
        find_root("zzz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["urbansound8k", "esc10", "folder"])
def test_a_given_root_must_exist(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetNotFoundError, match="missing: does not exist"):
        load_dataset(name, tmp_path / "missing")


@pytest.mark.parametrize("name", ["urbansound8k", "folder", "synthetic"])
def test_a_given_root_must_be_a_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match="file: is a file"):
        load_dataset(name, tmp_path / "file")


@pytest.mark.parametrize("name", ["esc50", "folder"])
def test_a_given_root_must_not_be_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetNotFoundError, match="empty: is empty"):
        load_dataset(name, str(tmp_path / "empty"))


def test_a_root_that_lacks_a_marker_is_told_which_and_what_is_there(tmp_path: Path) -> None:
    root = make_us8k(tmp_path / "us")
    (root / "audio").rmdir()
    for number in range(6):
        (root / f"other{number}").touch()
    said = "holds no urbansound8k: there is no audio, but metadata, other0, .* and 2 more"
    with pytest.raises(DatasetNotFoundError, match=said):
        find_root("urbansound8k", root)


def test_a_path_the_system_refuses_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot look for esc50"):
        find_root("esc50", tmp_path / ("x" * 300))


def test_a_neighbour_that_cannot_be_read_does_not_matter(tmp_path: Path) -> None:
    made = make_us8k(tmp_path / "disk" / "UrbanSound8K")
    (tmp_path / "disk" / "lost+found").mkdir(mode=0)
    with permissions_hold():
        assert find_root("urbansound8k", tmp_path / "disk") == made


def test_synthetic_is_to_be_made_in_the_first_usual_place(tmp_path: Path) -> None:
    assert find_root("synthetic", environ={}) == Path("data/synthetic")
    environ = {"FEATURESTORE_DATA": str(tmp_path / "sets")}
    assert find_root("synthetic", environ=environ) == tmp_path / "sets" / "synthetic"
    assert find_root("synthetic", tmp_path / "here") == tmp_path / "here"
    assert not list(tmp_path.iterdir())


SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real tables at {SHARED}")
US8K_FOLDS = (873, 888, 925, 990, 936, 823, 838, 806, 816, 837)


def fold_sizes(count: Callable[[int], int], num_folds: int) -> tuple[int, ...]:
    return tuple(count(fold) for fold in range(1, num_folds + 1))


@needs_shared
def test_the_official_table_of_urbansound8k_has_its_published_folds() -> None:
    dataset = load_dataset("urbansound8k", SHARED / "urbansound8k-originals")
    folds = [clip.fold for clip in dataset.clips]
    assert len(folds) == 8732
    assert fold_sizes(folds.count, 10) == US8K_FOLDS
    assert len(dataset.card.class_names) == 10
    existing = [clip for clip in dataset.clips if (dataset.root / clip.path).is_file()]
    assert len(existing) == 37


@needs_shared
def test_esc10_has_400_clips_in_five_equal_folds() -> None:
    dataset = load_dataset("esc10", SHARED / "esc10")
    folds = [clip.fold for clip in dataset.clips]
    classes = [clip.class_id for clip in dataset.clips]
    assert fold_sizes(folds.count, 5) == (80,) * 5
    assert [classes.count(number) for number in range(10)] == [40] * 10
    assert dataset.card.class_names[:3] == ("dog", "rooster", "rain")
    assert all((dataset.root / clip.path).is_file() for clip in dataset.clips)


@needs_shared
def test_the_official_table_of_esc50_has_50_classes_in_five_equal_folds(tmp_path: Path) -> None:
    root = make_esc(tmp_path / "esc50")
    shutil.copyfile(SHARED / "esc10" / "meta" / "esc50-official.csv", root / "meta" / "esc50.csv")
    dataset = load_dataset("esc50", root)
    folds = [clip.fold for clip in dataset.clips]
    assert fold_sizes(folds.count, 5) == (400,) * 5
    classes = [clip.class_id for clip in dataset.clips]
    assert [classes.count(number) for number in range(50)] == [40] * 50
    assert load_dataset("esc10", root).clips[0].class_id == 0


@needs_shared
def test_the_class_names_we_know_are_the_official_ones(tmp_path: Path) -> None:
    from featurestore.datasets import esc50, urbansound8k
    from featurestore.datasets.clips import check_clips
    from featurestore.datasets.table import read_table

    table = SHARED / "esc10" / "meta" / "esc50-official.csv"
    rows = read_table(table, (*esc50.COLUMNS.needed, "esc10"))
    assert check_clips(rows, esc50.COLUMNS).names == dict(enumerate(esc50.CLASSES))
    marked = set(map(int, rows["target"][rows["esc10"] == "True"]))
    assert tuple(sorted(marked)) == esc50.ESC10_TARGETS
    table = SHARED / "urbansound8k-originals" / "metadata" / "UrbanSound8K.csv"
    rows = read_table(table, urbansound8k.COLUMNS.needed)
    names = check_clips(rows, urbansound8k.COLUMNS).names
    assert names == dict(enumerate(urbansound8k.CLASSES))
