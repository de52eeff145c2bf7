"""Commands that use a run's trained networks: `trainer predict`, `export` and `ensemble`.

`predict` prints class probabilities for audio files, `export` writes a network for other programs,
`ensemble` compares the averaged probabilities of several runs with each run alone.
"""

import csv
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from featurestore.program import QuietOption
from featurestore.terminal import Table, Terminal
from featurestore.text import csv_cell, from_json_text, json_document, quantity
from schemas import Ensemble, Predictions, RunRecord
from trainer.commands.options import CheckpointOption, RunOption
from trainer.config import DeviceOption
from trainer.errors import AudioInputError

Format = Literal["table", "csv", "json"]
_BY_SUFFIX: dict[str, Format] = {".csv": "csv", ".json": "json"}
_WIDE = 10_000
_TOP = 3
_ENSEMBLE_RECORD, _ENSEMBLE_PREDICTIONS = "ensemble.json", "ensemble.csv"


def predict(
    run: RunOption,
    audio: Annotated[
        list[Path], typer.Argument(help="Audio files, or directories of them.", metavar="AUDIO...")
    ],
    fold: Annotated[
        list[int] | None,
        typer.Option(
            help="Use the network that held this fold out; may be repeated. Default: all of the "
            "run's. Their probabilities are averaged."
        ),
    ] = None,
    checkpoint: CheckpointOption = None,
    output_format: Annotated[
        Format | None,
        typer.Option("--format", help="table, csv or json. Default: by --out's suffix, or table."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write to instead of printing.", metavar="FILE")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of classes in a table (default: 3); csv and json have all."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Minimum probability of a label, if clips may have several (default: 0.5).",
        ),
    ] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Classify audio files with a run's trained models."""
    output = output_format or _BY_SUFFIX.get(out.suffix.lower() if out else "", "table")
    if top and output != "table":
        raise typer.BadParameter(f"is for tables: {output} has all classes", param_hint="--top")
    from trainer.api import classify
    from trainer.inference.predict import open_run
    from trainer.safefiles import check_output, write_output

    trained = open_run(run)
    if out:
        check_output(out)
    shown = Terminal(stderr=True), trained, audio
    predictions = classify(*shown, fold or (), checkpoint, device, threshold)
    text = partial(_text, predictions, trained.record, output, top or _TOP)
    if out:
        write_output(out, text().encode())
    elif output == "table":
        Terminal(always=True).print(_table(predictions, top or _TOP))
    else:
        Terminal(always=True).write(text())
    if predictions.unused:
        unused = len(predictions.unused)
        number = quantity(unused + len(predictions.predictions), "file")
        raise AudioInputError(f"{unused} of {number} could not be used")


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
    table.add_column("file")
    first = predictions.predictions[:1]
    shown = min(top, *(len(row.probabilities) for row in first)) if first else top
    if predictions.threshold is not None:
        table.add_column(f"labels of {100 * predictions.threshold:g} % and more")
    for rank in range(shown):
        table.add_column("class" if rank == 0 else f"{rank + 1}.")
    for row in predictions.predictions:
        ranked = sorted(row.probabilities.items(), key=lambda share: -share[1])[:shown]
        labels = [] if row.labels is None else [", ".join(row.labels) or "none"]
        cells = [f"{name} {100 * share:.1f} %" for name, share in ranked]
        table.add_row(row.path, *labels, *cells)
    return table


def export(
    run: RunOption,
    fold: Annotated[int, typer.Option(help="Use the network that held this fold out.")],
    output_format: Annotated[
        Literal["onnx", "torch-export"], typer.Option("--format", help="File format.")
    ],
    checkpoint: CheckpointOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Default: best.onnx or .pt2, next to best.pt (or last).", metavar="FILE"),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Write a network as ONNX or torch.export, checked against the original."""
    import torch

    from trainer.inference.export import METADATA, SUFFIXES
    from trainer.inference.export import export as make
    from trainer.inference.predict import load_network, open_run
    from trainer.safefiles import check_output, write_output
    from trainer.selection import other_images

    trained = open_run(run)
    trained.chosen([fold])
    chosen = checkpoint or trained.checkpoints[0]
    for warning in filter(None, (trained.warning, other_images(trained.result, chosen, [fold]))):
        Terminal(stderr=True).warn(warning)
    path = out or run / f"fold{fold}" / f"{chosen}{SUFFIXES[output_format]}"
    check_output(path)
    network = load_network(trained, fold, chosen, torch.device("cpu"))
    made = make(trained.record, network, output_format)
    write_output(path, made.data)
    features = trained.record.features
    bands, frames = features.arrays[network.array]
    unit = "" if features.feature(network.array) else " in [0, 1]"
    lines = (
        f"{path}: images (batch, 1, {bands}, {frames}) of {network.array}{unit} → logits "
        f"(batch, {len(trained.record.class_names)}); metadata in {METADATA}",
        f"checked: its logits differ from the network's by {made.difference:.1e} (relative)",
    )
    Terminal().say(*lines)


def ensemble(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Directories of finished runs, two or more.", metavar="RUN..."),
    ],
    checkpoint: CheckpointOption = None,
    out: Annotated[Path, typer.Option(help="Folder for ensemble.json and .csv.")] = Path(
        "ensemble"
    ),
    quiet: QuietOption = False,
) -> None:
    """Average the class probabilities of several runs and compare with each run alone."""
    from trainer.inference.ensemble import average
    from trainer.records.finished import open_finished
    from trainer.records.tables import predictions_bytes
    from trainer.safefiles import output_folder, record_bytes, write_outputs

    record, predictions = average([open_finished(path) for path in runs], checkpoint)
    contents = {
        _ENSEMBLE_RECORD: record_bytes(record),
        _ENSEMBLE_PREDICTIONS: predictions_bytes(predictions),
    }
    with output_folder(out, contents):
        written = write_outputs(out, contents)
    console = Terminal()
    print_ensemble(console, record)
    console.say(written)


def print_ensemble(console: Terminal, record: Ensemble) -> None:
    """Print warnings, accuracies by fold, and the gain of the average over each run."""
    from trainer.console import SCORES_COLUMNS, scores_cells
    from trainer.report.render import Column, headings, print_table
    from trainer.report.render import Table as ReportTable
    from trainer.report.tables import (
        DIFFERENCE_NOTES,
        TESTS,
        comparison_cells,
        least_note,
        mean_std,
        percent,
    )
    from trainer.selection import SCORE_NAMES

    for warning in record.warnings:
        console.warn(warning)
    short = [Path(member.run).name for member in record.members]
    names = short if len(set(short)) == len(short) else [member.run for member in record.members]
    values = [*(member.accuracies for member in record.members), record.accuracies]
    # By row: a run or the average, in points.
    points = [[100 * value for value in of] for of in values]
    score = SCORE_NAMES[record.task]
    title = f"{'Accuracy' if score == 'accuracy' else score} by held-out fold, %"
    columns = tuple(map(Column, ("fold", "clips", *names, "average")))
    folds = zip(record.folds, record.num_clips, *points, strict=True)
    rows: tuple[tuple[str, ...], ...]
    rows = tuple((str(fold), str(clips), *map(percent, of)) for fold, clips, *of in folds)
    print_table(ReportTable(title, columns, rows), console)
    gains = f"{score}, %", "average gains", "95 % CI", *TESTS
    columns = *headings("run"), *headings("method", "seed", *gains)
    names[record.best_member] += " (best)"
    rows = tuple(
        (name, member.method, str(member.seed), mean_std(of), *comparison_cells(member.gain, 100))
        for name, member, of in zip(names, record.members, points, strict=False)
    )
    rows += (("average", "", "", mean_std(points[-1]), *[""] * 7),)
    title = "Mean ± sample standard deviation over folds"
    note = f"The best single run is picked on these very folds. {least_note(len(record.folds))}"
    print_table(ReportTable(title, columns, rows, note), console)
    if record.scores:
        columns = (Column("fold"), *map(Column, SCORES_COLUMNS))
        scored = zip(record.folds, record.scores, strict=True)
        rows = tuple((str(fold), *scores_cells(scores)) for fold, scores in scored)
        print_table(ReportTable("All scores of the average", columns, rows), console)
    for text in DIFFERENCE_NOTES:
        console.print(f"• {text}")
