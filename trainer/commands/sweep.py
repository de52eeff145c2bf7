"""`trainer sweep` and `trainer reproduce`: many runs in one directory, and one report of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featurestore.errors import FeatureStoreError
from featurestore.program import QuietOption
from featurestore.terminal import Terminal, styled
from featurestore.text import mask_url, quantity
from trainer.commands.options import DatasetOption, FoldOption, MlflowOption, StoreOption, grouped
from trainer.commands.run import carry_out
from trainer.config import ExecutionOptions
from trainer.errors import ConfigError, SweepError, TrainerError

if TYPE_CHECKING:
    from featurestore import StoredDataset
    from trainer.sweep import Sweep, SweepRun
    from trainer.tracking import Tracking

PAPER = ("baseline", "mel", "resize", "control")
"""Methods of the paper, and the control that separates their gain from that of resolution."""
_PAPERS = {"precision": ("float32",)}


@dataclass(frozen=True)
class SweepOptions:
    """Options that `sweep` and `reproduce` share."""

    store: StoreOption
    dataset: DatasetOption = None
    fold: FoldOption = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="An option of `trainer run`, as NAME=VALUE; may be repeated. Several values, as "
            "in mixup=0,0.2, are crossed with all the rest.",
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Dask scheduler whose workers train, such as tcp://host:8786; one GPU each."
        ),
    ] = None

    def sweep(self, methods: Sequence[str], seeds: Sequence[int]) -> "Sweep":
        """Return the sweep over these methods and seeds."""
        from trainer.sweep import Sweep

        folds, settings = tuple(self.fold or ()), _crossed(self.settings)
        return Sweep(tuple(methods), tuple(seeds), folds, settings)

    def reproduction(self, num_seeds: int) -> "Sweep":
        """Return the sweep over the paper's methods and the control.

        It trains in float32, as the paper did, unless another precision is set.
        """
        grid = self.sweep(PAPER, range(num_seeds))
        return replace(grid, settings=_PAPERS | dict(grid.settings or {}))


@grouped
def sweep(
    *,
    shared: SweepOptions,
    out: Annotated[Path, typer.Option(help="Directory of the sweep, new or to resume.")],
    method: Annotated[
        list[str] | None, typer.Option(help="Name of a method; may be repeated.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="Seed; may be repeated. Default: 0.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="YAML with methods, seeds, folds and settings, instead of the above."),
    ] = None,
    execution: ExecutionOptions,
    mlflow: MlflowOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train every combination of methods, seeds and settings, and report them.

    The same command resumes where it was stopped; one with more of anything adds to it.
    """
    if file is not None and (method or seed or shared.fold or shared.settings):
        raise typer.BadParameter("excludes --method, --seed, --fold and --set")
    if file is None and not method:
        raise typer.BadParameter("--method is needed, or --file", param_hint="--method")
    from featurestore import open_store
    from trainer.sweep import read_sweep

    grid = read_sweep(file) if file else shared.sweep(method or (), seed or (0,))
    _carry_out(
        open_store(shared.store, shared.dataset), grid, out, shared.scheduler, execution, mlflow
    )


@grouped
def reproduce(
    *,
    shared: SweepOptions,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory, new or to resume. Default: ./reproduce/<dataset>."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of seeds, from 0. The paper has one.")
    ] = 1,
    execution: ExecutionOptions,
    mlflow: MlflowOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train the paper's methods and the control on every fold: its table for that dataset.

    In float32, unless --set precision says otherwise.
    The same command resumes where it was stopped.
    """
    from featurestore import open_store

    stored = open_store(shared.store, shared.dataset)
    grid = shared.reproduction(seeds)
    _carry_out(
        stored, grid, out or Path("reproduce") / stored.name, shared.scheduler, execution, mlflow
    )


def _crossed(settings: Sequence[str] | None) -> dict[str, tuple[object, ...]]:
    from trainer.sweep import parse_setting

    pairs = [parse_setting(text) for text in settings or ()]
    repeated = {name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1}
    if repeated:
        raise ConfigError(f"setting given twice: {', '.join(sorted(repeated))}")
    return dict(pairs)


def _carry_out(
    stored: "StoredDataset",
    grid: "Sweep",
    out: Path,
    scheduler: str | None,
    execution: ExecutionOptions,
    mlflow: MlflowOption = None,
) -> None:
    from trainer.report import print_report, write_report
    from trainer.sweep import REPORT, finished
    from trainer.tracking import tracking_to

    console = Terminal()
    runs = grid.runs()
    console.say(f"{quantity(len(runs), 'run')} in {out}")
    if stored.partial:
        console.warn(f"{stored.name} has {stored.partial}")
    with tracking_to(mlflow, console.warn) as tracking:
        if scheduler is None:
            failed = _here(console, stored, runs, out, execution, tracking)
        else:
            failed = _on_cluster(console, stored, runs, out, execution, scheduler, tracking)
    done = finished(out, runs)
    if done:
        print_report(write_report(done, out / REPORT, datetime.now(UTC)), console)
    if failed:
        raise SweepError(
            f"{len(failed)} of {quantity(len(runs), 'run')} failed; run it again to retry: "
            + "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        )


def _here(
    console: Terminal,
    stored: "StoredDataset",
    runs: Sequence["SweepRun"],
    out: Path,
    execution: ExecutionOptions,
    tracking: "Tracking | None",
) -> dict[str, str]:
    """Train on this machine, run after run; return the failures by the run's name."""
    from trainer.sweep import RUNS, plan_sweep, start

    failed = {}
    for number, (run, plan) in enumerate(plan_sweep(stored, runs, execution), start=1):
        console.rule(styled(f"{number}/{len(runs)} {run.name}"), align="left")
        at_once = execution.for_folds(len(plan.config.folds))
        begin = partial(start, stored, run, out, at_once, plan)
        try:
            path = out / RUNS / run.name
            carry_out(console, stored, plan, path, at_once, tracking, start=begin)
        except (TrainerError, FeatureStoreError) as error:
            console.say(f"failed: {mask_url(error)}", style="red")
            failed[run.name] = str(error)
    return failed


def _on_cluster(
    console: Terminal,
    stored: "StoredDataset",
    runs: Sequence["SweepRun"],
    out: Path,
    execution: ExecutionOptions,
    scheduler: str,
    tracking: "Tracking | None",
) -> dict[str, str]:
    """Train on a cluster, fold by fold; return the failures by the run's name."""
    from trainer.cluster import Cluster, Failed, Work, check_shared
    from trainer.records.rundir import RunDirectory
    from trainer.run import finish
    from trainer.sweep import RUNS, plan_sweep

    planned = [run for run, _ in plan_sweep(stored, runs, execution, elsewhere=True)]
    work = Work(stored.path, stored.name, stored.fingerprint, out.absolute(), execution)
    failed: dict[str, str] = {}
    started = {}

    def notify(line: str) -> None:
        console.say(line, style="yellow")

    with Cluster(scheduler, notify) as cluster:
        for run, outcome in cluster.begin(work, planned):
            if isinstance(outcome, Failed):
                failed[run.name] = outcome.reason
                console.say(f"{run.name}: failed: {mask_url(outcome.reason)}", style="red")
            else:
                check_shared(work.out / RUNS / run.name, outcome.record_sha256)
                started[run.name] = outcome
        tasks = [(n, b.record_sha256, fold) for n, b in started.items() for fold in b.config.folds]
        for number, done in enumerate(cluster.train(work, tasks), start=1):
            line = f"{number}/{len(tasks)} {done.run} fold {done.fold}: "
            if isinstance(done.outcome, Failed):
                failed[done.run] = done.outcome.reason
                console.say(f"{line}failed: {mask_url(done.outcome.reason)}", style="red")
            else:
                shown = done.outcome.best_score, done.outcome.last_score
                named = zip(("best", "last"), shown, strict=True)
                text = ", ".join(f"{name} {100 * a:.2f} %" for name, a in named if a is not None)
                console.say(f"{line}{text}, {done.outcome.seconds:.0f} s")
            if tracking:
                tracking.changed(out / RUNS / done.run)
    for name in started:
        try:
            finish(RunDirectory(out / RUNS / name))
        except TrainerError as error:
            failed.setdefault(name, str(error))
        if tracking:
            tracking.changed(out / RUNS / name, "FAILED" if name in failed else "RUNNING")
    return failed
