"""`trainer run`: train a method's whole schedule for each held-out fold, or resume it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from featurestore.program import JsonOption, QuietOption
from featurestore.terminal import Terminal
from featurestore.text import from_json_text, json_text, quantity
from schemas import RunConfig
from trainer.commands.options import FoldOption, grouped
from trainer.config import DatasetOption, ExecutionOptions, MlflowOption, TrainingOptions
from trainer.errors import ResumeError, differing

if TYPE_CHECKING:
    from trainer.plan import Plan

_OF_CONFIG = {"fold": "folds"}
"""Names in the config of options with another name."""
_MAY_CHANGE = {
    *("resume", "store", "placement", "folds_at_once", "save_every_s", "mlflow"),
    *("dry_run", "as_json", "quiet"),
}
"""Options that may be given when a run is resumed."""


@grouped
def run(
    *,
    context: typer.Context,
    store: Annotated[
        str | None, typer.Option(help="Path or URL of a store built by `featurestore build`.")
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
        bool,
        typer.Option("--dry-run", help="Print what would be trained, without writing anything."),
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
    from trainer.api import plan_new, train_new, train_rest
    from trainer.console import print_plan

    console = Terminal(stderr=as_json)  # standard output is the result's
    if store is None or resume is not None:
        assert resume is not None  # noqa: S101 - asked for above
        _check_options(resume, store, _given(context))
        finished = train_rest(console, resume, store, execution, mlflow)
    else:
        stored = open_store(store, dataset)
        training = replace(training, folds=tuple(fold or ()))
        plan, out, execution = plan_new(stored, training, execution, out)
        if dry_run:
            print_plan(console, stored, plan.config, execution.folds_at_once)
            _print_dry(console, plan, out, as_json=as_json)
            return
        finished = train_new(console, stored, plan, out, execution, mlflow)
    if as_json:
        result = json.loads((finished.path / "result.json").read_bytes())
        Terminal().write_json({"out": json_text(finished.path), **result})
    Terminal(stderr=True).suggest("trainer", "report", finished.path)


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
        summary |= {"warnings": list(plan.warnings)}
        Terminal().write_json(summary | {"config": config.model_dump(mode="json")})


def _check_options(out: Path, store: str | None, options: dict[str, object]) -> None:
    """Refuse options that differ from a run's own settings."""
    from trainer.records.rundir import RunDirectory

    record = RunDirectory(out).record()
    if folds := cast("list[str]", options.get("folds")):
        place = store or from_json_text(record.store)
        options["folds"] = _numbered(folds, place, record.config.dataset)
    _check_same(out, record.config, options)


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
        if name in RunConfig.model_fields and (value != "auto" or name == "init")
    }
    if isinstance(init := settings.get("init"), str):
        settings["init"] = absolute_init(init)
        config = config.model_copy(update={"init": absolute_init(config.init)})
    if problems := differing(settings, dict(config)):
        raise ResumeError(
            f"{out}: resumes with its own settings, which differ in: {', '.join(problems)}; leave "
            "these options out, or start a new run with another --out"
        )
