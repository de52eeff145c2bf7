"""`featurestore info`, `verify` and `plot`: what is in a store, and whether it is whole."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.commands.options import (
    DatasetOption,
    StoreArgument,
    audio_root,
    command_line,
    counted,
    err,
    failure_lines,
    out,
    output,
    shapes_text,
)
from featurestore.errors import DatasetError
from featurestore.program import DATA, OUTPUT, JsonOption, QuietOption
from featurestore.terminal import Table, styled
from featurestore.text import file_name, printable, quantity

if TYPE_CHECKING:
    from schemas.librosa_features import Feature

_LONG_NAME = 60


def info(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Describe a store: contents, settings, failed clips and reasons."""
    from featurestore.reading.info import describe

    description = describe(store)
    if as_json:
        out.write_json(description)
        return
    size = "size unknown, as a web server lists nothing"
    if description["bytes"] is not None:
        size = f"{description['bytes'] / 1e6:,.1f} MB in {quantity(description['files'], 'file')}"
    out.print(styled(f"{description['path']}: {size}", style="bold"))
    for name, dataset in description["datasets"].items():
        _print_dataset(store, name, dataset)


def _partial(dataset: dict[str, Any]) -> str:
    from schemas import NOT_COMPARABLE

    official = dataset["official_clips"]
    return (
        f"of {quantity(official, 'clip')} of the published dataset: {NOT_COMPARABLE}"
        if official
        else ""
    )


def _feature_words(feature: "Feature") -> str:
    """Return what a feature is, its arguments other than librosa's defaults, and what it is of."""
    changed = feature.model_dump(exclude_defaults=True, exclude={"name"})
    words = [feature.long_name, *(f"{name} {value}" for name, value in changed.items())]
    comment = f" ({feature.comment})" if feature.comment else ""
    return f"{feature.key}: {', '.join(words)}, float32{comment}"


def _print_dataset(store: str, name: str, dataset: dict[str, Any]) -> None:
    from schemas import FeatureSpec

    card, spec = dataset["card"], FeatureSpec.model_validate_json(json.dumps(dataset["spec"]))
    table = Table(title=f"{name}: {card['title']}", show_header=False, title_justify="left")
    changed = spec.model_dump(exclude_defaults=True, exclude={"features"})
    settings = [f"{field} {json.dumps(dataset['spec'][field])}" for field in changed]
    rows = {
        "state": dataset["state"],
        "clips": counted(dataset["counts"], dataset["silent"]),
        "partial": _partial(dataset),
        "folds": ", ".join(
            f"{f['name'] or f['fold']} ({f['num_clips']})" for f in dataset["folds"]
        ),
        "classes": ", ".join(f"{n} ({count:,})" for n, count in dataset["clips_by_class"].items()),
        "labels": "several per clip, or none" if dataset["multilabel"] else "",
        "arrays": shapes_text(spec),
        "stored as": f"{spec.dtype}, {quantity(dataset['chunk_clips'], 'clip')} per chunk",
        "spec": "the paper's" if not changed else f"the paper's but for {', '.join(settings)}",
        "features": "; ".join(_feature_words(feature) for feature in spec.features),
        "fingerprint": dataset["fingerprint"],
        "made with": ", ".join(f"{k} {v}" for k, v in dataset["libraries"].items()),
        "licence": card["licence"],
        "citation": card["citation"],
        "source": card["url"],
    }
    for key, value in rows.items():
        if value or key not in ("partial", "labels", "features"):
            table.add_row(key, str(value))
    out.print(table)
    failures = [(failure["reason"], failure["path"]) for failure in dataset["failures"]]
    every = command_line("featurestore", "info", store, "--json")
    for line in failure_lines(failures, len(failures), every):
        out.print(line)


def verify(
    store: StoreArgument,
    dataset: DatasetOption = None,
    root: Annotated[
        Path | None, audio_root("compare every file's digest, and a sample's features")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check a whole store; list what is missing or damaged, and exit with 1 if anything is."""
    err.note(f"{store}: reading everything")
    from featurestore.checking.verify import FileProblem, count_parts
    from featurestore.checking.verify import verify as find_problems
    from featurestore.progress import counting

    problems: list[str] = []
    parts = find_problems(store, dataset, root)
    for part_problems in counting(err, parts, count_parts(store, dataset, root)):
        problems += part_problems
        if not as_json:
            for problem in part_problems:
                if not isinstance(problem, FileProblem):
                    out.say(f"broken: {problem}", style="red")
    # A wrong --root is a problem of every file: those are grouped.
    files = [(one.reason, one.file) for one in problems if isinstance(one, FileProblem)]
    if as_json:
        out.write_json({"store": store, "whole": not problems, "problems": problems})
    elif problems:
        named = ("--dataset", dataset) if dataset else ()
        every = command_line("featurestore", "verify", store, *named, "--root", root, "--json")
        for line in failure_lines(files, len(files), every):
            out.say(line, style="red")
        broken = len(problems) - len(files)
        advice = " `featurestore repair` repairs what is broken." if broken else ""
        out.print(f"{quantity(len(problems), 'problem')} in {store}.{advice}")
    else:
        out.print(f"{store}: everything is there and readable.")
    if problems:
        raise typer.Exit(1)


def plot(
    store: StoreArgument,
    clip: Annotated[
        str | None,
        typer.Option(
            help="Clip to draw: its id or path, or an unambiguous end of either.",
            metavar="CLIP",
            rich_help_panel=DATA,
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Draw this many clips of each class instead.", rich_help_panel=DATA
        ),
    ] = None,
    root: Annotated[Path | None, audio_root("draw the clip's waveform, too")] = None,
    dataset: DatasetOption = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Draw the clip by every resize operator.", rich_help_panel=OUTPUT
        ),
    ] = False,
    out_file: Annotated[
        Path | None,
        output("Default: CLIP.png, or DATASET-classes.png.", "FILE"),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Draw a clip at every resolution and by every method, or a few clips of each class."""
    if (clip is None) == (classes is None):
        raise typer.BadParameter("expected either --clip or --classes")
    if clip is None and (compare or root):
        raise typer.BadParameter("--compare and --root are for --clip")
    err.note(f"{store}: reading the clips")
    import featurestore.pictures  # noqa: F401 - before Matplotlib, whose start it explains
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
