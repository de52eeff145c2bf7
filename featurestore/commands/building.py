"""`featurestore build` and `repair`."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.commands.options import (
    DatasetOption,
    RootOption,
    StoreArgument,
    StoreOption,
    WorkersOption,
    YesOption,
    choose_executor,
    command_line,
    complete_dataset,
    counted,
    err,
    failure_lines,
    out,
    shapes_text,
    stopping,
)
from featurestore.program import DATA, MACHINE, OUTPUT, JsonOption, QuietOption
from featurestore.text import quantity

if TYPE_CHECKING:
    from featurestore.building.build import BuildPlan, BuildReport
    from featurestore.storage import Storage

_FEATURES, _FAILURES, _OWN = "Features", "Failed clips", "A collection of your own"


def build(
    dataset_name: Annotated[
        str | None,
        typer.Argument(
            help="Dataset name; see `featurestore datasets`. Omit it for your own sounds.",
            metavar="DATASET",
            autocompletion=complete_dataset,
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset name, as an option.",
            metavar="NAME",
            autocompletion=complete_dataset,
            rich_help_panel=DATA,
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the audio; without DATASET, of your own sounds, or their table.",
            metavar="DIR",
            rich_help_panel=DATA,
        ),
    ] = None,
    store: StoreOption = None,
    yes: YesOption = False,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Accept a published dataset of which files are missing.",
            rich_help_panel=DATA,
        ),
    ] = False,
    spec: Annotated[
        Path | None,
        typer.Option(
            help="YAML or JSON file that overrides the default feature settings.",
            metavar="FILE",
            rich_help_panel=_FEATURES,
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Images to store in addition to the spec's; may be repeated.",
            metavar="NAME",
            rich_help_panel=_FEATURES,
        ),
    ] = None,
    spec_name: Annotated[
        str,
        typer.Option(
            "--as",
            help="Store these features next to others of the same dataset, as DATASET-NAME.",
            metavar="NAME",
            rich_help_panel=_FEATURES,
        ),
    ] = "",
    coordinates: Annotated[
        bool,
        typer.Option(
            "--coordinates",
            help="Store Hz, seconds, class names and trimmed lengths, for xarray.",
            rich_help_panel=_FEATURES,
        ),
    ] = False,
    workers: WorkersOption = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Address of a Dask scheduler to use instead.",
            metavar="ADDRESS",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    dashboard: Annotated[
        bool,
        typer.Option(
            "--dashboard",
            help="Run the local processes with Dask, and print the link to its dashboard.",
            rich_help_panel=MACHINE,
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Stop with an error at a failed clip.", rich_help_panel=_FAILURES
        ),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Retry clips that failed before.", rich_help_panel=_FAILURES
        ),
    ] = False,
    table: Annotated[
        Path | None,
        typer.Option(
            help="Table of your clips, if it is not the only one in --root.",
            metavar="FILE",
            rich_help_panel=_OWN,
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            help="Columns of your table by role: path=File, class=Label, fold=Split, …",
            metavar="ROLE=COLUMN,…",
            rich_help_panel=_OWN,
        ),
    ] = None,
    folds: Annotated[
        int,
        typer.Option(
            min=0, help="Number of folds to make, stratified by class.", rich_help_panel=_OWN
        ),
    ] = 0,
    group_by: Annotated[
        str,
        typer.Option(
            help="Column whose values must not be split across folds, such as the recording.",
            metavar="COLUMN",
            rich_help_panel=_OWN,
        ),
    ] = "",
    fold_seed: Annotated[
        int, typer.Option(min=0, help="Random seed of --folds.", rich_help_panel=_OWN)
    ] = 0,
    name: Annotated[
        str,
        typer.Option(
            help="Name of your dataset. Default: that of the directory.",
            metavar="NAME",
            rich_help_panel=_OWN,
        ),
    ] = "",
    title: Annotated[
        str, typer.Option(help="Human-readable title of your dataset.", rich_help_panel=_OWN)
    ] = "",
    licence: Annotated[
        str, typer.Option(help="Licence of your sounds.", rich_help_panel=_OWN)
    ] = "",
    citation: Annotated[
        str, typer.Option(help="How to cite your dataset.", rich_help_panel=_OWN)
    ] = "",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what would be built, without downloading or writing anything.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Build a store, or finish one that was interrupted."""
    from featurestore.datasets.kinds import find_kind

    dataset = _one_name(dataset_name, dataset)
    if dataset is None and root is None:
        raise typer.BadParameter(
            "expected a DATASET (or --dataset NAME), or --root DIR of your own sounds"
        )
    if dataset is not None:
        find_kind(dataset)
    with choose_executor(0 if dry_run else workers, scheduler, dashboard=dashboard) as executor:
        err.note(f"{dataset or root}: reading the table of clips")
        # The workers import what they need while this process imports the rest.
        from featurestore.building import build as building
        from featurestore.datasets.own import OwnOptions
        from featurestore.extraction.spec import load_spec, with_variants
        from featurestore.obtain import accept_partial, load_source, print_source
        from featurestore.progress import BuildProgress
        from featurestore.storage import locate
        from schemas import FeatureSpec

        own = OwnOptions(
            table, columns or (), folds, group_by, fold_seed, name, title, licence, citation
        )
        features = with_variants(load_spec(spec) if spec else FeatureSpec(), variant or ())
        options = building.BuildOptions(strict, retry_failed, coordinates)
        # Only a dataset by name is downloaded; sounds of one's own are read where they are.
        with stopping("The partial download is kept") if dataset else nullcontext():
            source, default_store = load_source(err, dataset, root, own, yes=yes, only_look=dry_run)
        source = source.with_spec_name(spec_name)
        path = locate(store or default_store)
        print_source(err, source, path)
        if dry_run:
            _print_plan(building.plan_build(source, path, features), path, as_json=as_json)
            return
        accept_partial(err, source, accepted=partial)
        with stopping("Finished blocks are kept"), BuildProgress(err) as progress:
            report = building.build(source, path, features, executor, options, progress)
    if as_json:
        out.write_json(_report_json(report, path))
    else:
        _print_report(report, path)


def _one_name(argument: str | None, option: str | None) -> str | None:
    if argument is not None and option not in (None, argument):
        raise typer.BadParameter(f"DATASET is {argument}, and --dataset is {option}")
    return option if argument is None else argument


def _print_plan(plan: "BuildPlan", path: "Storage", *, as_json: bool) -> None:
    manifest = plan.manifest
    if as_json:
        out.write_json(
            {
                "store": str(path),
                "dataset": manifest.card.name,
                "num_clips": manifest.num_clips,
                "num_pending": plan.num_pending,
                "most_bytes": plan.most_bytes,
                "fingerprint": manifest.fingerprint,
            }
        )
        return
    out.print(f"arrays: {shapes_text(manifest.spec)}, {manifest.spec.dtype}")
    out.print(
        f"would build {plan.num_pending} of {quantity(manifest.num_clips, 'clip')}, at most "
        f"{plan.most_bytes / 1e6:,.1f} MB before compression. Nothing was written."
    )


def _report_json(report: "BuildReport", path: "Storage") -> dict[str, Any]:
    return {
        "store": str(path),
        "dataset": report.manifest.card.name,
        "num_clips": report.manifest.num_clips,
        "num_built": report.num_built,
        "counts": report.manifest.counts,
        "fingerprint": report.manifest.fingerprint,
        "failures": [
            {
                "clip_id": failure.clip_id,
                "path": failure.path,
                "status": failure.status.name.lower(),
                "detail": failure.detail,
            }
            for failure in report.failures
        ],
        "warnings": list(report.warnings),
    }


def _print_report(report: "BuildReport", path: "Storage") -> None:
    from featurestore.reading.info import count_silent
    from schemas import ClipStatus

    for warning in report.warnings:
        err.warn(warning)
    counts = report.manifest.counts
    if not report.num_built:
        out.print(f"{path} is complete already: nothing to do.")
    out.print(f"{path}: {counted(counts, count_silent(path, report.manifest.card.name))}.")
    num_failed = sum(n for name, n in counts.items() if ClipStatus[name.upper()].failed)
    failures = ((f.status.reason, f"{f.path} ({f.detail})") for f in report.failures)
    every = command_line("featurestore", "info", path, "--json")
    for line in failure_lines(failures, num_failed, every):
        out.print(line)
    name = ("--dataset", report.manifest.card.name) if report.manifest.spec_name else ()
    if {"R1/resize", "R2/resize", "R3/full"} <= report.manifest.spec.arrays.keys():
        err.suggest("trainer", "run", "--store", path, *name, "--method", "resize")
    else:  # other resolutions need a method of their own
        err.suggest("featurestore", "info", path)


def repair(
    store: StoreArgument,
    dataset: DatasetOption = None,
    root: RootOption = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            help="Maximum number of local processes; 0 uses only this one.",
            rich_help_panel=MACHINE,
        ),
    ] = 0,
    quiet: QuietOption = False,
) -> None:
    """Repair the damaged parts of a store, and nothing else, from its original audio files."""
    with choose_executor(workers) as executor:
        err.note(f"{store}: looking for what is broken")
        from featurestore.checking.repair import only_dataset
        from featurestore.checking.repair import repair as repairing
        from featurestore.checking.reread import reread_dataset

        source = reread_dataset(store, dataset or only_dataset(store), root)
        repaired = 0
        with stopping("Repaired blocks are kept"):
            for what in repairing(source, store, executor):
                repaired += 1
                out.print(f"repaired: {what}")
    out.print(f"{store}: {f'{repaired} repaired' if repaired else 'nothing is broken'}.")
    err.suggest("featurestore", "verify", store)
