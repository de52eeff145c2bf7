"""`featurestore datasets` and `download`."""

from pathlib import Path
from typing import Annotated

import typer

from featurestore.commands.options import YesOption, complete_dataset, err, out, stopping
from featurestore.program import DATA, JsonOption, QuietOption
from featurestore.terminal import Table
from featurestore.text import json_text, quantity


def datasets(as_json: JsonOption = False) -> None:
    """List the available datasets, and which of them are on this disk."""
    from featurestore.datasets.kinds import all_kinds
    from featurestore.datasets.roots import is_here

    kinds = all_kinds()
    places = {kind.name: is_here(kind) for kind in kinds if kind.markers}
    if as_json:
        kept = ("name", "summary", "default_store", "num_clips", "num_classes", "folds")
        out.write_json(
            [
                {name: getattr(kind, name) for name in (*kept, "num_bytes", "licence")}
                | {"root": json_text(places[kind.name]) if places.get(kind.name) else None}
                for kind in kinds
            ]
        )
        return
    table = Table("name", "clips", "classes", "folds", "size", "licence", "here")
    table.columns[0].no_wrap = True  # names are to be typed again
    for kind in kinds:
        table.add_row(
            kind.name,
            f"{kind.num_clips:,}" if kind.num_clips else "",
            str(kind.num_classes or ""),
            kind.folds,
            f"{kind.num_bytes / 1e9:.1f} GB" if kind.num_bytes else "",
            kind.licence,
            str(places.get(kind.name) or ""),
        )
    out.print(table)
    for kind in kinds:
        out.print(f"{kind.name}: {kind.summary}")


def download(
    dataset: Annotated[
        str,
        typer.Argument(
            help="urbansound8k, esc50 or esc10.", metavar="NAME", autocompletion=complete_dataset
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(help="Directory for the audio.", metavar="DIR", rich_help_panel=DATA),
    ] = None,
    yes: YesOption = False,
    quiet: QuietOption = False,
) -> None:
    """Download a dataset, or finish a download that was interrupted."""
    from featurestore.datasets.kinds import find_kind

    find_kind(dataset)
    err.note(f"{dataset}: looking for it")
    from featurestore.obtain import download_dataset

    with stopping("The partial download is kept"):
        source = download_dataset(err, dataset, root, yes=yes)
    out.print(f"{source.card.title}: {quantity(len(source.clips), 'clip')} in {source.root}")
    err.suggest("featurestore", "build", dataset, "--root", source.root)
