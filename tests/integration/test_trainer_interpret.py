"""`trainer interpret`: what it shows is what the run's own predictions say."""

import io
import json
import shutil
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from featurestore.browsing.runs import RunsOfDataset
from schemas import CheckpointName, FeatureSpec
from tests.hostile import NAMES
from tests.integration.reported_runs import make_run, read_outputs, stages_of
from tests.integration.trainer_runs import finished_run
from tests.integration.trainer_store import tiny_plan, tiny_store
from trainer.cli import main
from trainer.inference.interpret import WrongClip, _judged, interpret
from trainer.records.finished import open_finished
from trainer.records.tables import ClipPredictions
from trainer.report import classes
from trainer.report.classes import worst_picture
from trainer.run import run
from trainer.stats import wilson_interval


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def test_wrong_clips_come_most_confident_first_and_agree_with_the_runs_predictions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = finished_run()
    assert main(["interpret", str(run), "--checkpoint", "last", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    tables = [read_outputs(path) for path in sorted(run.glob("fold*/last.csv"))]
    wrong = {
        clip
        for table in tables
        for clip, label, predicted in zip(
            table.clip_ids, table.labels, table.predicted, strict=True
        )
        if label != predicted
    }
    assert {clip["clip_id"] for clip in found["wrong"]} == wrong
    confidences = [clip["predicted_probability"] for clip in found["wrong"]]
    assert confidences == sorted(confidences, reverse=True)
    assert found["num_clips"] == sum(len(table.labels) for table in tables)
    assert found["accuracy"] == pytest.approx(1 - len(wrong) / found["num_clips"])
    labels = np.concatenate([table.labels for table in tables])
    right = np.concatenate([table.labels == table.predicted for table in tables])
    for one in found["classes"]:
        of_class = labels == tables[0].class_names.index(one["class_name"])
        assert one["num_clips"] == of_class.sum()
        assert one["recall"] == right[of_class].mean()
        assert one["low"] <= one["recall"] <= one["high"]
    with Image.open("interpretation/worst.png") as picture:
        assert picture.width >= 1000
    assert json.loads(Path("interpretation/interpretation.json").read_text()) == found
    assert Path("interpretation/worst.svg").read_text().rstrip().endswith("</svg>")


def test_a_store_that_was_moved_is_found_and_another_one_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copytree(tiny_store(), tmp_path / "moved.zarr")
    assert main(["interpret", str(finished_run()), "--store", str(moved), "--top", "1"]) == 0
    printed = capsys.readouterr()
    assert "clips wrong, accuracy" in printed.out
    assert "so its score there is optimistic" in " ".join(printed.err.split())
    other = make_run(tmp_path / "other", "mel", {1: 70.0}, dataset="synthetic")
    assert main(["interpret", str(other), "--store", str(moved), "--out", "no"]) == 1
    assert "has other clips or features" in capsys.readouterr().err
    assert not Path("no").exists()


def test_a_clip_is_shown_as_its_network_took_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last epoch of a stage that alternates is not of the array that the stage begins with."""
    dataset, plan = tiny_plan(batch_size=16)
    stage = plan.config.stages[0].model_copy(update={"alternate": "R1/mel", "epochs": 2})
    run(
        dataset,
        replace(plan, config=plan.config.model_copy(update={"stages": (stage,)})),
        tmp_path / "run",
    )
    assert main(["interpret", str(tmp_path / "run"), "--checkpoint", "last", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {clip["array"] for clip in found["wrong"]} == {"R1/mel"}


def test_the_best_of_all_epochs_is_shown_on_its_own_array(tmp_path: Path) -> None:
    small, large = stages_of("mel")[0], stages_of("mel")[-1]
    stages = (small.model_copy(update={"epochs": 5}), large.model_copy(update={"epochs": 1}))
    out = make_run(tmp_path / "run", "mel", {1: 70.0}, stages=stages, best_of="run")
    arrays = {
        which: {clip.array for clip in interpret(open_finished(out), which).wrong}
        for which in get_args(CheckpointName)
    }
    assert arrays == {"best": {"R1/mel"}, "last": {"R3/full"}}


def in_threes(names: list[str]) -> list[tuple[str, ...]]:
    return list(zip_longest(names[::3], names[1::3], names[2::3], fillvalue="name"))


@pytest.mark.parametrize(
    "threes",
    [
        in_threes([*NAMES.values()]),
        pytest.param([(name,) * 3 for name in NAMES.values()], marks=pytest.mark.slow),
    ],
    ids=["each in a place", "each in every place"],
)
def test_names_that_nothing_should_obey_and_runs_without_mistakes_can_be_drawn(
    threes: list[tuple[str, ...]],
) -> None:
    shown = ["R3/full", *["R1/mel"] * (len(threes) - 1)]  # as of networks of several arrays
    clips = [
        WrongClip(clip_id, 1, own, 0.1, taken, 0.9, array)
        for (clip_id, own, taken), array in zip(threes, shown, strict=True)
    ]
    images = [np.zeros((8, 16), np.float32)] * len(clips)
    drawn = worst_picture(clips, images, FeatureSpec(), next(iter(NAMES.values())))
    with Image.open(io.BytesIO(drawn.png)) as picture:
        picture.load()
    assert worst_picture([], [], FeatureSpec(), "run").svg


def test_a_worst_clip_is_drawn_in_hertz_and_seconds_with_what_is_repeated_marked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(classes, "rendered", lambda figure: figures.append(figure))
    spec = FeatureSpec()
    image = np.tile(np.random.default_rng(0).random((64, 40), np.float32), 4)[:, :128]
    for array, frames in (("R1/mel", 128), ("R1/resize", 300)):
        worst_picture([WrongClip("a", 1, "x", 0.1, "y", 0.9, array)], [image], spec, "run")
        axes = figures[-1].axes[0]
        seconds = frames * spec.hop_length / spec.sample_rate
        assert axes.images[0].get_extent()[1] == pytest.approx(seconds)
        assert len(axes.lines) == 3
        assert axes.get_ylabel() == "Hz"
        assert [tick.get_text() for tick in axes.get_yticklabels()][:3] == ["0", "512", "1024"]


def test_the_interval_of_a_recall_is_wilsons() -> None:
    # Source: Wilson's formula by hand, z = 1.959964, for 8 of 10.
    assert wilson_interval(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)
    assert wilson_interval(0, 5)[0] == pytest.approx(0.0)


def test_among_equally_likely_labels_a_clip_is_most_wrong_about_the_wrong_one() -> None:
    labels, halves = np.array([[1, 0], [0, 1]], np.uint8), np.full((2, 2), 0.5, np.float32)
    _, taken, worst, truths = _judged(ClipPredictions(("a", "b"), labels, halves, ("x", "y")))
    assert taken.all()
    assert worst.tolist() == [1, 0]
    assert truths.tolist() == [0.5, 0.5]
    table = np.rec.array([("a",), ("b",)], dtype=[("clip_id", "U1")])
    contents: Any = SimpleNamespace(table=table, multi_hot=lambda: labels > 0)
    run = {"multilabel": True, "clips": {"clip_id": ["a", "b"], "probabilities": halves}}
    on_page = RunsOfDataset(contents, [run], [])._outcomes(0, run)
    assert on_page["predicted"].tolist() == worst.tolist()
    assert not on_page["right"].any()
