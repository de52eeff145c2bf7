"""Terminal output of `trainer run`: plan, progress, estimated time, result."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Self

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from featurestore import StoredDataset
from featurestore.bars import progress_bars
from featurestore.terminal import Label, Table, Terminal, styled
from featurestore.text import quantity, shorten
from schemas import FoldResult, MultilabelScores, RunConfig, RunRecord, RunResult, Stage
from trainer.recipes import unlike_paper
from trainer.records.finished import score_of
from trainer.selection import RULES, carrying, other_images, unused_settings
from trainer.stats import mean, sample_std
from trainer.training import events
from trainer.training.schedule import layer_ratios, num_steps

_MEDIUM = 80
"""Terminal width in columns from which the time so far fits next to the time left."""
PLACEMENTS = {"device": "on the device", "host": "in host memory", "stream": "as a stream"}


def print_plan(
    console: Terminal,
    dataset: StoredDataset,
    config: RunConfig,
    folds_at_once: int,
    *,
    started: bool = False,
) -> None:
    """Print the plan of a run; measured learning rates are known only once it has started."""
    folds = ", ".join(dataset.fold_names.get(fold, str(fold)) for fold in config.folds)
    console.say(
        f"{config.method} on {dataset.name}: {quantity(len(dataset.clips()), 'clip')}, "
        f"{len(dataset.class_names)} classes, held-out folds {folds} of {len(dataset.folds)}",
        f"{config.arch} on {config.device} in {config.precision}, initial weights {config.init}, "
        f"batches of {config.batch_size}, seed {config.seed}, epochs × {config.epochs_scale:g}",
        f"execution: {config.acceleration} · folds in parallel: {folds_at_once} · "
        f"threads per fold: {config.threads} · model selection: {config.selection}",
    )
    if pieces := unlike_paper(config, unused_settings(config)):
        console.say(f"not as in recipe paper: {' · '.join(pieces)}")
    rates = started or config.max_lr_from != "measured"
    table = Table("stage", "array", "bands, frames", "epochs", "λ head", "λ body")
    for number, stage in enumerate(config.stages, start=1):
        bands, frames = dataset.shape(stage.array)
        table.add_row(
            str(number),
            " / ".join(filter(None, (stage.array, stage.alternate))),
            f"{bands}, {frames}",
            str(stage.epochs),
            f"{stage.max_lr:.3g}" if rates else "measured",
            ", ".join(f"{rate:.3g}" for rate in _body_rates(stage, config)) if rates else "",
        )
    console.print(table)


def _body_rates(stage: Stage, config: RunConfig) -> list[float]:
    """Return the peak learning rates of the body's layer groups, each different one once."""
    ratios = layer_ratios(stage.body_lr_ratio, config.layer_groups)
    return list(dict.fromkeys(stage.max_lr * ratio for ratio in ratios[:-1]))


def print_result(console: Terminal, result: RunResult) -> None:
    """Print the score of every fold, and mean ± sample standard deviation over folds.

    The score is accuracy, or, with several labels, mean average precision, followed by the other
    scores of the reported network.
    """
    selection, several = result.config.selection, result.config.task == "multilabel"
    of = "mAP " if several else ""
    columns: dict[str, list[str]] = {"fold": [str(fold.fold) for fold in result.folds]}
    columns["clips"] = [str(fold.num_test) for fold in result.folds]
    for name in RULES[selection].checkpoints:
        scores = [score_of(fold, name) for fold in result.folds]
        columns[f"{name} {of}%"] = [*map(_percent, scores), _over_folds(scores)]
        if name == "best":
            columns["at epoch"] = [f"{f.best_epoch} of {f.last_epoch}" for f in result.folds]
    table = Table(*columns)
    *rows, means = zip_longest(*columns.values(), fillvalue="")
    for row in rows:
        table.add_row(*row)
    table.add_section()
    table.add_row("mean ± std", *means[1:])
    console.print(table)
    if several:
        table = Table("fold", *SCORES_COLUMNS)
        for fold in result.folds:
            counted = RULES[selection].checkpoints[0]
            of_labels = fold.best_scores if counted == "best" else fold.last_scores
            table.add_row(str(fold.fold), *(scores_cells(of_labels) if of_labels else ()))
        console.print(table)
    console.print(RULES[selection].summary)
    if "run" in (result.config.carry, result.config.best_of) and (rules := carrying(result.config)):
        console.print(f"In this run {rules}: these are not the rules of the paper's code.")
    if unlike := other_images(result):
        console.warn(unlike)


def scores_cells(scores: MultilabelScores) -> tuple[str, ...]:
    """Return mAP, number of classes that occur, AUC, d' and lwlrap as table cells."""
    d_prime = "-" if scores.d_prime is None else f"{scores.d_prime:.3f}"
    return (
        *(_percent(scores.map), str(scores.num_classes)),
        *(_percent(scores.auc), d_prime, _percent(scores.lwlrap)),
    )


SCORES_COLUMNS = ("mAP %", "classes", "AUC %", "d′", "lwlrap %")


def _percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.2f}"


def _over_folds(accuracies: Sequence[float | None]) -> str:
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    std = sample_std(known)
    return _percent(mean(known)) + (f" ± {_percent(std)}" if std is not None else "")


_EVALUATION = 1 / 3
"""Cost of evaluating a clip, relative to training on it: backward costs two forward passes."""
_GFLOPS = {"resnet18": 1.81, "resnet34": 3.66, "resnet50": 4.09}
"""GFLOPs of a forward pass at 224×224. Source: torchvision's table of models."""
_WARM_UP = 2
"""Number of first steps not timed: they allocate memory, and choose and compile kernels."""
_LEAST_STEPS, _LEAST_S = 5, 5.0
_LONG_S = 3600.0
_SHORT_SCALE = 0.1


class Estimator:
    """Times the first steps of a run, and estimates once how long a long run will take.

    The time of a step is assumed proportional to the number of points of an image, as for
    convolutions.

    Args:
        config: Config of the run.
        steps: Number of steps per epoch, by held-out fold.
        evaluated: Number of clips evaluated after each epoch, by held-out fold.
        points: Bands × frames, by array.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        config: RunConfig,
        steps: Mapping[int, int],
        evaluated: Mapping[int, int],
        points: Mapping[str, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._points = config, points
        # In steps of training per epoch, over all folds.
        self._work = sum(steps.values()) + _EVALUATION * sum(evaluated.values()) / config.batch_size
        self._clock = clock
        self._counted = -_WARM_UP
        self._since = 0.0
        self._done = False

    def stop(self) -> None:
        """Stop timing: what follows is not a first step."""
        self._done = True

    def step(self) -> str:
        """Count a step of the first stage; return the estimate as a line once it is known, else "".

        The line is returned for long runs only.
        """
        if self._done:
            return ""
        self._counted += 1
        if self._counted == 0:
            self._since = self._clock()
        passed = self._clock() - self._since
        if self._counted < _LEAST_STEPS or passed < _LEAST_S:
            return ""
        self.stop()
        seconds = self.whole(passed / self._counted)
        return self._line(seconds) if seconds >= _LONG_S else ""

    def whole(self, step_s: float) -> float:
        """Return the seconds for all folds, if a step of the first stage takes `step_s`.

        The evaluation after each epoch is included. Folds in parallel share the machine: their
        steps take turns.
        """
        first = self._points[self._config.stages[0].array]
        cost = sum(s.epochs * self._points[s.array] / first for s in self._config.stages)
        return step_s * cost * self._work

    def _line(self, seconds: float) -> str:
        text = f"about {duration(seconds)} in all, by the first steps"
        config, less = self._config, 1.0
        options = []
        gflops = _GFLOPS.get(config.arch, 0.0)  # of timm's models it is not known
        if gflops and (ratio := _GFLOPS["resnet18"] / gflops) < 1:
            options.append("--arch resnet18")
            less *= ratio
        if config.epochs_scale > _SHORT_SCALE:
            options.append(f"--epochs-scale {_SHORT_SCALE}")
            less *= _SHORT_SCALE / config.epochs_scale
        if not options:
            return text
        return f"{text}; with {' '.join(options)} about {duration(seconds * less)}"


def duration(seconds: float) -> str:
    """Return a duration in words, such as 40 s, 12 min, 4 h, 2.5 days."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{max(1, math.floor(seconds / size + 0.5))} {unit}"
    return f"{seconds / 86400:.1f} days"


class ProgressView:
    """A bar over all steps of the run, one for each fold in training, and a line per finished fold.

    A context manager; to be called with each event, from one thread at a time.

    Args:
        console: Console to draw on.
        config: Config of the run.
        num_train: Number of training clips, by held-out fold.
        num_valid: Number of clips evaluated after each epoch, by held-out fold.
        points: Bands × frames, by array.
    """

    def __init__(
        self,
        console: Terminal,
        config: RunConfig,
        num_train: Mapping[int, int],
        num_valid: Mapping[int, int],
        points: Mapping[str, int],
    ) -> None:
        self._console = console
        self._width = console.width
        self._config = config
        self._epochs = sum(stage.epochs for stage in config.stages)
        self._progress = progress_bars(console, *_columns(self._width), transient=True)
        per_epoch = {fold: num_steps(n, config.batch_size) for fold, n in num_train.items()}
        self._steps = {fold: self._epochs * steps for fold, steps in per_epoch.items()}
        self._estimator = Estimator(config, per_epoch, num_valid, points)
        self._places: dict[int, tuple[str, ...]] = {}
        self._bars: dict[int, TaskID] = {}
        self._before: dict[str, TaskID] = {}
        self._whole = self._progress.add_task("initial weights", total=sum(self._steps.values()))

    def __call__(self, event: events.Event) -> None:
        """Show what happened."""
        match event:
            case events.BatchDone(fold):
                self._show_batch(fold)
            case events.EpochDone(metrics):
                self._estimator.stop()
                self._describe(metrics.fold, *_epoch_texts(event, self._epochs))
            case events.WeightsComing(progress):
                size = f", {progress.total / 1e6:.0f} MB" if progress.total else ""
                line = f"downloading ImageNet's weights of {self._config.arch}{size}"
                text = f"{progress.step} {progress.done / 1e6:.0f} MB {progress.note}"
                text = shorten(f"initial weights · {text}", _room(self._width))
                self._show_before("weights", line, text, progress.done, progress.total)
            case events.RatesComing(done, most):
                line = "measuring the learning rates by a range test of each stage"
                self._show_before("rates", line, "range tests", done, most)
            case events.StageStarted(fold, number, stage):
                place = f"stage {number}/{len(self._config.stages)}"
                self._places[fold] = (f"{place} {stage.array}", stage.array, place)
                self._describe(fold, *(f"{text}: reading" for text in self._places[fold]))
            case events.FoldStarted(fold, epochs_done):
                self._show_fold(fold, epochs_done)
            case events.FoldDone(result):
                self._progress.remove_task(self._bars.pop(result.fold))
                self._console.say(f"fold {result.fold}: {fold_text(result)}")
            case events.Warned(message):
                self._console.warn(message)
            case events.RunStarted(record):
                self._show_start(record)

    def _show_batch(self, fold: int) -> None:
        self._progress.advance(self._whole)
        self._progress.advance(self._bars[fold])
        if where := self._places.pop(fold, ()):
            self._describe(fold, *where)
        if line := self._estimator.step():
            self._console.say(line)

    def _show_fold(self, fold: int, epochs_done: int) -> None:
        if epochs_done:
            self._estimator.stop()
        done = self._steps[fold] // self._epochs * epochs_done
        self._bars[fold] = self._progress.add_task("", total=self._steps[fold])
        self._progress.update(self._bars[fold], completed=done)
        self._progress.advance(self._whole, done)

    def _show_start(self, record: RunRecord) -> None:
        for task in self._before.values():
            self._progress.remove_task(task)
        several = len(self._steps) > 1
        self._progress.update(self._whole, description="all folds", visible=several)
        lie = ", ".join(f"{array} {PLACEMENTS[how]}" for array, how in record.placements.items())
        self._console.say(f"placement: {lie}")
        for test in record.range_tests:
            numbers = " and ".join(map(str, test.stages))
            self._console.say(f"stage {numbers}: λ {test.max_lr:.3g}, {test.reason}")
        for warning in record.warnings:
            self._console.warn(warning)

    def _show_before(
        self, what: str, line: str, description: str, done: int, most: int | None
    ) -> None:
        """Show what precedes the training: a bar, and a line where no terminal shows it."""
        if what not in self._before:
            self._console.say(line)
            self._before[what] = self._progress.add_task("")
        shown: dict[str, Any] = {"description": description, "total": most, "completed": done}
        self._progress.update(self._before[what], **shown)

    def _describe(self, fold: int, *texts: str) -> None:
        """Show the first of the texts for which there is room."""
        room, lines = _room(self._width), [f"fold {fold} · {text}" for text in texts]
        fitting = next((line for line in lines if len(line) <= room), shorten(lines[-1], room))
        self._progress.update(self._bars[fold], description=fitting)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _epoch_texts(event: events.EpochDone, epochs: int) -> tuple[str, ...]:
    """Return the metrics of an epoch, from all in words to the least."""
    metrics = event.metrics
    epoch, score = f"{metrics.epoch}/{epochs}", f"{_percent(metrics.score)} %"
    name = "accuracy" if metrics.valid_map is None else "mAP"
    stage = f"stage {metrics.stage} {metrics.array}"
    best = f"(best {_percent(event.best_score)})"
    return (
        f"{stage} · epoch {epoch} · loss {metrics.train_loss:.3f} · {name} {score} {best}",
        f"{stage} · {epoch} · {score}",
        f"{metrics.array} · {epoch} · {score}",
        f"{epoch} · {score}",
    )


class _Elapsed(ProgressColumn):
    """The time so far in hours, minutes and seconds, as short after days as after hours."""

    def render(self, task: Task) -> RenderableType:
        """Return the time, such as 36:00:00."""
        minutes, seconds = divmod(int(task.elapsed or 0), 60)
        return styled(f"{minutes // 60}:{minutes % 60:02}:{seconds:02}", style="progress.elapsed")


def _columns(width: int) -> list[ProgressColumn]:
    """Return what fits next to a description: the bar and the time left always."""
    left = [TextColumn("left"), TimeRemainingColumn()]
    if width < _MEDIUM:
        return [Label(), BarColumn(6), *left]
    return [Label(), BarColumn(10), _Elapsed(), *left]


def _room(width: int) -> int:
    """Return the characters that the columns leave for a description."""
    return width - (20 if width < _MEDIUM else 32)


def fold_text(result: FoldResult) -> str:
    """Return the scores of a finished fold and the time it took."""
    scores = []
    name = "mAP " if result.best_scores or result.last_scores else ""
    if result.best_score is not None:
        scores.append(f"best {name}{_percent(result.best_score)} % (epoch {result.best_epoch})")
    if result.last_score is not None:
        scores.append(f"last {name}{_percent(result.last_score)} %")
    return f"{', '.join(scores)}, {result.seconds:.0f} s"
