"""`trainer sweep` and `trainer reproduce`: many runs in one directory, and one report of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featurestore.errors import FeatureStoreError
from featurestore.program import QuietOption
from featurestore.terminal import Terminal
from featurestore.text import mask_url, quantity
from trainer.commands.options import FoldOption, StoreOption, grouped
from trainer.config import DatasetOption, ExecutionOptions, MlflowOption, complete_method
from trainer.errors import ConfigError, SweepError, TrainerError

if TYPE_CHECKING:
    from featurestore import StoredDataset
    from trainer.sweep import Sweep, SweepRun
    from trainer.tracking import Tracking

PAPER = ("baseline", "mel", "resize", "control")
"""Methods of the paper, and the control that separates their gain from that of the resolution."""
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
        list[str] | None,
        typer.Option(help="Name of a method; may be repeated.", autocompletion=complete_method),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="Random seed; may be repeated. Default: 0.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with methods, seeds, folds and settings, instead of these options."
        ),
    ] = None,
    execution: ExecutionOptions,
    mlflow: MlflowOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train every combination of methods, seeds and settings, and write a report.

    The same command resumes a stopped sweep; more methods, seeds, values or other folds add runs.
    """
    if file is not None and (method or seed or shared.fold or shared.settings):
        raise typer.BadParameter("excludes --method, --seed, --fold and --set", param_hint="--file")
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

    It trains in float32, unless --set precision is given.
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
    if scheduler and execution.folds_at_once > 1:
        raise typer.BadParameter(
            "is for this machine: a cluster's worker trains one fold at a time",
            param_hint="--folds-at-once",
        )
    from trainer.report import print_report, write_report
    from trainer.sweep import REPORT, check_folders, finished
    from trainer.tracking import tracking_to

    console = Terminal()
    runs = grid.on(stored).runs()
    check_folders(out, runs)
    console.say(f"{quantity(len(runs), 'run')} in {out}")
    if stored.partial:
        console.warn(f"{stored.name} has {stored.partial}")
    with tracking_to(mlflow, console.warn) as tracking:
        training = _Training(console, stored, runs, out, execution, tracking)
        failed = training.here() if scheduler is None else training.on_cluster(scheduler)
    # One that failed although it is finished is another run than was asked for.
    done = finished(out, [run for run in runs if run.name not in failed])
    if done:
        print_report(write_report(done, out / REPORT, datetime.now(UTC)), console)
    if failed:
        raise SweepError(
            f"{len(failed)} of {quantity(len(runs), 'run')} failed; run it again to retry: "
            + "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        )


@dataclass(frozen=True)
class _Training:
    """A sweep being trained: its runs, and who watches them."""

    console: Terminal
    stored: "StoredDataset"
    runs: Sequence["SweepRun"]
    out: Path
    execution: ExecutionOptions
    tracking: "Tracking | None"

    def path(self, run: str) -> Path:
        """Return the directory of a run."""
        from trainer.sweep import RUNS

        return self.out / RUNS / run

    def here(self) -> dict[str, str]:
        """Train on this machine, run after run; return the failures by the run's name."""
        from trainer.api import carry_out
        from trainer.sweep import plan_sweep, start

        failed: dict[str, str] = {}
        planned = plan_sweep(self.stored, self.runs, self.execution)
        for number, (run, plan) in enumerate(planned, start=1):
            self.console.rule(f"{number}/{len(self.runs)} {run.name}", align="left")
            at_once = self.execution.for_folds(len(plan.config.folds))
            begin = partial(start, self.stored, run, self.out, at_once, plan)
            what = self.console, self.stored, plan, self.path(run.name), at_once, self.tracking
            try:
                carry_out(*what, start=begin)
            except (TrainerError, FeatureStoreError) as error:
                self._report(failed, run.name, "failed", str(error))
        return failed

    def on_cluster(self, scheduler: str) -> dict[str, str]:
        """Train on a cluster, fold by fold; return the failures by the run's name."""
        from featurestore.cluster import Cluster
        from trainer.cluster import Failed, Work, begin_run, check_shared, died, train_one_fold
        from trainer.console import fold_text
        from trainer.sweep import plan_sweep

        stored, out = self.stored, self.out.absolute()
        planned = plan_sweep(stored, self.runs, self.execution, elsewhere=True)
        # A worker's are in its run's record, which the report shows when all has been trained.
        for text in dict.fromkeys(text for _, plan in planned for text in plan.warnings):
            if text != stored.partial:  # which has been said
                self.console.warn(text)
        work = Work(stored.path, stored.name, stored.fingerprint, out, self.execution)
        failed: dict[str, str] = {}
        started = {}
        with Cluster(scheduler, partial(self.console.say, style="yellow")) as cluster:
            begin = partial(begin_run, work)
            for run, answer in cluster.run(begin, [run for run, _ in planned], died):
                if isinstance(answer, Failed):
                    self._report(failed, run.name, f"{run.name}: failed", answer.reason)
                else:
                    check_shared(self.path(run.name), answer.sha256)
                    started[run.name] = answer
            tasks = [(n, r.sha256, f) for n, r in started.items() for f in r.config.folds]
            done = cluster.run(partial(train_one_fold, work), tasks, died)
            for number, ((name, _, fold), outcome) in enumerate(done, start=1):
                line = f"{number}/{len(tasks)} {name} fold {fold}"
                if isinstance(outcome, Failed):
                    self._report(failed, name, f"{line}: failed", outcome.reason)
                else:
                    self.console.say(f"{line}: {fold_text(outcome)}")
                if self.tracking:
                    self.tracking.changed(self.path(name))
        return self._finish(started) | failed

    def _report(self, failed: dict[str, str], run: str, what: str, reason: str) -> None:
        failed[run] = reason
        self.console.say(f"{what}: {mask_url(reason)}", style="red")

    def _finish(self, runs: Iterable[str]) -> dict[str, str]:
        """Write the results of runs all of whose folds are trained; return the failures by name."""
        from trainer.records.rundir import RunDirectory
        from trainer.run import finish

        failed = {}
        for name in runs:
            try:
                done = finish(RunDirectory(self.path(name)))
            except TrainerError as error:
                failed[name], done = str(error), None
            if self.tracking:
                self.tracking.changed(self.path(name), "RUNNING" if done else "FAILED")
        return failed
