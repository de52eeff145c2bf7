"""Training, and all that follows it, on clips of several labels or none."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from featurestore import open_store
from schemas import Evaluation
from tests.integration.multilabel_runs import EPOCHS, several_plan, several_run, several_store
from tests.integration.reported_runs import text_report
from tests.integration.trainer_runs import copied, finished_run, rewrite
from tests.integration.trainer_store import sounds
from trainer import ZarrDataset
from trainer.cli import main
from trainer.config import ExecutionOptions
from trainer.console import fold_text
from trainer.errors import EnsembleError, TrainedRunError
from trainer.inference.ensemble import average
from trainer.inference.predict import load_network, open_run
from trainer.records.finished import open_finished
from trainer.records.tables import parse_predictions
from trainer.report.write import write_report
from trainer.run import resume, run
from trainer.training.events import EpochDone, Event


def test_a_run_records_the_scores_of_its_predictions_and_no_accuracy() -> None:
    trained, store = open_run(several_run()), open_store(several_store())
    trained.verify()
    assert trained.config.task == "multilabel"
    for fold in trained.result.folds:
        assert re.match("best mAP .* last mAP ", fold_text(fold))
        assert (fold.best_accuracy, fold.last_accuracy, fold.valid_accuracy) == (None, None, None)
        found = trained.predictions(fold.fold, "last")
        assert np.array_equal(found.labels, store.all_labels([fold.fold]))
        present = found.labels.any(axis=0)
        truth, said = found.labels[:, present], found.probabilities[:, present]
        scores = fold.last_scores
        assert scores is not None
        assert scores.num_classes == present.sum()
        assert scores.map == pytest.approx(average_precision_score(truth, said, average="macro"))
        assert scores.auc == pytest.approx(roc_auc_score(truth, said, average="macro"))
        epochs = trained.epochs(fold.fold)
        assert [epoch.valid_accuracy for epoch in epochs] == [None] * (1 + EPOCHS)
        assert epochs[-1].valid_map == pytest.approx(scores.map, abs=1e-6)
        counted = [epoch for epoch in epochs if epoch.array == "R3/full"]
        assert fold.best_epoch == max(counted, key=lambda epoch: epoch.score).epoch


class _StoppedError(Exception):
    pass


@pytest.mark.slow
def test_a_run_stopped_after_an_epoch_resumes_to_the_same_bits(tmp_path: Path) -> None:
    dataset, plan = several_plan(folds=(1,), mixup=0.4)
    often = ExecutionOptions(save_every_s=0)

    def stop(event: Event) -> None:
        if isinstance(event, EpochDone) and event.metrics.epoch == 2:
            raise _StoppedError

    whole = run(dataset, plan, tmp_path / "whole")
    with pytest.raises(_StoppedError):
        run(dataset, plan, tmp_path / "stopped", stop, often)
    again = resume(dataset, tmp_path / "stopped")
    assert again is not None
    assert again.folds[0].best_scores == whole.folds[0].best_scores
    for name in ("best", "last"):
        files = [tmp_path / run / "fold1" / f"{name}.pt" for run in ("whole", "stopped")]
        one, other = (torch.load(path, weights_only=True)["model"] for path in files)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_changed_score_or_label_of_a_finished_run_is_refused(tmp_path: Path) -> None:
    run_copy = copied(several_run(), tmp_path / "run")
    path = next((run_copy / "fold1").glob("*best*.csv"))
    lines = path.read_text().splitlines()
    assert lines[0].startswith("clip_id,labels,")
    row = next(i for i, line in enumerate(lines) if line.split(",")[1])
    cells = lines[row].split(",")
    rewrite(path, "\n".join([*lines[:row], ",".join([cells[0], "", *cells[2:]])]).encode())
    with pytest.raises(TrainedRunError):
        open_finished(run_copy).predictions(1, "best")


def test_an_ensemble_averages_probabilities_and_is_never_of_two_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [open_finished(several_run(method)) for method in ("resize", "mel")]
    found, predictions = average(runs)
    of = [run.predictions(1, "best").probabilities.astype(np.float64) for run in runs]
    assert np.allclose(predictions.probabilities[: len(of[0])], np.mean(of, axis=0))
    assert found.task == "multilabel"
    assert found.accuracies == tuple(scores.map for scores in found.scores)
    with pytest.raises(EnsembleError, match="task"):
        average([runs[0], open_finished(finished_run())])
    paths = [str(run.path) for run in runs]
    assert main(["ensemble", *paths, "--out", str(tmp_path / "e")]) == 0
    shown = capsys.readouterr().out
    assert "mAP by held-out fold, %" in shown
    assert "ccuracy" not in shown.split("•")[0]


@pytest.mark.slow
def test_the_logits_of_an_onnx_file_are_those_that_the_predictions_come_from(
    tmp_path: Path,
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "network.onnx"
    arguments = ["--run", str(several_run()), "--fold", "1", "--format", "onnx"]
    assert main(["export", *arguments, "--out", str(file)]) == 0
    dataset = ZarrDataset(str(several_store()), "R3/full", folds=[1])
    images = np.stack([dataset[row][0].numpy() for row in range(len(dataset))])
    (logits,) = onnxruntime.InferenceSession(file).run(None, {"images": images})
    recorded = open_finished(several_run()).predictions(1, "best").probabilities
    assert np.allclose(1 / (1 + np.exp(-logits)), recorded, atol=1e-5)


def test_interpret_shows_the_labels_that_a_run_gets_most_confidently_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run, out = several_run(), tmp_path / "out"
    arguments = ["interpret", str(run), "--checkpoint", "last", "--out", str(out)]
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    tables = [parse_predictions(path, path.read_bytes()) for path in run.glob("fold*/last.csv")]
    labels = np.concatenate([table.labels for table in tables]) > 0
    shares = np.concatenate([table.probabilities for table in tables])
    ids = [clip for table in tables for clip in table.clip_ids]
    mistakes = dict(zip(ids, np.abs(labels - shares), strict=True))
    wrong = ((shares >= 0.5) != labels).any(axis=1)
    assert {clip["clip_id"] for clip in document["wrong"]} == {*np.array(ids)[wrong]}
    assert document["accuracy"] == pytest.approx(1 - wrong.mean())
    names = tables[0].class_names
    for clip in document["wrong"]:
        of_clip = mistakes[clip["clip_id"]]
        assert of_clip[names.index(clip["predicted"])] == of_clip.max() >= 0.5
        assert clip["probability"] == pytest.approx(1 - of_clip.max())
    sureness = [clip["probability"] for clip in document["wrong"]]
    assert sureness == sorted(sureness)
    for one in document["classes"]:
        number = names.index(one["class_name"])
        has = labels[:, number]
        assert one["num_clips"] == has.sum()
        if has.any():
            assert one["recall"] == (shares[has, number] >= 0.5).mean()
            assert one["low"] <= one["recall"] <= one["high"]
        by_fold = [
            average_precision_score(table.labels[:, number], table.probabilities[:, number])
            for table in tables
            if table.labels[:, number].any()
        ]
        assert one["average_precision"] == (pytest.approx(np.mean(by_fold)) if by_fold else None)
    assert main(arguments) == 0
    assert "most wrong about" in capsys.readouterr().out
    assert (out / "worst.png").exists()


def test_evaluation_repeats_the_runs_scores_and_has_those_of_each_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "e"
    assert main(["evaluate", "--run", str(several_run()), "--out", str(out)]) == 0
    found = Evaluation.model_validate_json((out / "evaluation.json").read_bytes())
    trained = open_finished(several_run())
    for mine, theirs in zip(found.folds, trained.result.folds, strict=True):
        assert mine.accuracy is None
        assert mine.scores is not None
        assert theirs.best_scores is not None
        assert mine.scores.map == pytest.approx(theirs.best_scores.map, abs=1e-6)
    assert found.confusion == ()
    assert [one.num_clips for one in found.classes] == open_store(several_store()).all_labels(
        [1, 2]
    ).sum(axis=0).tolist()
    assert all(0 <= (one.average_precision or 0) <= 1 for one in found.classes)
    assert "lwlrap" in capsys.readouterr().out
    assert main(["evaluate", "--run", str(finished_run()), "--store", str(several_store())]) == 1
    assert "the store has several labels per clip" in capsys.readouterr().err


def test_prediction_gives_each_label_its_probability_and_those_over_the_threshold(
    tmp_path: Path,
) -> None:
    sound = str(next(sounds().rglob("*.wav")))
    out = tmp_path / "p.json"
    arguments = ["predict", "--run", str(several_run()), sound, "--threshold", "0.2"]
    assert main([*arguments, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    (said,) = found["predictions"]
    assert found["threshold"] == 0.2
    likely = {name: p for name, p in said["probabilities"].items() if p >= 0.2}
    assert said["labels"] == sorted(likely, key=lambda name: -likely[name])
    network = load_network(open_run(several_run()), 1, "best", torch.device("cpu"))
    images = torch.rand(2, 1, 32, 40)
    with torch.inference_mode():
        logits = network.model(images).double()
    assert np.allclose(network.probabilities(images), torch.sigmoid(logits).numpy())
    assert main([*arguments, "--out", str(tmp_path / "p.csv")]) == 0
    header, row = csv.reader((tmp_path / "p.csv").read_text().splitlines())
    assert json.loads(row[header.index("labels")]) == said["labels"]


def test_a_report_has_maps_and_differences_by_class_apart_from_accuracies(tmp_path: Path) -> None:
    runs = [several_run(), several_run("mel"), finished_run()]
    report = text_report(*runs)
    several, one = sorted(report.sections, key=lambda section: "map" not in str(section).lower())
    titles = [table.title for table in several.tables]
    assert not any("ccuracy" in title for title in titles)
    assert any("Accuracy" in table.title for table in one.tables)
    assert not any("mAP" in table.title for table in one.tables)
    trained = [open_finished(run) for run in runs[:2]]
    by_class = next(t for t in several.tables if t.title.startswith("Differences of average"))
    methods = by_class.title.split(": ")[1].split(" - ")
    of = {run.config.method: run for run in trained}
    for row, name in zip(by_class.rows, open_store(several_store()).class_names, strict=True):
        number = open_store(several_store()).class_names.index(name)
        if row[1] != "2":
            continue
        expected = []
        for fold in (1, 2):
            found = [of[method].predictions(fold, "best") for method in methods]
            precisions = [
                average_precision_score(p.labels[:, number], p.probabilities[:, number])
                for p in found
            ]
            expected.append(100 * (precisions[0] - precisions[1]))
        assert float(row[2]) == pytest.approx(np.mean(expected), abs=0.006)
    assert write_report(runs[:2], tmp_path / "r").sections[0].pictures
