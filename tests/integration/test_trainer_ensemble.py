"""The average of several runs' probabilities: its numbers, and what it refuses."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas import Ensemble
from tests.integration.reported_runs import NUM_TEST, answers, make_run, read_outputs, seal
from trainer.cli import main
from trainer.inference.ensemble import average
from trainer.records.finished import open_finished
from trainer.records.tables import ClipPredictions, predictions_bytes
from trainer.safefiles import replace_file
from trainer.stats import paired_test

FOLDS = {1: 70.0, 2: 80.0, 3: 75.0}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def two_runs() -> tuple[Path, Path]:
    """Mel and resize, wrong on different clips; the second one's clips in another order."""
    first = make_run(Path("mel"), "mel", FOLDS)
    second = make_run(Path("resize"), "resize", {fold: v + 5 for fold, v in FOLDS.items()}, seed=3)
    for fold in FOLDS:
        for name in ("best", "last"):
            path = second / f"fold{fold}/{name}.csv"
            other = answers(f"other{fold}", read_outputs(path).accuracy)
            ids = tuple(f"fold{fold}-{i}" for i in range(NUM_TEST))
            order = np.random.default_rng(fold).permutation(NUM_TEST)
            replace_file(
                path, predictions_bytes(reordered(ClipPredictions(ids, *vars_of(other)), order))
            )
    return first, seal(second)


def vars_of(outputs: ClipPredictions) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    return outputs.labels, outputs.probabilities, outputs.class_names


def reordered(outputs: ClipPredictions, order: np.ndarray) -> ClipPredictions:
    ids = tuple(outputs.clip_ids[i] for i in order)
    return ClipPredictions(
        ids, outputs.labels[order], outputs.probabilities[order], outputs.class_names
    )


def averaged(*arguments: object) -> Ensemble:
    assert main(["ensemble", *map(str, arguments)]) == 0
    return Ensemble.model_validate_json(Path("ensemble/ensemble.json").read_bytes())


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_probabilities_are_averaged_clip_by_clip_whatever_their_order(checkpoint: str) -> None:
    runs = two_runs()
    found = averaged(*runs, "--checkpoint", checkpoint)
    written = read_outputs(Path("ensemble/ensemble.csv"))
    rows = dict(zip(written.clip_ids, written.probabilities, strict=True))
    assert len(rows) == len(FOLDS) * NUM_TEST
    for at, fold in enumerate(FOLDS):
        tables = [read_outputs(run / f"fold{fold}/{checkpoint}.csv") for run in runs]
        by_clip = [dict(zip(t.clip_ids, t.probabilities, strict=True)) for t in tables]
        right = 0
        for clip, label in zip(tables[0].clip_ids, tables[0].labels, strict=True):
            expected = (by_clip[0][clip].astype(float) + by_clip[1][clip]) / 2
            assert rows[clip] == pytest.approx(expected, abs=1e-7)
            right += int(expected.argmax() == label)
        assert found.accuracies[at] == right / NUM_TEST
        for member, table in zip(found.members, tables, strict=True):
            assert member.accuracies[at] == table.accuracy


def test_each_run_is_compared_with_the_average_and_the_best_one_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = averaged(*two_runs())
    text = capsys.readouterr().out
    assert (found.folds, found.best_member, found.checkpoint) == ((1, 2, 3), 1, "best")
    members = [(member.run, member.method, member.seed) for member in found.members]
    assert members == [("mel", "mel", 0), ("resize", "resize", 3)]
    for member in found.members:
        test = paired_test(dict(enumerate(found.accuracies)), dict(enumerate(member.accuracies)))
        assert test is not None
        assert member.gain is not None
        assert (member.gain.mean, member.gain.p, member.gain.d_z) == (test.mean, test.p, test.d_z)
        assert f"{100 * test.mean:+.2f}" in text
    assert "resize (best)" in text
    assert f"{100 * found.mean:.2f} ± {100 * (found.std or 0):.2f}" in text
    assert "optimistic" in text


def test_a_run_averaged_with_its_copy_is_the_run_itself() -> None:
    run = make_run(Path("a"), "mel", FOLDS)
    shutil.copytree(run, "b")
    found = averaged(run, "b")
    assert found.accuracies == found.members[0].accuracies == found.members[1].accuracies
    gain = found.members[0].gain
    assert gain is not None
    assert (gain.mean, gain.t, gain.rank_p) == (0.0, None, None)


def test_one_fold_is_averaged_without_a_test(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(Path(name), name, {2: 80.0}) for name in ("mel", "resize")]
    found = averaged(*runs)
    assert (found.std, found.members[0].gain) == (None, None)
    assert "rank test cannot" not in capsys.readouterr().out


def test_runs_that_pick_nothing_are_averaged_by_their_last_networks() -> None:
    runs = [make_run(Path(f"{seed}"), "mel", FOLDS, selection="last", seed=seed) for seed in (0, 1)]
    found = averaged(*runs)
    assert (found.selection, found.checkpoint) == ("last", "last")
    assert not found.warnings


def test_stores_that_differ_with_the_same_clips_are_said() -> None:
    runs = [make_run(Path(name), "mel", FOLDS, fingerprint=name * 16) for name in ("a", "b")]
    assert "the runs' stores differ (aaaaaaaaaaaa, bbbbbbbbbbbb)" in averaged(*runs).warnings[0]


def spoil_clips(run: Path) -> None:
    table = read_outputs(run / "fold2/best.csv")
    ids = ("elsewhere", *table.clip_ids[1:])
    replace_file(run / "fold2/best.csv", predictions_bytes(ClipPredictions(ids, *vars_of(table))))
    seal(run)


def spoil_labels(run: Path) -> None:
    table = read_outputs(run / "fold2/best.csv")
    labels = table.labels.copy()
    wrong = int((table.predicted != labels).argmax())  # it is as wrong with another class
    labels[wrong] = (labels[wrong] + 2) % len(table.class_names)
    changed = ClipPredictions(table.clip_ids, labels, table.probabilities, table.class_names)
    replace_file(run / "fold2/best.csv", predictions_bytes(changed))
    seal(run)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda: make_run(Path("b"), "mel", FOLDS, dataset="esc50"),
            "differ in dataset (urbansound8k; esc50); an average needs runs on one dataset",
        ),
        (
            lambda: make_run(Path("b"), "mel", FOLDS, selection="last"),
            "differ in selection (heldout; last)",
        ),
        (
            lambda: make_run(Path("b"), "mel", {1: 70.0, 3: 70.0}),
            "differ in held-out folds (1, 2, 3; 1, 3); an average needs predictions of every run",
        ),
        (
            lambda: make_run(Path("b"), "mel", FOLDS, classes="abcde"),
            "fold 1: a and b have different classes",
        ),
        (lambda: Path("a"), "a: is given twice"),
        (lambda: Path("absent"), "absent: no such directory"),
    ],
)
def test_what_cannot_be_averaged_is_one_line_that_names_the_difference(
    other: Callable[[], Path], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(Path("a"), "mel", FOLDS)
    refused(["a", str(other())], message, capsys)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_clips, "2 are only in one of them, such as elsewhere"),
        (spoil_labels, "give clip fold2-"),
        (lambda run: (run / "fold2/best.csv").unlink(), "b/fold2/best.csv: is missing"),
        (lambda run: (run / "result.json").unlink(), "b: the run is unfinished"),
    ],
)
def test_clips_that_differ_or_are_missing_are_one_line(
    spoil: Callable[[Path], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(Path("a"), "mel", FOLDS)
    spoil(make_run(Path("b"), "resize", FOLDS))
    refused(["a", "b"], message, capsys)


def test_the_last_network_of_runs_that_saw_the_fold_once_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in "ab":
        make_run(Path(name), "mel", FOLDS, selection="validation")
    refused(
        ["a", "b", "--checkpoint", "last"], "have no predictions of the last network; give", capsys
    )
    found, _ = average([open_finished(Path(name)) for name in "ab"])
    assert found.checkpoint == "best"


def test_a_single_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("a"), "mel", FOLDS)
    refused(["a"], "at least two runs", capsys)


def refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ensemble", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not Path("ensemble").exists()
