"""The `featurestore` program: parse, call, print. Our errors end as one line and exit code 1.

Each command imports what it needs when it runs, so that `--help` and a typing mistake are answered
without NumPy, Zarr and Dask.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.errors import ClusterError, DatasetError, FeatureStoreError
from featurestore.safepath import safe_children
from featurestore.stopping import stoppable
from featurestore.terminal import (
    HELP_OPTIONS,
    Group,
    Table,
    Terminal,
    VersionOption,
    end_stopped,
    harden,
    print_error,
    print_os_error,
    styled,
)
from featurestore.text import file_name, printable

if TYPE_CHECKING:
    from featurestore.building.build import BuildReport
    from featurestore.building.executors import Executor
    from featurestore.storage import Storage

app = typer.Typer(
    name="featurestore",
    cls=Group,
    help="Turn a sound collection into multi-resolution mel-spectrograms, once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
)
out = Terminal(soft_wrap=True)
err = Terminal(stderr=True, soft_wrap=True)

_SHOWN = 10
"""Failures and problems listed in the terminal before `--json` or `info` is pointed to."""
_LONG_NAME = 60

StoreArgument = Annotated[str, typer.Argument(help="The store: path or URL.", metavar="STORE")]
YesOption = Annotated[bool, typer.Option("--yes", help="Download missing data without asking.")]
DatasetOption = Annotated[
    str | None, typer.Option(help="Dataset name; required only if the store holds several.")
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Returns:
        Its exit code: 0 done, 1 an error the user can put right, 2 wrong usage, 130 stopped by
        Ctrl-C, 143 by SIGTERM.
    """
    harden()
    with safe_children():
        return stoppable(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    try:
        app(args=None if argv is None else list(argv))
    except FeatureStoreError as error:
        print_error(error)
        return 1
    except OSError as error:
        print_os_error(error)
        return 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


@app.callback()
def _options(version: VersionOption = False) -> None:
    """Accept options before the command."""


@app.command()
def build(
    dataset: Annotated[
        str | None,
        typer.Option(help="Dataset name; see `featurestore datasets`. Not for sounds of your own."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the audio; without --dataset, of a collection of your own."
        ),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Path or URL of the store: s3://…, gs://…, az://….")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Most local processes; 0 builds in this one. Default: one per core, and no more "
            "than there are blocks.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler to use instead.")
    ] = None,
    dashboard: Annotated[
        bool,
        typer.Option(
            "--dashboard", help="Run the local processes by Dask and print its dashboard's link."
        ),
    ] = False,
    spec: Annotated[
        Path | None,
        typer.Option(help="YAML or JSON file that overrides the default feature settings."),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Images to store in addition to the spec's; may be repeated."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if a clip fails.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed clips again.")
    ] = False,
    yes: YesOption = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Build from a part of a published dataset.")
    ] = False,
    table: Annotated[
        Path | None,
        typer.Option(help="Table of your clips, if it is not the only one in --root."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(help="Columns of your table: path=Filename,class=Label,fold=Split,…"),
    ] = None,
    folds: Annotated[
        int, typer.Option(min=0, help="Number of folds to make, stratified by class.")
    ] = 0,
    group_by: Annotated[
        str, typer.Option(help="Column of which no value may be in two folds.")
    ] = "",
    fold_seed: Annotated[int, typer.Option(min=0, help="Random seed of --folds.")] = 0,
    name: Annotated[
        str, typer.Option(help="Name of your dataset. Default: that of the directory.")
    ] = "",
    title: Annotated[str, typer.Option(help="Title of your dataset, for people.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of your sounds.")] = "",
    citation: Annotated[str, typer.Option(help="How to cite your dataset.")] = "",
) -> None:
    """Build a store, or finish one that was interrupted."""
    from featurestore.datasets.kinds import find_kind

    if dataset is None and root is None:
        raise typer.BadParameter("expected --dataset NAME, or --root DIR of your own sounds")
    if dataset is not None:
        find_kind(dataset)
    with _executor(workers, scheduler, dashboard=dashboard) as executor:
        # The workers import what they need while this process imports the rest.
        from featurestore.building import build as building
        from featurestore.datasets.own import OwnOptions
        from featurestore.extraction.spec import load_spec, with_variants
        from featurestore.obtain import accept_partial, obtain_source
        from featurestore.progress import BuildProgress
        from featurestore.storage import locate
        from schemas import FeatureSpec

        own = OwnOptions(
            table, columns or (), folds, group_by, fold_seed, name, title, licence, citation
        )
        features = with_variants(load_spec(spec) if spec else FeatureSpec(), variant or ())
        options = building.BuildOptions(strict=strict, retry_failed=retry_failed)
        with _stoppable("The partial download is kept"):
            source, default_store = obtain_source(err, dataset, root, own, yes=yes)
        path = locate(store or default_store)
        err.print(f"{source.card.title}: {len(source.clips)} clips in {source.root} → {path}")
        if source.understood:
            err.print(f"understood as {'; '.join(source.understood)}")
        if source.left_out:
            err.warn(f"left out: {', '.join(source.left_out)}")
        for warning in source.warnings:
            err.warn(warning)
        accept_partial(err, source, accepted=partial)
        with _stoppable("Finished blocks are kept"), BuildProgress(err) as progress:
            report = building.build(source, path, features, executor, options, progress)
    _print_report(report, path)


@contextmanager
def _stoppable(kept: str) -> Iterator[None]:
    """Say what is kept where a command is stopped."""
    try:
        yield
    except KeyboardInterrupt:
        end_stopped(f"{kept}: the same command resumes from there.")


@contextmanager
def _executor(
    workers: int | None, scheduler: str | None = None, *, dashboard: bool = False
) -> Iterator["Executor"]:
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("--workers and --scheduler exclude each other")
    if workers == 0 and dashboard:
        raise typer.BadParameter("--dashboard shows worker processes, and --workers 0 starts none")
    if workers == 0:
        from featurestore.building.executors import SerialExecutor

        yield SerialExecutor()
    elif scheduler is None and not dashboard:
        from featurestore.building.executors.processes import ProcessExecutor

        with ProcessExecutor(workers) as processes:
            yield processes
    else:
        from featurestore.building.executors.dask import DaskExecutor

        with DaskExecutor(workers, scheduler, err.say) as executor:
            link = executor.dashboard_link
            if link:
                err.print(f"dashboard: {link}")
            elif dashboard:
                raise ClusterError(
                    "no dashboard answers: install bokeh (pip install 'featurestore[dashboard]'), "
                    "or leave --dashboard out"
                )
            yield executor


def _print_report(report: "BuildReport", path: "Storage") -> None:
    from featurestore.reading.info import count_silent
    from schemas import ClipStatus

    for warning in report.warnings:
        err.warn(warning)
    counts = report.manifest.counts
    if not report.num_built:
        out.print(f"{path} is complete already: nothing to do.")
    out.print(f"{path}: {_counted(counts, count_silent(path, report.manifest.card.name))}.")
    failed = {n: c for n, c in counts.items() if ClipStatus[n.upper()].failed}
    if not failed:
        return
    for failure in report.failures[:_SHOWN]:
        out.print(f"  {failure.path}: {failure.status.reason} ({failure.detail})")
    if sum(failed.values()) > min(len(report.failures), _SHOWN):
        out.print(f"  … all {sum(failed.values())} of them: featurestore info {path} --json")


def _counted(counts: dict[str, int], num_silent: int | None) -> str:
    from schemas import ClipStatus

    total = sum(counts.values())
    parts = [f"{counts.get('ok', 0)} of {total} clips have features"]
    if num_silent is None:
        parts.append("how many are silent is unknown, for the store is damaged: see `verify`")
    elif num_silent:
        parts.append(f"{num_silent} of them silent, or stereo that cancels to silence")
    parts += [
        f"{count} failed: {ClipStatus[name.upper()].reason}"
        for name, count in counts.items()
        if ClipStatus[name.upper()].failed
    ]
    if pending := counts.get("pending"):
        parts.append(f"{pending} not built yet")
    return "; ".join(parts)


@app.command()
def info(
    store: StoreArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what is in a store, how it was made, what failed and why."""
    from featurestore.reading.info import describe

    description = describe(store)
    if as_json:
        out.write_json(description)
        return
    size = "size unknown, as a web server lists nothing"
    if description["bytes"] is not None:
        size = f"{description['bytes'] / 1e6:,.1f} MB in {description['files']} files"
    out.print(styled(f"{description['path']}: {size}", style="bold"))
    for name, dataset in description["datasets"].items():
        _print_dataset(name, dataset)


def _partial(dataset: dict[str, Any]) -> str:
    from schemas import NOT_COMPARABLE

    official = dataset["official_clips"]
    return f"of {official:,} clips of the published dataset: {NOT_COMPARABLE}" if official else ""


def _print_dataset(name: str, dataset: dict[str, Any]) -> None:
    from schemas import FeatureSpec

    card, spec = dataset["card"], FeatureSpec.model_validate_json(json.dumps(dataset["spec"]))
    table = Table(title=f"{name}: {card['title']}", show_header=False, title_justify="left")
    changed = spec.model_dump(exclude_defaults=True)
    rows = {
        "state": dataset["state"],
        "clips": _counted(dataset["counts"], dataset["silent"]),
        "partial": _partial(dataset),
        "folds": ", ".join(
            f"{f['name'] or f['fold']} ({f['num_clips']})" for f in dataset["folds"]
        ),
        "classes": ", ".join(card["class_names"]),
        "arrays": ", ".join(f"{key} {b}×{f}" for key, (b, f) in spec.arrays.items()),
        "stored as": f"{spec.dtype}, {dataset['chunk_clips']} clips per chunk",
        "spec": "the paper's" if not changed else f"the paper's but for {changed}",
        "fingerprint": dataset["fingerprint"],
        "made with": ", ".join(f"{k} {v}" for k, v in dataset["libraries"].items()),
        "licence": card["licence"],
        "citation": card["citation"],
        "source": card["url"],
    }
    for key, value in rows.items():
        if value or key != "partial":
            table.add_row(key, str(value))
    out.print(table)
    for failure in dataset["failures"][:_SHOWN]:
        out.print(f"  failed: {failure['path']}: {failure['reason']}")
    if len(dataset["failures"]) > _SHOWN:
        out.print(f"  … and {len(dataset['failures']) - _SHOWN} more: --json lists all")


@app.command(name="verify")
def verify_store(
    store: StoreArgument,
    dataset: DatasetOption = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the audio: compare every file's digest, and a sample's features."
        ),
    ] = None,
) -> None:
    """Read everything; exit with 1 and a list where anything is missing or broken."""
    from featurestore.checking.verify import count_parts, verify
    from featurestore.progress import counting

    problems: list[str] = []
    for found in counting(err, verify(store, dataset, root), count_parts(store, dataset, root)):
        problems += found
        for problem in found:
            out.say(f"broken: {problem}", style="red")
    if problems:
        out.print(
            f"{len(problems)} problems in {store}. `featurestore repair` repairs what is broken."
        )
        raise typer.Exit(1)
    out.print(f"{store}: everything is there and readable.")


@app.command()
def download(
    dataset: Annotated[str, typer.Argument(help="urbansound8k, esc50 or esc10.", metavar="NAME")],
    root: Annotated[
        Path | None,
        typer.Option(help="Target directory; by default where `build` looks for it."),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Download a dataset, or finish a download that was interrupted."""
    from featurestore.obtain import obtain

    with _stoppable("The partial download is kept"):
        source = obtain(err, dataset, root, yes=yes)
    out.print(f"{source.card.title}: {len(source.clips)} clips in {source.root}")


@app.command()
def repair(
    store: StoreArgument,
    dataset: DatasetOption = None,
    root: Annotated[Path | None, typer.Option(help="Where the audio is.")] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Local processes; 0 extracts in this one.")
    ] = 0,
) -> None:
    """Repair what is broken in a store, and nothing else, from the files it was built from."""
    from featurestore.checking.repair import only_dataset
    from featurestore.checking.repair import repair as repairing
    from featurestore.checking.reread import reread_dataset

    source = reread_dataset(store, dataset or only_dataset(store), root)
    repaired = 0
    with _stoppable("Repaired blocks are kept"), _executor(workers) as executor:
        for what in repairing(source, store, executor):
            repaired += 1
            out.print(f"repaired: {what}")
    out.print(f"{store}: {f'{repaired} repaired' if repaired else 'nothing is broken'}.")


@app.command()
def datasets() -> None:
    """List the available datasets."""
    from featurestore.datasets.kinds import DATASETS

    table = Table("name", "what", "default store")
    for kind in DATASETS.values():
        table.add_row(kind.name, kind.summary, kind.default_store)
    out.print(table)


@app.command()
def plot(
    store: StoreArgument,
    clip: Annotated[
        str | None,
        typer.Option(help="Clip to draw: its id, its path, or an end of one that no other has."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Draw the clip by every resize operator.")
    ] = False,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Draw this many clips of each class instead.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Directory of the audio: draw the clip's waveform, too.")
    ] = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Default: CLIP.png, or DATASET-classes.png.")
    ] = None,
    dataset: DatasetOption = None,
) -> None:
    """Draw a clip at every resolution by every method, with a detail magnified; or each class."""
    if (clip is None) == (classes is None):
        raise typer.BadParameter("expected either --clip or --classes")
    if clip is None and (compare or root):
        raise typer.BadParameter("--compare and --root are for --clip")
    from featurestore.reading.plot import plot_classes, plot_clip
    from featurestore.store.reader import open_store

    opened = open_store(store, dataset)
    target = out_file or (Path(f"{opened.name}-classes.png") if clip is None else _picture_of(clip))
    if target.parent != Path() and not target.parent.is_dir():
        raise DatasetError(f"the directory {target.parent} for the plot does not exist")
    if clip is None:
        written = plot_classes(opened, classes or 1, target)
    else:
        written = plot_clip(opened, clip, target, compare=compare, root=root)
    out.print(str(written))


def _picture_of(clip: str) -> Path:
    """Return the picture's default name: the clip's, if it is one that a shell shows."""
    name = Path(clip).name
    plain = name == printable(name) and len(name) < _LONG_NAME
    return Path(f"{name if plain else file_name(name)}.png")


if __name__ == "__main__":
    sys.exit(main())
