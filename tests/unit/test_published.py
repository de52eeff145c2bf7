"""Published datasets in miniature: the layouts as their publishers distribute them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from featurestore import cli
from featurestore.datasets import Dataset, load_dataset
from featurestore.datasets.gtzan import GENRES, SPLITS
from featurestore.datasets.kinds import find_kind
from featurestore.datasets.published import SPEECH_COMMANDS_CLASSES, TAU_CLASSES
from featurestore.errors import DatasetError
from tests.unit.test_dataset_folder import touch


def rows(dataset: Dataset) -> dict[str, tuple[str, str, str]]:
    """Split, class and source of each clip by its path."""
    names = dataset.card.class_names
    return {
        clip.path: (dataset.fold_names[clip.fold], names[clip.class_id], clip.source)
        for clip in dataset.clips
    }


def fsdnoisy18k(root: Path) -> Path:
    touch(root, "FSDnoisy18k.audio_train/1.wav", "FSDnoisy18k.audio_test/2.wav")
    meta = root / "FSDnoisy18k.meta"
    meta.mkdir()
    (meta / "train.csv").write_text(
        "fname,label,aso_id,manually_verified,noisy_small\n1.wav,Rain,/m/06mb1,0,1\n"
    )
    (meta / "test.csv").write_text("fname,label,aso_id\n2.wav,Acoustic_guitar,/m/042v_gx\n")
    return root


def tau_scenes(root: Path) -> Path:
    names = ("airport-lisbon-1000-40000-a", "park-vienna-0-1-b", "tram-lyon-2-3-a")
    touch(root, *(f"audio/{name}.wav" for name in names))
    lines = [f"audio/{n}.wav\t{n.split('-')[0]}\t{'-'.join(n.split('-')[1:3])}\ta" for n in names]
    (root / "meta.csv").write_text(
        "\n".join(["filename\tscene_label\tidentifier\tsource_label", *lines])
    )
    setup = root / "evaluation_setup"
    setup.mkdir()
    (setup / "fold1_train.csv").write_text(f"filename\tscene_label\naudio/{names[0]}.wav\tairport")
    (setup / "fold1_evaluate.csv").write_text(f"filename\tscene_label\naudio/{names[1]}.wav\tpark")
    return root


def speech_commands(root: Path) -> Path:
    files = ("yes/aa_nohash_0.wav", "yes/bb_nohash_0.wav", "no/cc_nohash_1.wav")
    touch(root, *files, "_background_noise_/hum.wav", "README.md", "LICENSE")
    (root / "validation_list.txt").write_text(f"{files[1]}\n")
    (root / "testing_list.txt").write_text(f"{files[2]}\n")
    return root


def gtzan(root: Path) -> Path:
    for genre in GENRES:
        touch(root, *(f"genres/{genre}/{genre}.{number:05d}.wav" for number in range(100)))
    return root


EXPECTED: dict[str, tuple[Callable[[Path], Path], dict[str, tuple[str, str, str]]]] = {
    "fsdnoisy18k": (
        fsdnoisy18k,
        {
            "FSDnoisy18k.audio_train/1.wav": ("train", "Rain", ""),
            "FSDnoisy18k.audio_test/2.wav": ("test", "Acoustic_guitar", ""),
        },
    ),
    "tau_scenes": (
        tau_scenes,
        {
            "audio/airport-lisbon-1000-40000-a.wav": ("train", "airport", "lisbon-1000"),
            "audio/park-vienna-0-1-b.wav": ("test", "park", "vienna-0"),
        },
    ),
    "speech_commands": (
        speech_commands,
        {
            "yes/aa_nohash_0.wav": ("train", "yes", "aa"),
            "yes/bb_nohash_0.wav": ("valid", "yes", "bb"),
            "no/cc_nohash_1.wav": ("test", "no", "cc"),
        },
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_miniature_gives_the_official_splits_and_groups(tmp_path: Path, name: str) -> None:
    write, expected = EXPECTED[name]
    dataset = load_dataset(name, write(tmp_path))
    assert rows(dataset) == expected
    kind = find_kind(name)
    assert len(dataset.card.class_names) == kind.num_classes
    assert dataset.card.citation
    assert dataset.partial == (
        f"{len(expected)} of {kind.num_clips:,} clips: not comparable with the paper"
    )


def test_gtzan_is_filtered_and_names_its_corrupt_excerpt(tmp_path: Path) -> None:
    assert [sum(map(len, SPLITS[s].values())) for s in ("train", "valid", "test")] == [
        443,
        197,
        290,
    ]
    dataset = load_dataset("gtzan", gtzan(tmp_path))
    found = rows(dataset)
    assert len(found) == 930
    assert dataset.partial is None
    assert found["genres/jazz/jazz.00054.wav"] == ("train", "jazz", "")
    assert dataset.left_out == ("70 excerpts that the filtered split leaves out",)
    assert "jazz.00054.wav is damaged in most copies" in dataset.warnings[0]
    (tmp_path / "genres").rename(tmp_path / "genres_original")
    again = load_dataset("gtzan", tmp_path)
    assert again.clips.path[0].startswith("genres_original/")


def test_what_an_official_split_leaves_out_is_counted(tmp_path: Path) -> None:
    assert load_dataset("tau_scenes", tau_scenes(tmp_path / "t")).left_out == (
        "1 clip in neither part of the official split",
    )
    assert load_dataset("speech_commands", speech_commands(tmp_path / "s")).left_out == (
        "1 background noises",
    )


@pytest.mark.parametrize(
    ("name", "write", "file", "text", "said"),
    [
        (
            "fsdnoisy18k",
            fsdnoisy18k,
            "FSDnoisy18k.meta/train.csv",
            "fname,label\n1.wav,Rian\n",
            "'Rian' is no class of FSDnoisy18k",
        ),
        (
            "fsdnoisy18k",
            fsdnoisy18k,
            "FSDnoisy18k.meta/train.csv",
            "fname,label\n../1.wav,Rain\n",
            "leaves the dataset's root",
        ),
        (
            "tau_scenes",
            tau_scenes,
            "evaluation_setup/fold1_train.csv",
            "filename\nx.wav\n",
            "'x.wav' is not in",
        ),
        ("tau_scenes", tau_scenes, "meta.csv", "filename,scene_label\n", "has no column"),
    ],
)
def test_a_wrong_table_is_refused(
    tmp_path: Path, name: str, write: Callable[[Path], Path], file: str, text: str, said: str
) -> None:
    write(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(DatasetError, match=said):
        load_dataset(name, tmp_path)


def test_the_classes_are_in_the_order_of_their_names() -> None:
    for names in (TAU_CLASSES, SPEECH_COMMANDS_CLASSES, GENRES):
        assert list(names) == sorted(names)


US8K = (
    "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    "100032-3-0-0.wav,100032,0,0.3,1,5,3,dog_bark\n"
)
ESC = "filename,fold,target,category,esc10,src_file,take\n1-1-A-0.wav,1,0,dog,True,1,A\n"


@pytest.mark.parametrize("nested", ["audio", "audio/audio"])
def test_kaggles_layouts_are_recognised(tmp_path: Path, nested: str) -> None:
    touch(tmp_path / "us", "fold1/x.wav", "fold5/100032-3-0-0.wav")
    (tmp_path / "us" / "UrbanSound8K.csv").write_text(US8K)
    touch(tmp_path / "esc", f"{nested}/1-1-A-0.wav")
    (tmp_path / "esc" / "esc50.csv").write_text(ESC)
    for name, root in (("urbansound8k", "us"), ("esc50", "esc"), ("esc10", "esc")):
        dataset = load_dataset(name, tmp_path / root)
        assert dataset.num_present == 1
        assert (dataset.root / dataset.clips[0].path).exists()


PLUGIN = """
from featurestore.datasets import Dataset, DatasetKind
from featurestore.datasets.directories import find_clips
from schemas import DatasetCard


def load(root):
    found = find_clips(root)
    card = DatasetCard(name="frogs", title="Frogs", class_names=found.class_names,
                       licence="CC0", citation="", url="")
    return Dataset(card, root, found.clips)


FROGS = DatasetKind(name="frogs", summary="Frogs of a pond", default_store="./frogs.zarr",
                    by_hand="go to the pond", load=load, markers=("frogs.txt",),
                    directories=("frogs",), num_clips=2, licence="CC0")
"""


def install(place: Path, value: str = "pond:FROGS") -> None:
    """Put a package and its metadata where an installer would."""
    (place / "pond.py").write_text(PLUGIN)
    info = place / "pond-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pond\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[featurestore.datasets]\nfrogs = {value}\n")


def test_an_installed_package_adds_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site").mkdir()
    install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "frogs", "frogs.txt", "tree/a.wav", "grass/b.wav")
    assert load_dataset("frogs").card.class_names == ("grass", "tree")
    assert cli.main(["datasets", "--json"]) == 0
    listed = {kind["name"]: kind for kind in json.loads(capsys.readouterr().out)}
    assert listed["frogs"]["licence"] == "CC0"
    assert listed["frogs"]["root"].endswith("frogs")
    assert listed["esc50"]["root"] is None
    with pytest.raises(DatasetError, match=r"did you mean 'frogs'\?"):
        load_dataset("frosg")


@pytest.mark.parametrize("value", ["pond:load", "pond:absent", "absent:FROGS"])
def test_a_package_that_adds_something_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    install(tmp_path, value)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DatasetError, match=f"dataset frogs, which the entry point {value} adds"):
        find_kind("frogs")
