"""`featurestore ls`, `diff` and `export`: several stores, and stores for others."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from featurestore.commands.options import (
    SHOWN,
    DatasetOption,
    StoreArgument,
    audio_root,
    err,
    out,
    output,
)
from featurestore.errors import FeatureStoreError
from featurestore.program import DATA, OUTPUT, JsonOption, QuietOption
from featurestore.terminal import Table, end_stopped, print_error, print_os_error
from featurestore.text import json_text, quantity

if TYPE_CHECKING:
    from featurestore.reading import Watch

_NARROW = 70
"""Width of a terminal in columns from which `ls` shows all that it knows."""
_TROUBLE = 2
"""Exit code of `diff` if the stores cannot be compared, as for diff(1)."""


def ls(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            help="Stores (paths or URLs), or directories of them. Default: this directory.",
            metavar="PLACE...",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the stores in a directory, or the datasets in a store, with their progress."""
    from featurestore.reading.listing import list_datasets

    rows = [row for place in places or ["."] for row in list_datasets(place)]
    if as_json:
        out.write_json(rows)
        return
    for row in rows:
        if row["problem"]:
            err.warn(row["problem"])
    if not rows:
        err.note(f"no store in {', '.join(places or ['this directory'])}")
        return
    names = ("store", "dataset", "state", "clips", "folds", "classes", "arrays", "size")
    shown = (0, 1, 2, 3, 7) if out.width < _NARROW else range(len(names))  # `info` has the others
    table = Table(*(names[i] for i in shown))
    table.columns[0].no_wrap = True  # names are to be typed again
    table.columns[2].min_width = len("complete")  # not cut where a terminal is narrow
    for row in rows:
        cells = _listed(row)
        table.add_row(*(cells[i] for i in shown))
    out.print(table)
    whole = [row["store"] for row in rows if row["state"] == "complete"]
    if whole:
        err.suggest("featurestore", "info", whole[0])


def _listed(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row of `ls`."""
    counts = row["counts"] or {}
    state = row["state"]
    if state == "building" and counts:
        state = f"built {row['num_clips'] - counts.get('pending', 0)} of {row['num_clips']}"
    arrays: dict[str, list[str]] = {}
    for key in row["arrays"] or ():
        group, _, name = key.partition("/")
        arrays.setdefault(group, []).append(name)
    failed = sum(counts.values()) - counts.get("ok", 0) - counts.get("pending", 0)
    return [
        row["store"],
        row["dataset"] or "",
        state,
        f"{row['num_clips']:,}" + (f", {failed} failed" if failed else "")
        if row["num_clips"]
        else "",
        ", ".join(row["folds"])
        if row["folds"] and len(row["folds"]) < SHOWN
        else str(len(row["folds"] or ())),
        str(row["num_classes"] or ""),
        ", ".join(f"{group}/{'|'.join(names)}" for group, names in arrays.items()),
        "" if row["bytes"] is None else f"{row['bytes'] / 1e6:,.1f} MB",
    ]


def diff(
    first: Annotated[str, typer.Argument(help="A store: path or URL.", metavar="STORE")],
    second: Annotated[str, typer.Argument(help="Another store.", metavar="STORE")],
    dataset: DatasetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare settings, clips, outcomes and every stored value of two stores.

    Exits with 0 if they are equal, 1 if they differ, and 2 if they cannot be compared.
    """
    err.note(f"{first} and {second}: reading everything")
    try:
        from featurestore.reading.differences import compare_stores

        differences = compare_stores(first, second, dataset, _watch())
    except FeatureStoreError as error:
        print_error(error)
        raise typer.Exit(_TROUBLE) from None
    except OSError as error:
        print_os_error(error)
        raise typer.Exit(_TROUBLE) from None
    if as_json:
        out.write_json(differences)
    else:
        out.say(*_difference_lines(differences))
    if not differences["equal"]:
        raise typer.Exit(1)


def export(
    store: StoreArgument,
    out_path: Annotated[
        Path,
        output("The .npz file (replaced if it exists), or a new directory.", "PATH"),
    ],
    output_format: Annotated[
        Literal["npz", "webdataset", "parquet"],
        typer.Option(
            "--format",
            help="npz: for numpy.load. webdataset: tars of samples. parquet: for "
            "datasets.load_dataset.",
            rich_help_panel=OUTPUT,
        ),
    ],
    dataset: DatasetOption = None,
    fold: Annotated[
        list[str] | None,
        typer.Option(
            help="Fold to write, by number or name; may be repeated. Default: all.",
            metavar="FOLD",
            rich_help_panel=DATA,
        ),
    ] = None,
    array: Annotated[
        list[str] | None,
        typer.Option(
            help="Array to write, such as R1/mel; may be repeated. Default: all, and none with "
            "--root.",
            metavar="KEY",
            rich_help_panel=DATA,
        ),
    ] = None,
    root: Annotated[Path | None, audio_root("write the sounds themselves, too")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Export clips of a store for NumPy, WebDataset or Hugging Face datasets."""
    err.note(f"{store}: reading the clips")
    from featurestore.reading.export import export as write
    from featurestore.store.reader import open_store

    try:
        done = write(
            open_store(store, dataset),
            out_path,
            output_format,
            folds=fold or (),
            arrays=array or (),
            root=root,
            watch=_watch(),
        )
    except KeyboardInterrupt:
        end_stopped("Nothing was written: the same command can be run again.")
    if as_json:
        out.write_json(
            {
                "out": json_text(done.path),
                "format": output_format,
                "files": list(done.files),
                "num_clips": done.num_clips,
                "num_left_out": done.num_left_out,
                "arrays": list(done.arrays),
                "folds": list(done.folds),
            }
        )
    else:
        left = f"; left out without features: {done.num_left_out}" if done.num_left_out else ""
        out.print(f"{done.path}: {quantity(done.num_clips, 'clip')}{left}.")
    err.suggest("python", "-i", "-c", _READ[output_format].format(path=_quoted(done.path)))


_READ = {
    "npz": "import numpy; file = numpy.load({path})",
    "webdataset": "import glob, webdataset; samples = webdataset.WebDataset(sorted(glob.glob("
    '{path} + "/*.tar")), shardshuffle=False).decode()',
    "parquet": "import datasets; clips = datasets.load_dataset({path})",
}
"""Code that reads an export, by format."""


def _quoted(path: Path) -> str:
    """Return a path as Python reads it, in double quotes: the shell needs the single ones."""
    return json.dumps(str(path), ensure_ascii=not str(path).isprintable())


def _watch() -> "Watch":
    from featurestore.progress import counting

    def watch(steps: Iterable[None], total: int) -> Iterable[None]:
        return counting(err, steps, total)

    return watch


def _difference_lines(differences: dict[str, Any]) -> Iterable[str]:
    """Yield what differs, in lines."""
    first, second = differences["first"], differences["second"]
    for place, names in ((first, differences["only_first"]), (second, differences["only_second"])):
        for name in names:
            yield f"dataset {name}: only in {place}"
    for name, dataset in differences["datasets"].items():
        lines = list(_dataset_lines(dataset, first, second))
        yield f"dataset {name}: {'' if lines else 'equal'}".rstrip()
        yield from lines
        for what, (one, other) in dataset["notes"].items():
            yield f"  (no difference: {what} {one} → {other})"
    if differences["equal"]:
        yield f"{first} and {second} are equal."


def _dataset_lines(differences: dict[str, Any], first: str, second: str) -> Iterable[str]:
    for field, (one, other) in (differences["spec"] | differences["card"]).items():
        yield f"  {field}: {one} → {other}"
    clips = differences["clips"]
    for place, only in ((first, clips["only_first"]), (second, clips["only_second"])):
        if only:
            yield f"  {quantity(len(only), 'clip')} only in {place}: {_some(only)}"
    if changed := clips["changed"]:
        listed = [f"{clip} ({', '.join(columns)})" for clip, columns in changed.items()]
        yield f"  different: {quantity(len(changed), 'clip')}: {_some(listed)}"
    if outcomes := differences["outcomes"]:
        listed = [f"{clip} ({one} → {other})" for clip, (one, other) in outcomes.items()]
        yield f"  ended differently: {quantity(len(outcomes), 'clip')}: {_some(listed)}"
    if audio := differences["audio"]:
        yield f"  made from other files: {quantity(len(audio), 'clip')}: {_some(audio)}"
    for key, array in differences["arrays"].items():
        if array["only"]:
            yield f"  {key}: only in {first if array['only'] == 'first' else second}"
        elif array["different"]:
            by = "" if array["largest"] is None else f", by at most {array['largest']:.3g}"
            of = (
                f"of {quantity(array['compared'], 'clip')}"
                if array["compared"]
                else "clips, in size"
            )
            yield f"  {key}: {array['different']} {of} differ{by}"


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more (--json lists all)" if more > 0 else "")
