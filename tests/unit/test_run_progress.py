"""The display of a training run: readable on narrow terminals, and an estimate for long runs."""

import io
import re

import pytest
from rich.progress import ProgressSample

from featurestore.terminal import Table, Terminal
from schemas import EpochMetrics, RunConfig, Stage
from trainer.console import Estimator, ProgressView, duration
from trainer.training.events import BatchDone, EpochDone, FoldStarted, StageStarted

STAGES = (
    Stage(array="R1/mel-time", epochs=60, max_lr=0.01),
    Stage(array="R3/full", epochs=40, max_lr=0.01),
)
POINTS = {"R1/mel-time": 100, "R3/full": 500}


def config(arch: str = "resnet34", epochs_scale: float = 1.0) -> RunConfig:
    return RunConfig.model_validate(
        {
            "dataset": "esc10",
            "method": "mel",
            "folds": (1, 2),
            "stages": STAGES,
            "arch": arch,
            "init": "random",
            "batch_size": 10,
            "seed": 0,
            "device": "cpu",
            "precision": "float32",
            "acceleration": "eager",
            "threads": 1,
            "epochs_scale": epochs_scale,
        }
    )


def test_the_plan_is_cut_nowhere_in_a_narrow_terminal() -> None:
    screen = io.StringIO()
    table = Table("stage", "array", "bands, frames", "epochs", "λ head", "λ body")
    table.add_row("1", "R1/mel / R1/resize", "64, 128", "20", "measured", "0.00167")
    Terminal(file=screen, width=60).print(table)
    assert "…" not in screen.getvalue()
    assert max(map(len, screen.getvalue().splitlines())) <= 60


def view(width: int) -> tuple[ProgressView, io.StringIO]:
    screen = io.StringIO()
    console = Terminal(file=screen, force_terminal=True, width=width)
    return ProgressView(console, config(), {1: 320, 2: 320}, {1: 80, 2: 80}, POINTS), screen


def drawn(shown: ProgressView, width: int) -> str:
    """Return the bars as they are drawn on a terminal."""
    screen = io.StringIO()
    console = Terminal(file=screen, width=width, force_terminal=True, color_system="standard")
    console.print(shown._progress.get_renderable())
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())


def epoch(fold: int, stage: int, number: int, array: str = "") -> EpochDone:
    metrics = EpochMetrics(
        fold=fold,
        stage=stage,
        epoch=number,
        array=array or STAGES[stage - 1].array,
        max_lr=0.01,
        train_loss=1.2345,
        valid_loss=1.5,
        valid_accuracy=0.4567,
        seconds=9.0,
        samples_per_s=33.0,
    )
    return EpochDone(metrics, 0.5)


@pytest.mark.parametrize("width", [60, 80, 130])
def test_the_bar_and_the_time_left_are_there_on_terminals_of_any_width(width: int) -> None:
    shown, _ = view(width)
    for fold in (1, 2):
        shown(FoldStarted(fold))
        shown(StageStarted(fold, 1, STAGES[0]))
    shown(BatchDone(2))
    shown(epoch(1, 1, 12))
    lines = [line for line in drawn(shown, width).splitlines() if line.startswith("fold ")]
    assert len(lines) == 2
    for line in lines:
        assert len(line) <= width
        assert "━" * 6 in line
        assert "left" in line
        assert "-:--:--" in line
        assert "…" not in line
        assert "R1/mel-time" in line
    assert "12/100" in lines[0]
    assert "45.67 %" in lines[0]
    assert ("loss 1.234" in lines[0]) == (width == 130)


@pytest.mark.parametrize("width", [60, 80, 100, 130])
@pytest.mark.parametrize("array", ["R3/full", "R1/mel-time", "R1/resize-lanczos-antialias"])
def test_no_number_is_cut_whatever_the_fold_the_array_and_how_many_hours_or_days_are_left(
    width: int, array: str
) -> None:
    console = Terminal(file=io.StringIO(), force_terminal=True, width=width)
    shown = ProgressView(console, config(), {10: 320}, {10: 80}, POINTS)
    shown(FoldStarted(10))
    shown(epoch(10, 1, 100, array))
    for task in shown._progress.tasks:
        assert task.start_time is not None
        task.start_time -= 36 * 3600
        task._progress.extend(ProgressSample(at, 1.0) for at in (0.0, 100.0))
    (line,) = [line for line in drawn(shown, width).splitlines() if line.startswith("fold ")]
    assert len(line) <= width
    assert "…" not in line
    assert re.search(
        r"fold 10 · .*\b100/100 · .*45\.67 %.* ━+ .*left \d\d:\d\d:\d\d$", line.strip()
    )
    assert (" 36:00:0" in line) == (width >= 80)
    shown(StageStarted(10, 1, STAGES[0].model_copy(update={"array": array})))
    assert re.search(r"fold 10 · .*: reading ", drawn(shown, width))


def test_a_fold_is_said_to_read_only_until_its_first_step() -> None:
    shown, _ = view(80)
    shown(FoldStarted(1))
    for number, stage in enumerate(STAGES, start=1):
        shown(StageStarted(1, number, stage))
        assert f"stage {number}/2 {stage.array}: reading" in drawn(shown, 80)
        shown(BatchDone(1))
        assert "reading" not in drawn(shown, 80)
        assert f"stage {number}/2 {stage.array}" in drawn(shown, 80)


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(step_s: float, arch: str = "resnet34", scale: float = 1.0) -> list[str]:
    clock = Clock()
    estimator = Estimator(config(arch, scale), {1: 32, 2: 32}, {}, POINTS, clock)
    said = []
    for number in range(60):
        clock.now += 20 if number < 2 else step_s  # the first steps compile
        said += [line for line in [estimator.step()] if line]
    return said


def test_a_long_run_is_estimated_once_from_its_first_steps_with_what_makes_it_shorter() -> None:
    # 64 steps per epoch of both folds, 60 epochs at 1 × and 40 at 5 × the first stage's points.
    (line,) = lines_of(step_s=1.0)
    hours = 64 * (60 + 40 * 5) / 3600
    assert line == (
        f"about {hours:.0f} h in all, by the first steps; with --arch resnet18 --epochs-scale 0.1 "
        "about 14 min"
    ).replace("14 min", duration(3600 * hours * 0.1 * 1.81 / 3.66))


def test_a_run_that_is_small_already_gets_no_advice_and_a_short_one_no_estimate() -> None:
    (line,) = lines_of(step_s=30.0, arch="resnet18", scale=0.1)
    assert line == f"about {duration(30 * 64 * 260)} in all, by the first steps"
    assert lines_of(step_s=0.1) == []


def test_an_estimate_includes_the_evaluation_after_each_epoch_at_a_third_of_training() -> None:
    steps, points = {1: 32, 2: 32}, POINTS
    alone, both = (Estimator(config(), steps, n, points) for n in ({}, {1: 320, 2: 320}))
    assert both.whole(1.0) == pytest.approx(alone.whole(1.0) * (1 + 1 / 3))


def test_no_estimate_is_made_after_an_epoch_or_of_a_resumed_run() -> None:
    clock = Clock()
    estimator = Estimator(config(), {1: 32, 2: 32}, {}, POINTS, clock)
    estimator.stop()
    for _ in range(60):
        clock.now += 100
        assert estimator.step() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (5400, "2 h"), (4 * 3600, "4 h")],
)
def test_durations_are_told_in_the_unit_that_suits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert duration(6.02 * 86400) == "6.0 days"
