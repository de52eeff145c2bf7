"""Pictures of clips: what is in them, and which clip is meant."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure

import featurestore
from featurestore.building.build import build
from featurestore.cli import main
from featurestore.datasets import load_dataset
from featurestore.errors import UnknownNameError
from featurestore.reading import plot
from featurestore.reading.clipfigure import clip_figure, compare_figure
from featurestore.store.reader import StoredDataset
from schemas import FeatureSpec, Resolution
from tests.conftest import sound

SPEC = FeatureSpec(
    resolutions=(
        Resolution(name="R1", n_mels=16, num_frames=40),
        Resolution(name="R2", n_mels=24, num_frames=80),
        Resolution(name="R3", n_mels=32, num_frames=120),
    )
)
HOP_S = SPEC.hop_length / SPEC.sample_rate


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of long and short clips; `a.wav` is in both."""
    root = tmp_path_factory.mktemp("plot") / "sounds"
    for fold in (1, 2):
        for name, seconds in (("long", 3.0), ("short", 0.5)):
            place = root / f"fold{fold}" / name
            place.mkdir(parents=True)
            soundfile.write(place / "a.wav", sound(fold, seconds), 22_050)
            soundfile.write(place / f"{name}{fold}.wav", sound(fold + 7, seconds), 22_050)
    return root


@pytest.fixture(scope="module")
def store(root: Path) -> StoredDataset:
    build(load_dataset("folder", root), root.parent / "s.zarr", SPEC)
    return featurestore.open_store(root.parent / "s.zarr")


@pytest.fixture
def here(root: Path, store: StoredDataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(root.parent)
    yield root.parent
    for picture in root.parent.glob("*.png"):
        picture.unlink()


def shown(figure: Figure) -> list[str]:
    """Return the titles of the panels, in the order in which they were made."""
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def clip(store: StoredDataset, name: str) -> str:
    table = store.all_clips()
    return str(table.clip_id[plot.find_clip(table, name)])


@pytest.mark.parametrize(
    "name",
    [
        "fold1/long/long1.wav",
        "fold1/long/long1",
        "long1.wav",
        "long1",
        "ng1.wav",
        "/some/where/sounds/fold1/long/long1.wav",
    ],
)
def test_a_clip_is_found_by_its_id_its_path_or_an_end_of_it(
    store: StoredDataset, name: str
) -> None:
    assert clip(store, name) == "fold1/long/long1.wav"


def test_an_end_that_several_clips_have_is_refused_with_their_names(store: StoredDataset) -> None:
    with pytest.raises(UnknownNameError, match=r"fold1/long/a\.wav.*4 clips end so"):
        clip(store, "a.wav")
    with pytest.raises(UnknownNameError, match=r"fold1/short/a\.wav.*2 clips end so"):
        clip(store, "short/a.wav")


@pytest.mark.parametrize("name", ["", "no-such.wav", "fold3/long/long1.wav"])
def test_a_clip_that_is_not_there_is_refused(store: StoredDataset, name: str) -> None:
    with pytest.raises(UnknownNameError, match="no clip"):
        clip(store, name)


def test_a_figure_has_each_array_once_on_one_time_scale(store: StoredDataset) -> None:
    figure = clip_figure(store.read_clip("fold1/long/long1.wav"), SPEC, "long")
    arrays = ["mel: R1, 16 × 40", "mel: R2, 24 × 80", "resize: R1, 16 × 40", "resize: R2, 24 × 80"]
    assert sorted(t for t in shown(figure) if ":" in t) == sorted(arrays)
    assert [t for t in shown(figure) if "R3" in t] == ["R3, 32 × 120, of all methods"]
    panels = [axes for axes in figure.axes if axes.get_title()]
    (limits,) = {axes.get_xlim() for axes in panels}
    assert limits == pytest.approx((0, 120 * HOP_S))
    stops = {axes.get_title()[:7]: axes.images[0].get_extent()[1] for axes in panels}
    assert stops["mel: R1"] == pytest.approx(40 * HOP_S)
    assert stops["resize:"] == pytest.approx(120 * HOP_S)
    assert any("loudest" in axes.get_ylabel() for axes in figure.axes), "a colour bar"


def test_a_repeated_clip_is_marked_where_its_second_round_begins(
    store: StoredDataset, root: Path
) -> None:
    recording = featurestore.load(root / "fold1/short/short1.wav", SPEC)
    period_s = (1 + recording.waveform.size // SPEC.hop_length) * HOP_S
    figure = clip_figure(store.read_clip("fold1/short/short1.wav"), SPEC, "short")
    marks = {
        axes.get_title(): [line.get_xdata()[0] for line in axes.lines]  # type: ignore[index]
        for axes in figure.axes
        if axes.get_title()
    }
    rounds = [period_s * n for n in range(1, int(120 * HOP_S / period_s) + 1)]
    assert marks["R3, 32 × 120, of all methods"] == pytest.approx(rounds)
    assert marks["mel: R1, 16 × 40"] == []
    assert any(text.get_text() == " repeated" for axes in figure.axes for text in axes.texts)


@pytest.mark.parametrize("pattern", ["long", "silent", "zeros"])
def test_a_clip_that_is_not_repeated_is_not_marked(store: StoredDataset, pattern: str) -> None:
    images = store.read_clip("fold1/long/long1.wav")
    spec = SPEC
    if pattern == "silent":
        images = {name: np.zeros_like(image) for name, image in images.items()}
    if pattern == "zeros":
        images = store.read_clip("fold1/short/short1.wav")
        spec = SPEC.model_copy(update={"short_clips": "zeros"})
    figure = clip_figure(images, spec, "title")
    assert [line for axes in figure.axes for line in axes.lines] == []


def test_the_detail_is_where_texture_is_and_not_where_silence_meets_an_onset() -> None:
    rng = np.random.default_rng(0)
    full = np.zeros((32, 120), np.float32)
    full[16:, 5:15] = 1  # a loud plateau, with an edge
    full[:12, 18:38] = rng.uniform(0.3, 0.8, (12, 20))  # texture
    images = {name: np.zeros(shape, np.float32) for name, shape in SPEC.arrays.items()}
    figure = clip_figure({**images, "R3/full": full}, SPEC, "title")
    (box,) = {axes.patches[-1].get_xy() for axes in figure.axes if axes.get_title()}  # type: ignore[attr-defined]
    assert box[0] > 15 * HOP_S
    low, high = figure.axes[0].get_ylim()
    assert box[1] < low + (high - low) / 3


def test_every_resize_operator_is_drawn_as_a_store_would_hold_it(
    store: StoredDataset, root: Path, tmp_path: Path
) -> None:
    variants = ("resize", "resize-area", "resize-nearest", "resize-bicubic", "resize-antialias")
    spec = SPEC.model_copy(update={"variants": variants})
    build(load_dataset("folder", root), tmp_path / "more.zarr", spec)
    images = featurestore.open_store(tmp_path / "more.zarr").read_clip("fold1/long/long1.wav")
    figure = compare_figure(images["R3/full"], spec, "title")
    drawn = {
        axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.get_title()
    }
    assert len(drawn) == 11
    for variant in variants:
        stored = images[f"R2/{variant}"]
        np.testing.assert_allclose(drawn[f"{variant}: R2, 24 × 80"], stored, atol=2e-3)


def test_classes_are_drawn_with_what_is_repeated_marked(
    store: StoredDataset, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(plot, "_save", lambda figure, out: figures.append(figure) or out)
    plot.plot_classes(store, 1, here / "p.png")
    marked = {axes.get_title().split("\n")[0]: bool(axes.lines) for axes in figures[0].axes}
    assert marked["short"]
    assert not marked["long"]


def test_titles_name_class_fold_length_and_clip(
    here: Path, store: StoredDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []
    save = plot._save

    def spy(figure: Figure, out: Path) -> Path:
        titles.append(figure.get_suptitle().replace("\n", " "))
        return save(figure, out)

    monkeypatch.setattr(plot, "_save", spy)
    plot.plot_clip(store, "long2", here / "p.png")
    assert titles[0].startswith("long · fold 2 · 3.00 s · fold2/long/long2.wav")


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ("--clip long1", "long1.png"),
        pytest.param("--clip fold1/long/a.wav --root sounds", "a.wav.png", marks=pytest.mark.slow),
        pytest.param("--clip long1 --compare --out x", "x.png", marks=pytest.mark.slow),
        ("--clip long1 --out y.svg", "y.svg"),
        ("--classes 2", "folder-classes.png"),
        pytest.param("--classes 9 --out z", "z.png", marks=pytest.mark.slow),
    ],
)
def test_the_name_that_is_printed_is_the_name_that_is_written(
    here: Path, capsys: pytest.CaptureFixture[str], options: str, written: str
) -> None:
    assert main(["plot", "s.zarr", *options.split()]) == 0
    assert capsys.readouterr().out.strip() == written
    assert (here / written).stat().st_size > 5000


@pytest.mark.parametrize(
    "options", ["", "--clip long1 --classes 2", "--classes 2 --compare", "--classes 0"]
)
def test_options_that_exclude_each_other_are_a_mistake(here: Path, options: str) -> None:
    assert main(["plot", "s.zarr", *options.split()]) == 2


def test_the_waveform_of_another_file_is_refused(
    here: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "fold1" / "long"
    other.mkdir(parents=True)
    soundfile.write(other / "long1.wav", sound(99, 3.0), 22_050)
    assert main(["plot", "s.zarr", "--clip", "long1", "--root", str(tmp_path)]) == 1
    assert "is not the file that the store was made of" in capsys.readouterr().err
