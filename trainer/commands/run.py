"""`trainer run`: a method's whole schedule for each held-out fold, new or from where it stopped."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from schemas import ResizeOperator, RunConfig, Selection
from trainer.commands.complain import complain
from trainer.commands.tracking import MlflowOption, tracking_to
from trainer.errors import ResumeError
from trainer.methods.catalogue import METHODS

if TYPE_CHECKING:
    from featurestore import StoredDataset
    from trainer.run import Manner
    from trainer.training.mlflow_log import Tracking

_OF_CONFIG = {"fold": "folds"}
"""Options whose name in the config is another one."""


def run(
    context: typer.Context,
    store: Annotated[
        str | None,
        typer.Option(help="Path or URL of the store that `featurestore build` wrote."),
    ] = None,
    method: Annotated[str | None, typer.Option(help=f"{', '.join(METHODS)}.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Directory of a run that was stopped: go on with it, as it was begun."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Its name, where the store holds several.")
    ] = None,
    fold: Annotated[
        list[int] | None, typer.Option(help="Held-out fold; may be repeated. Default: every fold.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Default: ./runs/<dataset>-<method>-seed<seed>.")
    ] = None,
    selection: Annotated[
        Selection,
        typer.Option(
            help="What picks a fold's network: the heldout fold, as in the paper; a validation "
            "part of the training folds; or nothing (last)."
        ),
    ] = "heldout",
    validation_share: Annotated[
        float, typer.Option(help="Of the training clips, for --selection validation.")
    ] = 0.1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (bf16 where the device computes in it), float32 or bf16.")
    ] = "auto",
    init: Annotated[
        str,
        typer.Option(help="Initial weights: auto, imagenet, random, or a torchvision state dict."),
    ] = "auto",
    epochs_scale: Annotated[
        float, typer.Option(help="Multiplies the epochs of every stage; at least one each.")
    ] = 1.0,
    batch_size: Annotated[int, typer.Option(min=2, help="Clips a training step.")] = 64,
    arch: Annotated[
        Literal["resnet18", "resnet34", "resnet50"], typer.Option(help="The network's body.")
    ] = "resnet34",
    reading: Annotated[
        Literal["auto", "device", "host", "stream"],
        typer.Option(
            help="Where a stage's data lie: auto (by size), in the device's or the host's memory "
            "(the same on a CPU), or streamed from the store. Changes no number."
        ),
    ] = "auto",
    acceleration: Annotated[
        str,
        typer.Option(
            help="Of training steps: auto (eager), eager, compile, graph "
            "or compile-graph. What cannot be had runs eagerly, and why is said."
        ),
    ] = "auto",
    folds_at_once: Annotated[
        int, typer.Option(min=1, help="Folds trained at a time. Changes no number.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Of the CPU, for each fold. Default: all cores, shared."),
    ] = None,
    mixup: Annotated[
        float, typer.Option(help="Mix clips in pairs, by shares of Beta(α, α); α, 0 is off.")
    ] = 0.0,
    freq_mask: Annotated[
        float, typer.Option(help="SpecAugment: mask up to this share of an image's bands.")
    ] = 0.0,
    time_mask: Annotated[float, typer.Option(help="The same of its frames.")] = 0.0,
    label_smoothing: Annotated[
        float, typer.Option(help="Share of the target that all classes get alike.")
    ] = 0.0,
    methods_file: Annotated[
        Path | None, typer.Option(help="YAML of methods of your own, for --method.")
    ] = None,
    resize_operator: Annotated[
        ResizeOperator | None,
        typer.Option(help="What makes the method's resized images; bilinear by default."),
    ] = None,
    checkpoint_every: Annotated[
        float,
        typer.Option(min=0, help="Seconds between two states on disk; 0: after every epoch."),
    ] = 60.0,
    mlflow: MlflowOption = None,
) -> None:
    """Train a method's whole schedule for each held-out fold."""
    from featurestore import open_store
    from trainer.console import print_plan
    from trainer.plan import Options, plan_run
    from trainer.records.rundir import check_free, default_out
    from trainer.run import Manner, begin

    console = Console()
    manner = Manner(reading, folds_at_once, checkpoint_every)
    if resume is not None:
        with tracking_to(mlflow, console) as tracking:
            _go_on(console, resume, store, _given(context), manner, tracking)
        return
    if store is None or method is None:
        raise typer.BadParameter(
            "--store and --method are needed, or --resume", param_hint="--store, --method"
        )
    options = Options(
        method=method,
        folds=tuple(fold or ()),
        seed=seed,
        device=device,
        precision=precision,
        init=init,
        epochs_scale=epochs_scale,
        batch_size=batch_size,
        arch=arch,
        acceleration=acceleration,
        threads=threads,
        selection=selection,
        validation_share=validation_share,
        mixup=mixup,
        freq_mask=freq_mask,
        time_mask=time_mask,
        label_smoothing=label_smoothing,
        methods_file=methods_file,
        resize_operator=resize_operator,
    )
    stored = open_store(store, dataset)
    plan = plan_run(stored, options, folds_at_once)
    out = out or default_out(plan.config)
    check_free(out)
    manner = manner.for_folds(len(plan.config.folds))
    with tracking_to(mlflow, console) as tracking:
        print_plan(console, stored, plan.config, manner.folds_at_once)
        begin(stored, plan, out, manner=manner)
        carry_out(console, stored, plan.config, out, manner, tracking)


def carry_out(
    console: Console,
    stored: "StoredDataset",
    config: RunConfig,
    out: Path,
    manner: "Manner",
    tracking: "Tracking | None" = None,
) -> None:
    """Train what is left of a run, showing and logging it."""
    from trainer.console import ProgressView, print_result
    from trainer.plan import num_train
    from trainer.run import resume

    try:
        with (
            ProgressView(console, config, num_train(stored, config)) as view,
            tracking.watching(out, view) if tracking else nullcontext(view) as watcher,
        ):
            result = resume(stored, out, watcher, manner)
    except KeyboardInterrupt:
        complain(f"stopped: {out} keeps the epochs and networks so far; --resume {out} goes on")
        raise
    if result:
        print_result(console, result)
    console.print(Text(f"Run: {out}"), soft_wrap=True)


def _go_on(
    console: Console,
    out: Path,
    store: str | None,
    given: dict[str, object],
    manner: "Manner",
    tracking: "Tracking | None",
) -> None:
    """Go on with a run, whose record says all; what is asked for beside must not differ from it."""
    from featurestore import open_store
    from trainer.console import print_plan, print_result
    from trainer.records.rundir import RunDirectory
    from trainer.training.device import resolve_device

    directory = RunDirectory(out)
    record = directory.record()
    _check_same(out, record.config, given)
    if result := directory.result():
        console.print(Text(f"{out} is finished"), soft_wrap=True)
        print_result(console, result)
        if tracking:
            tracking.changed(out)
        return
    resolve_device(record.config.device)
    stored = open_store(store or record.store, record.config.dataset)
    print_plan(console, stored, record.config, manner.folds_at_once)
    carry_out(console, stored, record.config, out, manner, tracking)


def _given(context: typer.Context) -> dict[str, object]:
    """What the command line says, by the config's names."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {
        _OF_CONFIG.get(name, name): context.params[name]
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"
    }


def _check_same(out: Path, config: RunConfig, given: dict[str, object]) -> None:
    asked = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if name in RunConfig.model_fields and value != "auto"
    }
    differing = [
        f"{name} ({value}, the run has {getattr(config, name)})"
        for name, value in asked.items()
        if value != getattr(config, name)
    ]
    if differing:
        raise ResumeError(
            f"{out}: goes on as it was begun, and that differs in: {', '.join(differing)}; leave "
            "these options out, or train anew with another --out"
        )
