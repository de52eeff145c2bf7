"""`trainer lr-find`: an LR range test of one stage of a method."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, TimeRemainingColumn

from featurestore.bars import progress_bars
from featurestore.program import QuietOption
from featurestore.terminal import Label, Terminal
from featurestore.text import quantity
from schemas import LrFind
from trainer.commands.options import StoreOption, grouped
from trainer.config import (
    DatasetOption,
    PlacementOption,
    StepOptions,
    TrainingOptions,
    complete_method,
)

if TYPE_CHECKING:
    from trainer.training.lr_find import Curve

REGULARISERS = ("mixup", "freq_mask", "time_mask", "label_smoothing")
TABLE, RESULT = "lr-find.csv", "lr-find.json"
PICTURE, VECTOR = "lr-find.png", "lr-find.svg"


@grouped
def lr_find(
    *,
    store: StoreOption,
    method: Annotated[
        str,
        typer.Option(
            help="Method whose stage is tested, as for `run`.", autocompletion=complete_method
        ),
    ],
    stage: Annotated[int, typer.Option(min=1, help="Stage number, from 1.")] = 1,
    dataset: DatasetOption = None,
    fold: Annotated[
        str | None,
        typer.Option(
            help="Held-out fold, by number or name, which is left out. Default: the first."
        ),
    ] = None,
    step: StepOptions,
    placement: PlacementOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("lr-find"),
    quiet: QuietOption = False,
) -> None:
    """Run an LR range test: train at increasing learning rates until the loss diverges."""
    from featurestore import open_store
    from trainer.data.split import default_folds
    from trainer.plan import few_steps_warning, plan_run
    from trainer.safefiles import output_folder
    from trainer.training.lr_find import NUM_STEPS, find_lr
    from trainer.training.schedule import Sweep

    stored = open_store(store, dataset)
    folds = default_folds(stored)[:1] if fold is None else (fold,)
    options = TrainingOptions(method=method, folds=folds, **step.values())
    plan = plan_run(stored, options)
    sweep = Sweep(NUM_STEPS, end=plan.sweep_end)
    console = Terminal()
    with output_folder(out, (TABLE, RESULT, PICTURE, VECTOR)):
        columns = Label(), BarColumn(), TimeRemainingColumn()
        with progress_bars(console, *columns, transient=True) as bar:
            task = bar.add_task("steps", total=NUM_STEPS)
            curve, record, warnings = find_lr(
                stored, plan.config, stage, lambda: bar.advance(task), placement, sweep
            )
        written = write_lr_find(out, curve, record)
    # That is about the schedule, of which nothing is trained here.
    untrained = few_steps_warning(plan.config, min(plan.num_train.values()))
    for warning in (*(one for one in plan.warnings if one != untrained), *warnings):
        console.warn(warning)
    console.say(*_lines(record), written)


def write_lr_find(out: Path, curve: "Curve", record: LrFind) -> str:
    """Write the table, the result and the figure to a folder; return a line for the user.

    Raises:
        RunDirectoryError: The folder cannot be written.
    """
    from trainer.report.curves import lr_picture
    from trainer.safefiles import record_bytes, write_outputs

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["step", "lr", "loss", "smoothed"])
    steps = zip(curve.lrs, curve.losses, curve.smoothed, strict=True)
    writer.writerows([number, *values] for number, values in enumerate(steps, start=1))
    own = record.config.stages[record.stage - 1].max_lr
    suggested = [("suggested", record.suggestion)] if record.suggestion else []
    marks = [*suggested, ("the method's own", own)]
    picture = lr_picture(curve.lrs, curve.losses, curve.smoothed, marks, _title(record))
    contents = {TABLE: table.getvalue().encode(), RESULT: record_bytes(record)}
    contents |= {PICTURE: picture.png, VECTOR: picture.svg}
    return write_outputs(out, contents)


def _title(record: LrFind) -> str:
    config = record.config
    used = {name: getattr(config, name) for name in REGULARISERS}
    return (
        f"{config.dataset}, {config.method} stage {record.stage} "
        f"({config.stages[record.stage - 1].array}), fold {record.fold} held out, {config.arch} "
        f"from {record.init_used} weights, seed {config.seed}"
        + "".join(f", {name.replace('_', ' ')} {value:g}" for name, value in used.items() if value)
    )


def _lines(record: LrFind) -> list[str]:
    """Describe the test and its result in lines."""
    own = record.config.stages[record.stage - 1]
    end = "the loss broke" if record.stopped_early else "the end of the sweep"
    suggested = "none" if record.suggestion is None else f"{record.suggestion:.2g}"
    earlier = " (no earlier stage was trained)" if record.stage > 1 else ""
    body = f", the body at {own.body_lr_ratio:.3g} times it" if own.body_lr_ratio < 1 else ""
    return [
        f"{_title(record)}{earlier}",
        f"{quantity(record.num_steps, 'step')} up to λ {record.last_lr:.2g}, {end}{body}",
        f"suggested λ: {suggested}, {record.reason}",
        f"the method's own λ: {own.max_lr:.2g}",
    ]
