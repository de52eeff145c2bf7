"""`trainer run`: a method's whole schedule for each held-out fold, new or from where it stopped."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from featurestore.program import JsonOption, QuietOption
from featurestore.stopping import INTERRUPTED
from featurestore.terminal import Terminal
from featurestore.text import from_json_text, json_text, quantity
from schemas import RunConfig
from trainer.commands.options import DatasetOption, FoldOption, MlflowOption, grouped
from trainer.config import ExecutionOptions, TrainingOptions
from trainer.errors import ResumeError, differing

if TYPE_CHECKING:
    from featurestore import StoredDataset
    from trainer.plan import Plan
    from trainer.run import Known
    from trainer.tracking import Tracking
    from trainer.training.events import Notify

_OF_CONFIG = {"fold": "folds"}
"""Config names of options that are called differently."""
_MAY_CHANGE = {
    *("resume", "store", "reading", "folds_at_once", "save_every_s", "mlflow"),
    *("dry_run", "as_json", "quiet"),
}
"""Options that a run may be resumed with whatever its settings are."""


@grouped
def run(
    *,
    context: typer.Context,
    store: Annotated[
        str | None,
        typer.Option(help="Path or URL of the store that `featurestore build` wrote."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Directory of a stopped run to resume, with its own settings."),
    ] = None,
    dataset: DatasetOption = None,
    fold: FoldOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Default: ./runs/<dataset>-<method>-seed<seed>.")
    ] = None,
    training: TrainingOptions,
    execution: ExecutionOptions,
    mlflow: MlflowOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be trained; write nothing.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a method's whole schedule for each held-out fold."""
    if resume is None and (store is None or not training.method):
        raise typer.BadParameter(
            "--store and --method are needed, or --resume", param_hint="--store, --method"
        )
    if resume is not None and dry_run:
        raise typer.BadParameter("--dry-run is for a new run, not for --resume")
    from featurestore import open_store
    from trainer.api import planned
    from trainer.console import print_plan
    from trainer.run import begin
    from trainer.tracking import tracking_to

    console = Terminal(stderr=as_json)  # standard output is the result's
    if resume is not None:
        with tracking_to(mlflow, console.warn) as tracking:
            _go_on(console, resume, store, _given(context), execution, tracking)
        _conclude(resume, as_json=as_json)
        return
    assert store is not None  # noqa: S101 - asked for above
    training = replace(training, folds=tuple(fold or ()))
    stored = open_store(store, dataset)
    plan, out, execution = planned(stored, training, execution, out)
    if dry_run:
        print_plan(console, stored, plan.config, execution.folds_at_once)
        _print_dry(console, plan, out, as_json=as_json)
        return
    with tracking_to(mlflow, console.warn) as tracking:
        print_plan(console, stored, plan.config, execution.folds_at_once)
        carry_out(
            *(console, stored, plan, out, execution, tracking),
            start=lambda notify: begin(stored, plan, out, notify, execution),
        )
    _conclude(out, as_json=as_json)


def _print_dry(console: Terminal, plan: "Plan", out: Path, *, as_json: bool) -> None:
    """Say how much a run would train."""
    from trainer.training.schedule import num_steps

    config = plan.config
    epochs = sum(stage.epochs for stage in config.stages)
    steps = epochs * sum(num_steps(n, config.batch_size) for n in plan.num_train.values())
    for warning in plan.warnings:
        console.warn(warning)
    console.say(
        f"would train {quantity(len(config.folds), 'fold')} of {quantity(epochs, 'epoch')}, "
        f"{quantity(steps, 'step')} in all, in "
        f"{out}. Nothing was written."
    )
    if as_json:
        summary = {"out": json_text(out), "num_steps": steps, "epochs_per_fold": epochs}
        Terminal().write_json(summary | {"config": config.model_dump(mode="json")})


def _conclude(out: Path, *, as_json: bool) -> None:
    """Print the result as JSON, and what may come next, if the run is finished."""
    from trainer.records.rundir import RESULT

    if not (out / RESULT).exists():
        return
    if as_json:
        result = json.loads((out / RESULT).read_bytes())
        Terminal().write_json({"out": json_text(out), **result})
    Terminal(stderr=True).suggest("trainer", "report", out)


def carry_out(
    console: Terminal,
    stored: "StoredDataset",
    plan: "Plan",
    out: Path,
    execution: ExecutionOptions,
    tracking: "Tracking | None" = None,
    *,
    start: "Callable[[Notify], Known] | None" = None,
) -> None:
    """Train what is left of a run; see `trainer.api.carry_out`. Say how to resume it if stopped."""
    from trainer import api

    with _resumable(out):
        api.carry_out(console, stored, plan, out, execution, tracking, start=start)


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Say how to resume a run that is stopped, if it was begun."""
    from trainer.records.rundir import RunDirectory

    try:
        yield
    except KeyboardInterrupt:
        if not RunDirectory(out).begun:
            raise
        Terminal(stderr=True).say(
            f"stopped: {out} keeps the epochs and networks so far; --resume {out} resumes it"
        )
        raise typer.Exit(INTERRUPTED) from None


def _go_on(
    console: Terminal,
    out: Path,
    store: str | None,
    options: dict[str, object],
    execution: ExecutionOptions,
    tracking: "Tracking | None",
) -> None:
    """Resume a run as its record says; options given as well must not differ from it."""
    from trainer.api import stopped_run
    from trainer.console import print_plan, print_result
    from trainer.records.finished import open_finished
    from trainer.records.rundir import RESULT, RunDirectory

    directory = RunDirectory(out)
    record = directory.record()
    place = store or from_json_text(record.store)
    if folds := cast("list[str]", options.get("folds")):
        options["folds"] = _numbered(folds, place, record.config.dataset)
    _check_same(out, record.config, options)
    if (out / RESULT).exists():
        finished = open_finished(out)
        finished.verify()
        if finished.warning:
            Terminal(stderr=True).warn(finished.warning)
        for text in finished.partial:
            console.warn(text)
        console.say(f"{out} is finished")
        print_result(console, finished.result)
        if tracking:
            tracking.changed(out)
        return
    stored, plan = stopped_run(out, store)
    print_plan(console, stored, record.config, execution.folds_at_once, started=True)
    carry_out(console, stored, plan, out, execution, tracking)


def _numbered(folds: list[str], place: str, dataset: str) -> tuple[int, ...]:
    """Return the numbers of folds; the store is opened only if one is given by its name."""
    from featurestore import open_store
    from trainer.data.split import fold_numbers

    if all(fold.isdecimal() for fold in folds):
        return tuple(map(int, folds))
    return fold_numbers(open_store(place, dataset), folds)


def _given(context: typer.Context) -> dict[str, object]:
    """Return the options of the command line, by the config's names."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {
        _OF_CONFIG.get(name, name): context.params[name]
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"
    }


def _check_same(out: Path, config: RunConfig, options: dict[str, object]) -> None:
    """Refuse options that differ from the run's, and those that it does not record."""
    from trainer.plan import absolute_init

    if unused := sorted(options.keys() - _MAY_CHANGE - RunConfig.model_fields.keys()):
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise ResumeError(
            f"{out}: resumes with its own settings, which {listed} cannot change: leave it out, or "
            "start a new run without --resume"
        )
    settings = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
        if name in RunConfig.model_fields and value != "auto"
    }
    if isinstance(init := settings.get("init"), str):
        settings["init"] = absolute_init(init)
        config = config.model_copy(update={"init": absolute_init(config.init)})
    if problems := differing(settings, dict(config)):
        raise ResumeError(
            f"{out}: resumes with its own settings, which differ in: {', '.join(problems)}; leave "
            "these options out, or start a new run with another --out"
        )
