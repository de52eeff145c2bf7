"""`featurestore browse`: the page to see stores and hear their clips, live or exported."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featurestore.commands.options import audio_root, err, out
from featurestore.errors import DatasetError, MissingLibraryError
from featurestore.program import DATA, MACHINE, OUTPUT, QuietOption
from featurestore.terminal import end_stopped
from featurestore.text import quantity

if TYPE_CHECKING:
    from featurestore.browsing.site import Site


def browse(
    place: Annotated[
        str,
        typer.Argument(
            help="A store (path or URL), or a directory of stores.", metavar="STORE-OR-DIRECTORY"
        ),
    ],
    root: Annotated[Path | None, audio_root("hear the clips, see their waveforms")] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            help="Directory of a training run, to see what it gets wrong; may be repeated.",
            metavar="DIR",
            rich_help_panel=DATA,
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Write the page to this directory instead, as static files for any web server.",
            metavar="DIR",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65_535,
            help="Port on this machine's loopback address. Default: any free one.",
            show_default=False,
            rich_help_panel=MACHINE,
        ),
    ] = 0,
    quiet: QuietOption = False,
) -> None:
    """Browse stores on a local web page: see and hear clips, follow builds."""
    err.note(f"{place}: reading what there is to show")
    from featurestore.browsing.runs import Runs
    from featurestore.browsing.shelf import Shelf
    from featurestore.browsing.site import Site

    if root is not None and not root.is_dir():
        raise DatasetError(f"the directory {root} of the audio does not exist")
    shelf, runs = Shelf(place), Runs(run or [])
    if run and not shelf.several:
        runs.check_fit(shelf.fingerprints())
    site = Site(shelf, root, runs)
    if export is not None:
        _export(site, export)
        return
    try:
        from featurestore.browsing.server import serve
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"{error.name} is not installed: pip install 'featurestore[browse]'"
        ) from error

    def ready(address: str) -> None:
        out.print(address)
        if not shelf.describe():
            err.note(
                f"There is no store in {shelf.place} yet; one is listed once its build starts."
            )
        err.note("Open this address in a browser of this machine. Ctrl-C ends it.")

    try:
        serve(site, port, ready)
    except KeyboardInterrupt:
        end_stopped("The page is no longer served.")


def _export(site: "Site", to: Path) -> None:
    from featurestore.browsing.export import export
    from featurestore.progress import counting

    total, written = export(site, to)
    sizes = list(counting(err, written, total, "writing", "files"))
    out.print(f"{to}: {quantity(sum(map(bool, sizes)), 'file')}, {sum(sizes) / 1e6:,.1f} MB.")
    err.suggest("python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", to)
