import csv
import gc
import importlib
import platform
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from schemas import EpochMetrics, RunRecord, RunResult
from tests.integration.trainer_store import tiny_plan
from trainer.config import ExecutionOptions
from trainer.errors import DivergedError, RunDirectoryError
from trainer.model import build_model
from trainer.plan import Plan
from trainer.records.checkpoint import load_checkpoint
from trainer.records.rundir import RunDirectory
from trainer.run import begin, resume, run
from trainer.training.events import (
    EpochDone,
    Event,
    FoldDone,
    FoldStarted,
    RunStarted,
    StageStarted,
    Warned,
)
from trainer.training.folds import train_folds


def read_metrics(out: Path) -> list[EpochMetrics]:
    rows: list[EpochMetrics] = []
    for path in sorted(out.glob("fold*/metrics.csv")):
        with path.open(newline="") as file:
            rows += [EpochMetrics.model_validate(row) for row in csv.DictReader(file)]
    return rows


def losses(out: Path, fold: int) -> list[tuple[float, float, float]]:
    rows = [row for row in read_metrics(out) if row.fold == fold]
    return [(row.train_loss, row.valid_loss, row.valid_accuracy) for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult, list[Event]]:
    """A run of folds 1 and 2, one epoch per stage but the last, and its events."""
    out = tmp_path_factory.mktemp("runs") / "deep" / "run"
    events: list[Event] = []
    dataset, plan = tiny_plan(folds=(1, 2), epochs_scale=0.03)
    return out, run(dataset, plan, out, events.append), events


Finished = tuple[Path, RunResult, list[Event]]


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """The calls of a function from now on, which still returns its results."""
    module, _, attribute = name.rpartition(".")
    function, calls = getattr(importlib.import_module(module), attribute), []

    def call(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        return function(*arguments, **named)

    monkeypatch.setattr(name, call)
    return calls


def test_splits_weights_and_placements_are_found_out_once_and_recorded_as_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([1 << 40, 0])  # in memory when it is started, not a second later
    monkeypatch.setattr("trainer.data.arrays.available_host_memory", lambda: next(free))
    splits = counted(monkeypatch, "trainer.data.split.split_fold")
    weights = counted(monkeypatch, "trainer.run.initial_weights")
    events: list[Event] = []
    result = run(*tiny_plan(folds=(1, 2)), tmp_path / "run", events.append)
    assert (len(splits), len(weights)) == (2, 1)
    [started] = [event for event in events if isinstance(event, RunStarted)]
    assert set(result.placements.values()) == {"host"}
    assert result.placements == started.record.placements
    assert next(free) == 0


def test_the_result_says_where_data_lay_when_the_run_was_resumed(tmp_path: Path) -> None:
    dataset, plan = tiny_plan(folds=(1,))
    begin(dataset, plan, tmp_path / "run", execution=ExecutionOptions("host"))
    result = resume(dataset, tmp_path / "run", execution=ExecutionOptions("stream"))
    assert result is not None
    assert set(result.placements.values()) == {"stream"}
    assert set(RunDirectory(tmp_path / "run").record().placements.values()) == {"host"}


def test_the_run_directory_holds_all_records(finished: Finished) -> None:
    out, result, _ = finished
    assert RunResult.model_validate_json((out / "result.json").read_bytes()) == result
    record = RunRecord.model_validate_json((out / "run.json").read_bytes())
    assert record.config == result.config
    assert record.fingerprint == result.fingerprint
    assert {"torch", "torchvision", "numpy", "python"} <= record.versions.keys()
    assert record.init_used == "random"
    assert record.warnings == result.warnings
    assert any("learning rates" in warning for warning in record.warnings)
    assert sorted(path.name for path in out.iterdir()) == [
        "fold1", "fold2", "result.json", "run.json", "tensorboard",
    ]  # fmt: skip


def test_metrics_have_one_row_an_epoch_over_the_whole_schedule(finished: Finished) -> None:
    out, result, _ = finished
    stages = result.config.stages
    expected = [number for number, stage in enumerate(stages, 1) for _ in range(stage.epochs)]
    for fold in (1, 2):
        rows = [row for row in read_metrics(out) if row.fold == fold]
        assert [row.epoch for row in rows] == list(range(1, len(expected) + 1))
        assert [row.stage for row in rows] == expected
        assert [row.array for row in rows] == [stages[n - 1].array for n in expected]


def test_best_is_the_first_of_the_highest_on_the_last_array_and_last_is_the_last(
    finished: Finished,
) -> None:
    out, result, _ = finished
    for fold in result.folds:
        rows = [row for row in read_metrics(out) if row.fold == fold.fold]
        at_the_end = {row.epoch: row.valid_accuracy for row in rows if row.array == "R3/full"}
        best = max(at_the_end.values())
        assert fold.best_accuracy == best
        assert fold.best_epoch == min(e for e, accuracy in at_the_end.items() if accuracy == best)
        assert (fold.last_accuracy, fold.last_epoch) == (rows[-1].valid_accuracy, len(rows))


def test_counts_leave_failed_clips_out(finished: Finished) -> None:
    _, result, _ = finished
    assert [(fold.num_train, fold.num_test) for fold in result.folds] in (
        [(96, 47), (95, 48)],
        [(95, 48), (96, 47)],
    )


@pytest.mark.parametrize("which", ["best", "last"])
def test_a_checkpoint_gives_the_accuracy_that_was_recorded(finished: Finished, which: str) -> None:
    out, result, _ = finished
    dataset, _ = tiny_plan()
    for fold in result.folds:
        found = load_checkpoint(out / f"fold{fold.fold}" / f"{which}.pt")
        assert found.epoch == getattr(fold, f"{which}_epoch")
        model = build_model(found.config.arch, len(found.class_names), seed=9)
        model.load_state_dict(found.model)
        images, labels = dataset.read(found.array, [fold.fold])
        with torch.inference_mode():
            answers = model.eval()(torch.from_numpy(images).unsqueeze(1)).argmax(dim=1)
        accuracy = (answers.numpy() == labels).mean()
        assert accuracy == found.accuracy == getattr(fold, f"{which}_accuracy")


def test_tensorboard_shows_each_fold(finished: Finished) -> None:
    out, result, _ = finished
    for fold in result.folds:
        events = EventAccumulator(str(out / "tensorboard" / f"fold{fold.fold}")).Reload()
        points = events.Scalars("accuracy/valid")
        accuracies = [accuracy for _, _, accuracy in losses(out, fold.fold)]
        assert [point.step for point in points] == list(range(1, len(accuracies) + 1))
        assert [point.value for point in points] == pytest.approx(accuracies, abs=1e-6)


def test_watchers_hear_of_every_stage_and_epoch(finished: Finished) -> None:
    out, result, events = finished
    assert isinstance(events[0], RunStarted)
    assert sum(isinstance(event, StageStarted) for event in events) == 2 * 6
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert [event.metrics for event in epochs] == read_metrics(out)
    assert epochs[-1].best_score == result.folds[-1].best_accuracy


@pytest.mark.slow
def test_same_seed_gives_bit_equal_losses_and_a_fold_does_not_depend_on_the_others(
    finished: Finished, tmp_path: Path
) -> None:
    out, _, _ = finished
    dataset, plan = tiny_plan(folds=(2,), epochs_scale=0.03)
    run(dataset, plan, tmp_path / "again")
    assert losses(tmp_path / "again", 2) == losses(out, 2)
    first, again = (load_checkpoint(p / "fold2" / "last.pt") for p in (out, tmp_path / "again"))
    assert all(torch.equal(first.model[name], again.model[name]) for name in first.model)


@pytest.mark.parametrize(
    ("num_threads", "reading"),
    [
        (2, "host"),
        # As on a GPU, where one thread trains all folds by turns.
        pytest.param(1, "host", marks=pytest.mark.slow),
        pytest.param(2, "stream", marks=pytest.mark.slow),
        pytest.param(1, "stream", marks=pytest.mark.slow),
    ],
)
def test_folds_at_once_give_bit_equal_losses_weights_and_records(
    finished: Finished,
    tmp_path: Path,
    num_threads: int,
    reading: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.run.train_folds", partial(train_folds, num_threads=num_threads))
    out, result, _ = finished
    dataset, plan = tiny_plan(folds=(1, 2), epochs_scale=0.03)
    execution = ExecutionOptions(reading, folds_at_once=2)
    beside: list[set[int]] = []
    running: set[int] = set()

    def watch(event: Event) -> None:
        match event:
            case FoldStarted(fold):
                running.add(fold)
            case EpochDone():
                beside.append(set(running))
            case FoldDone(fold_result):
                running.remove(fold_result.fold)

    at_once = run(dataset, plan, tmp_path / "at-once", watch, execution)
    assert {1, 2} in beside, "the folds were trained at the same time"
    for fold in (1, 2):
        assert losses(tmp_path / "at-once", fold) == losses(out, fold)
        ours, theirs = (
            load_checkpoint(p / f"fold{fold}/last.pt") for p in (tmp_path / "at-once", out)
        )
        assert all(torch.equal(ours.model[name], theirs.model[name]) for name in ours.model)
    without_time = {"seconds"}
    assert [f.model_dump(exclude=without_time) for f in at_once.folds] == [
        f.model_dump(exclude=without_time) for f in result.folds
    ]
    record = RunRecord.model_validate_json((tmp_path / "at-once" / "run.json").read_bytes())
    assert record.folds_at_once == 2
    assert at_once.config == result.config


@pytest.mark.parametrize("num_threads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_an_error_in_one_fold_stops_the_other_and_keeps_its_networks(
    tmp_path: Path, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.run.train_folds", partial(train_folds, num_threads=num_threads))
    dataset, plan = tiny_plan(folds=(1, 2), epochs_scale=1.0)
    epochs: dict[int, int] = {1: 0, 2: 0}

    def watch(event: Event) -> None:
        if isinstance(event, EpochDone):
            epochs[event.metrics.fold] += 1
            if min(epochs.values()) >= 1:
                raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        run(dataset, plan, tmp_path / "run", watch, ExecutionOptions(folds_at_once=2))
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith(("fold", "loader")) for name in names)
    for fold in (1, 2):
        kept = load_checkpoint(tmp_path / "run" / f"fold{fold}" / "last.pt")
        rows = [row.epoch for row in read_metrics(tmp_path / "run") if row.fold == fold]
        assert rows[-1] - kept.epoch in (0, -1)
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_what_falls_back_on_the_way_is_told_once_and_is_in_the_result(tmp_path: Path) -> None:
    dataset, plan = tiny_plan(batch_size=12)  # seven steps per stage
    update = {"acceleration": "graph", "stages": plan.config.stages[:1]}
    plan = replace(plan, config=plan.config.model_copy(update=update))
    shown: list[str] = []
    result = run(
        dataset,
        plan,
        tmp_path / "run",
        lambda event: shown.append(event.message) if isinstance(event, Warned) else None,
    )
    (message,) = shown
    assert message.startswith("no CUDA graph of the step, so it runs eagerly: ")
    assert result.warnings[-1] == message


@pytest.mark.slow
def test_a_stream_gives_bit_equal_losses_and_the_record_says_so(
    finished: Finished, tmp_path: Path
) -> None:
    out, result, _ = finished
    dataset, plan = tiny_plan(folds=(2,), epochs_scale=0.03)
    streamed = run(dataset, plan, tmp_path / "streamed", execution=ExecutionOptions("stream"))
    assert losses(tmp_path / "streamed", 2) == losses(out, 2)
    assert set(result.placements.values()) == {"host"}
    assert set(streamed.placements) == {"R1/resize", "R2/resize", "R3/full"}
    assert set(streamed.placements.values()) == {"stream"}
    assert streamed.config == result.config.model_copy(update={"folds": (2,)})


def test_each_epoch_says_what_share_of_it_was_waiting_for_data(finished: Finished) -> None:
    out, _, _ = finished
    shares = [row.wait_share for row in read_metrics(out) if row.fold == 1]
    assert all(0 < share < 1 for share in shares)
    events = EventAccumulator(str(out / "tensorboard" / "fold1")).Reload()
    logged = [point.value for point in events.Scalars("speed/wait_share")]
    assert logged == pytest.approx(shares, abs=1e-6)


def with_rates(plan: Plan, *rates: float) -> Plan:
    stages = tuple(
        stage.model_copy(update={"max_lr": rate})
        for stage, rate in zip(plan.config.stages, rates, strict=False)
    )
    return replace(plan, config=plan.config.model_copy(update={"stages": stages}))


def test_another_seed_and_another_fold_start_elsewhere(finished: Finished, tmp_path: Path) -> None:
    out, _, _ = finished
    dataset, plan = tiny_plan(seed=1)
    run(dataset, with_rates(plan, 1e-2), tmp_path / "seed1")
    first = {losses(out, 1)[0], losses(out, 2)[0], losses(tmp_path / "seed1", 1)[0]}
    assert len(first) == 3


def test_each_stage_starts_from_the_best_so_far(tmp_path: Path) -> None:
    # Three more stages that cannot learn: each must leave the best network as it is.
    dataset, plan = tiny_plan()
    plan = with_rates(plan, 5e-3, 1e-30, 1e-30)
    run(dataset, plan, tmp_path / "run")
    best = load_checkpoint(tmp_path / "run" / "fold1" / "best.pt").model
    last = load_checkpoint(tmp_path / "run" / "fold1" / "last.pt").model
    weights = [name for name in best if name.endswith("weight")]
    assert all(torch.equal(best[name], last[name]) for name in weights)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_network(
    tmp_path: Path,
) -> None:
    dataset, plan = tiny_plan()
    plan = with_rates(plan, 1e-3, 1e30)
    with pytest.raises(DivergedError, match=r"fold 1, stage 2 .*λ 1e\+30.*epoch 2") as caught:
        run(dataset, plan, tmp_path / "run")
    last = tmp_path / "run" / "fold1" / "last.pt"
    assert f"the last good model is {last}. " in str(caught.value)
    kept = load_checkpoint(last)
    assert kept.epoch == 1
    assert all(torch.isfinite(value).all() for value in kept.model.values())
    assert len(read_metrics(tmp_path / "run")) == 1
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_directory_that_holds_a_run_is_refused_untouched(finished: Finished) -> None:
    out, _, _ = finished
    before = (out / "run.json").read_bytes(), (out / "result.json").read_bytes()
    dataset, plan = tiny_plan()
    with pytest.raises(RunDirectoryError, match=r"already holds a run.*--out"):
        run(dataset, plan, out)
    assert ((out / "run.json").read_bytes(), (out / "result.json").read_bytes()) == before


def test_a_place_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    dataset, plan = tiny_plan()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunDirectoryError, match="not a directory"):
        run(dataset, plan, tmp_path / "file")
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        run(dataset, plan, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is asked")
def test_a_process_does_not_grow_with_every_run(tmp_path: Path) -> None:
    dataset, plan = tiny_plan(folds=(1, 2))
    sizes = []
    for number in range(4):
        run(dataset, plan, tmp_path / str(number), execution=ExecutionOptions(folds_at_once=2))
        gc.collect()
        sizes.append(psutil.Process().memory_info().rss)
    assert sizes[-1] - sizes[0] < 150e6
