"""`trainer predict`: probabilities of classes for sounds in files."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import track

from featurestore.terminal import QuietOption, Table, Terminal
from featurestore.text import csv_cell, from_json_text, json_document
from schemas import Prediction, Predictions, RunRecord, UnusedFile
from trainer.commands.options import CheckpointOption, RunOption
from trainer.config import DeviceOption
from trainer.errors import AudioInputError

Format = Literal["table", "csv", "json"]
_BY_SUFFIX: dict[str, Format] = {".csv": "csv", ".json": "json"}
_WIDE = 10_000


def predict(
    run: RunOption,
    audio: Annotated[
        list[Path], typer.Argument(help="Sound files, or directories of them.", metavar="AUDIO...")
    ],
    fold: Annotated[
        list[int] | None,
        typer.Option(
            help="Use the network that held this fold out; may be repeated. Default: all of the "
            "run's. Their probabilities are averaged."
        ),
    ] = None,
    checkpoint: CheckpointOption = "best",
    output_format: Annotated[
        Format | None,
        typer.Option("--format", help="table, csv or json. Default: by --out's suffix, or table."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write instead of printing.")] = None,
    top: Annotated[
        int, typer.Option(min=1, help="Classes shown in a table; csv and json have all.")
    ] = 3,
    threshold: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Least probability of a label, where sounds may have several."
        ),
    ] = 0.5,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Classify audio files with a run's trained models."""
    from trainer.api import classify
    from trainer.inference.predict import audio_files, open_run
    from trainer.safefiles import check_output, write_output

    trained = open_run(run)
    if trained.warning:
        Terminal(stderr=True).warn(trained.warning)
    folds = trained.chosen(fold or ())
    files = audio_files(audio, _note)
    if out:
        check_output(out)
    watched = partial(_watched, total=len(files))
    predictions = classify(trained, files, folds, checkpoint, device, watched, threshold)
    output = output_format or _BY_SUFFIX.get(out.suffix.lower() if out else "", "table")
    if out:
        write_output(out, _text(predictions, trained.record, output, top).encode())
    elif output == "table":
        Terminal(always=True).print(_table(predictions, top))
    else:
        Terminal(always=True).write(_text(predictions, trained.record, output, top))
    if predictions.unused:
        raise AudioInputError(f"{len(predictions.unused)} of {len(files)} files could not be used")


def _note(line: str) -> None:
    """Print a line about the files on standard error."""
    Terminal(stderr=True).say(line)


def _watched(
    results: Iterator[Prediction | UnusedFile], total: int
) -> Iterator[Prediction | UnusedFile]:
    """Yield the results, with a bar, and print a line for each file that could not be used."""
    console, muted = Terminal(stderr=True, always=True), Terminal.muted
    for result in track(
        results,
        "predicting",
        total,
        console=console,
        transient=True,
        disable=muted or not console.is_terminal,
    ):
        if isinstance(result, UnusedFile):
            console.say(f"{result.path}: {result.reason}")
        yield result


def _text(predictions: Predictions, record: RunRecord, output: Format, top: int) -> str:
    if output == "json":
        return json_document(predictions.model_dump(mode="json"))
    if output == "csv":
        return _csv(predictions, record.class_names)
    file = io.StringIO()
    Terminal(file=file, width=_WIDE, always=True).print(_table(predictions, top))
    return file.getvalue()


def _csv(predictions: Predictions, class_names: Sequence[str]) -> str:
    """Return a row for each usable file: path, class, its probability, then every class's.

    Where there may be several labels, they are a JSON list in `labels`, after the probability.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    several = ["labels"] if predictions.threshold is not None else []
    writer.writerow(["path", "class_name", "probability", *several, *map(csv_cell, class_names)])
    for row in predictions.predictions:
        names = csv_cell(from_json_text(row.path)), csv_cell(row.class_name)
        labels = [json.dumps(row.labels, ensure_ascii=False)] if several else []
        writer.writerow([*names, row.probability, *labels, *row.probabilities.values()])
    return text.getvalue()


def _table(predictions: Predictions, top: int) -> Table:
    folds = ", ".join(map(str, predictions.folds))
    table = Table(title=f"{predictions.run}: {predictions.checkpoint} network of fold {folds}")
    table.add_column("file", overflow="fold")
    first = predictions.predictions[:1]
    shown = min(top, *(len(row.probabilities) for row in first)) if first else top
    if predictions.threshold is not None:
        table.add_column(f"labels of {100 * predictions.threshold:g} % and more", overflow="fold")
    for rank in range(shown):
        table.add_column("class" if rank == 0 else f"{rank + 1}.")
    for row in predictions.predictions:
        ranked = sorted(row.probabilities.items(), key=lambda share: -share[1])[:shown]
        labels = [] if row.labels is None else [", ".join(row.labels) or "none"]
        cells = [f"{name} {100 * share:.1f} %" for name, share in ranked]
        table.add_row(row.path, *labels, *cells)
    return table
