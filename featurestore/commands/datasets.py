"""`featurestore datasets` and `download`."""

from typing import Annotated

import typer

from featurestore.commands.options import RootOption, YesOption, err, out, stopping
from featurestore.terminal import JsonOption, QuietOption, Table


def datasets(as_json: JsonOption = False) -> None:
    """List the available datasets."""
    from featurestore.datasets.kinds import DATASETS

    if as_json:
        out.write_json(
            [
                {"name": kind.name, "summary": kind.summary, "default_store": kind.default_store}
                for kind in DATASETS.values()
            ]
        )
        return
    table = Table("name", "what", "default store")
    for kind in DATASETS.values():
        table.add_row(kind.name, kind.summary, kind.default_store)
    out.print(table)


def download(
    dataset: Annotated[str, typer.Argument(help="urbansound8k, esc50 or esc10.", metavar="NAME")],
    root: RootOption = None,
    yes: YesOption = False,
    quiet: QuietOption = False,
) -> None:
    """Download a dataset, or finish a download that was interrupted."""
    from featurestore.datasets.kinds import find_kind

    find_kind(dataset)
    err.note(f"{dataset}: looking for it")
    from featurestore.obtain import obtain

    with stopping("The partial download is kept"):
        source = obtain(err, dataset, root, yes=yes)
    out.print(f"{source.card.title}: {len(source.clips)} clips in {source.root}")
    err.suggest("featurestore", "build", dataset, "--root", source.root)
