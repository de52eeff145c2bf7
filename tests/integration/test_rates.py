"""Learning rates that are measured before a training, or given by hand."""

from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featurestore import StoredDataset
from schemas import Cycle, RunRecord
from tests.integration.test_trainer_run import read_metrics
from tests.integration.trainer_store import tiny_plan
from trainer.config import ExecutionOptions, RunOptions, TrainingOptions, checked
from trainer.data.split import split_fold
from trainer.errors import ConfigError, ResumeError
from trainer.plan import Plan, plan_run
from trainer.records.rundir import RECORD
from trainer.run import begin, resume, run
from trainer.sweep import SweepRun, start
from trainer.training.events import Event, RatesComing
from trainer.training.lr_find import clips_for_rates
from trainer.training.schedule import Schedule
from trainer.training.stage import StageTrainer

CYCLES = (
    Cycle(array="R1/resize", epochs=1, max_lr=1e-3),
    Cycle(array="R1/resize", epochs=1, max_lr=1e-4),
)


def measured(**options: object) -> tuple[StoredDataset, Plan]:
    """Two short stages of one array, which share a range test."""
    pieces = {"method": "own", "own_methods": {"own": CYCLES}, "max_lr": "auto", "batch_size": 16}
    return tiny_plan(**(pieces | {"epochs_scale": 1.0} | options))


@pytest.fixture(scope="module")
def auto(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """A run of folds 1 and 2 with measured rates, and its events."""
    out = tmp_path_factory.mktemp("auto") / "run"
    events: list[Event] = []
    dataset, plan = measured(folds=(1, 2))
    run(dataset, plan, out, events.append)
    return out, events


def test_rates_are_measured_once_recorded_and_the_same_in_every_fold(
    auto: tuple[Path, list[Event]],
) -> None:
    out, events = auto
    record = RunRecord.model_validate_json((out / RECORD).read_bytes())
    (test,) = record.range_tests
    assert (test.stages, test.folds) == ((1, 2), (3,)), "fold 3 is what both folds train on"
    assert 1e-5 < test.max_lr < 1
    assert [stage.max_lr for stage in record.config.stages] == [test.max_lr] * 2
    assert record.config.max_lr_from == "measured"
    rows = read_metrics(out)
    assert {row.max_lr for row in rows} == {test.max_lr}
    assert {row.fold for row in rows} == {1, 2}
    steps = [event for event in events if isinstance(event, RatesComing)]
    assert [event.done for event in steps] == list(range(1, test.num_steps + 1))


@pytest.mark.slow
def test_another_seed_measures_the_same_rates(
    auto: tuple[Path, list[Event]], tmp_path: Path
) -> None:
    dataset, plan = measured(folds=(1, 2), seed=7)
    begin(dataset, plan, tmp_path / "run")
    first, second = (
        RunRecord.model_validate_json((path / RECORD).read_bytes())
        for path in (auto[0], tmp_path / "run")
    )
    assert second.range_tests == first.range_tests


def test_a_sweep_finds_the_run_that_has_measured_its_rates_and_no_other(
    auto: tuple[Path, list[Event]], tmp_path: Path
) -> None:
    place = tmp_path / "runs" / "own"
    place.mkdir(parents=True)
    (place / RECORD).write_bytes((auto[0] / RECORD).read_bytes())
    swept = SweepRun("own", TrainingOptions(method="own"))
    dataset, plan = measured(folds=(1, 2))
    start(dataset, swept, tmp_path, ExecutionOptions(), plan)
    _, other = measured(folds=(1, 2), max_lr="1e-3,1e-3")
    with pytest.raises(ResumeError, match="max_lr_from"):
        start(dataset, swept, tmp_path, ExecutionOptions(), other)


class _StoppedError(Exception):
    pass


def test_a_run_stopped_while_it_measures_leaves_nothing_and_afterwards_keeps_its_rates(
    auto: tuple[Path, list[Event]], tmp_path: Path
) -> None:
    out, _ = auto
    dataset, plan = measured(folds=(1, 2))

    def stop(event: Event) -> None:
        if isinstance(event, RatesComing):
            raise _StoppedError

    with pytest.raises(_StoppedError):
        begin(dataset, plan, tmp_path / "run", stop)
    assert not (tmp_path / "run" / RECORD).exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / RECORD).write_bytes((out / RECORD).read_bytes())
    resume(dataset, tmp_path / "run", lambda event: None)
    assert [(r.train_loss, r.max_lr) for r in read_metrics(tmp_path / "run")] == [
        (r.train_loss, r.max_lr) for r in read_metrics(out)
    ]


def test_no_clip_that_a_fold_holds_out_is_trained_on_to_measure_where_others_are_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset, plan = measured(folds=(1, 2), selection="validation")
    seen: set[int] = set()
    steps = StageTrainer.steps

    def watched(self: StageTrainer, order, seed, waiting):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        windows = list(order)
        seen.update(np.concatenate([window.rows for window in windows]).tolist())
        return steps(self, windows, seed, waiting)

    monkeypatch.setattr(StageTrainer, "steps", watched)
    with pytest.raises(_StoppedError):
        begin(dataset, plan, tmp_path / "run", _stop_later(30))
    folds = dataset.clips([2, 3]).fold
    apart = split_fold(dataset, plan.config, 1).apart
    assert apart is not None
    assert set(folds[sorted(seen)]) == {3}
    assert not apart[sorted(seen)].any(), "nor one that is set apart for validation"


def _stop_later(count: int):  # type: ignore[no-untyped-def] # noqa: ANN202
    def watch(event: Event) -> None:
        if isinstance(event, RatesComing) and event.done == count:
            raise _StoppedError

    return watch


def test_rates_are_measured_up_to_the_end_of_the_recipes_sweep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset, paper = measured(folds=(1, 2))
    spec = dataset.manifest.spec.model_copy(update={"mel_scale": "torchaudio-2019"})
    filtered = copy(dataset)
    filtered.manifest = dataset.manifest.model_copy(update={"spec": spec})
    options = TrainingOptions(recipe="fastai-2019", arch="resnet18", max_lr="auto")
    fastai = plan_run(filtered, replace(options, method="own", own_methods={"own": CYCLES}))
    schedules: list[Schedule] = []
    steps = StageTrainer.steps

    def watched(self: StageTrainer, *given):  # type: ignore[no-untyped-def] # noqa: ANN002, ANN202
        schedules.append(self._schedule)
        return steps(self, *given)

    monkeypatch.setattr(StageTrainer, "steps", watched)
    for plan in (paper, replace(paper, sweep_end=fastai.sweep_end)):
        with pytest.raises(_StoppedError):
            begin(dataset, plan, tmp_path / "run", _stop_later(1))
    assert schedules[0].lr(99) == pytest.approx(10)
    assert schedules[-1].lr(99) == pytest.approx(8.3, abs=0.05)


def test_where_every_fold_is_held_out_the_plan_says_that_the_rates_have_seen_them() -> None:
    dataset, plan = measured(folds=(1, 2, 3))
    assert clips_for_rates(dataset, (1, 2, 3)) == (2, 3)
    assert any("learning rates are measured on what is trained on" in w for w in plan.warnings)
    assert not any("learning rates" in w for w in measured(folds=(1, 2))[1].warnings)


def test_rates_are_given_one_per_stage_and_recorded_as_given() -> None:
    _, plan = tiny_plan(method="baseline", max_lr="1e-2, 3e-4,1e-6")
    assert [stage.max_lr for stage in plan.config.stages] == [1e-2, 3e-4, 1e-6]
    assert plan.config.max_lr_from == "given"
    _, listed = tiny_plan(method="baseline", max_lr=(1e-2, 3e-4, 1e-6))
    assert listed.config == plan.config
    for given in ([1e-2, 3e-4, 1e-6], np.array([1e-2, 3e-4, 1e-6]), (1, 2.0, 3)):
        taken = checked(RunOptions, "train", {"max_lr": given}).max_lr
        assert taken == tuple(map(float, given))
    for wrong in ([1e-2, "x"], 5, [None], {}):
        with pytest.raises(ConfigError, match="max_lr"):
            checked(RunOptions, "train", {"max_lr": wrong})
    assert not any("learning rates" in warning for warning in plan.warnings)


@pytest.mark.parametrize("text", ["1e-2", "1e-2,1e-2,x", "1,2,0", "1,2,inf", "1,2,nan", "", "Auto"])
def test_rates_that_are_not_one_number_per_stage_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected 3 numbers above 0 with commas, one per stage"):
        tiny_plan(method="baseline", max_lr=text)


def test_a_dataset_without_rates_is_told_of_both_ways_to_have_some() -> None:
    _, plan = tiny_plan()
    (warning,) = (w for w in plan.warnings if "no learning rates" in w)
    assert "--max-lr auto measures them, and --max-lr X,Y,… gives them by hand" in warning


def test_a_method_of_ones_own_needs_no_rate_for_the_dataset_if_some_are_given() -> None:
    only = {"max_lr": {"urbansound8k": 1e-2}}
    cycles = tuple(cycle.model_copy(update=only) for cycle in CYCLES)
    with pytest.raises(ConfigError, match="max_lr has no value"):
        measured(own_methods={"own": cycles}, max_lr=None)
    _, plan = measured(own_methods={"own": cycles}, max_lr="1e-3,1e-4")
    assert [stage.max_lr for stage in plan.config.stages] == [1e-3, 1e-4]
