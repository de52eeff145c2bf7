"""`trainer evaluate` and `trainer interpret`: scores and mistakes of a run's networks."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.measure import Measurement

from featurestore.program import JsonOption, QuietOption
from featurestore.terminal import Table, Terminal, styled
from featurestore.text import json_document, json_text, quantity, shorten
from schemas import Evaluation, MultilabelScores
from trainer.commands.options import CheckpointOption, RunOption
from trainer.config import DatasetOption, DeviceOption, PlacementOption

RESULT, PICTURE, VECTOR = "evaluation.json", "confusion.png", "confusion.svg"
if TYPE_CHECKING:
    from trainer.inference.interpret import Interpretation, WrongClip
    from trainer.stats import Matrix

MOST_CONFUSIONS = 10
_NAME_CHARS = 60
_WIDEST = 10_000


def evaluate(
    run: RunOption,
    store: Annotated[
        str | None,
        typer.Option(help="Path or URL of a store of the same features. Default: the run's own."),
    ] = None,
    dataset: DatasetOption = None,
    fold: Annotated[
        list[str] | None,
        typer.Option(
            help="Fold to evaluate on, by number or name; may be repeated. Default: those the run "
            "held out, or all of another store."
        ),
    ] = None,
    network: Annotated[
        list[int] | None,
        typer.Option(
            help="Use the network that held this fold out; if repeated, networks are averaged. "
            "Default: for each fold the one that held it out, or all on another store."
        ),
    ] = None,
    checkpoint: CheckpointOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("evaluation"),
    device: DeviceOption = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=10**6, help="Clips per batch. Default: as in training.")
    ] = None,
    placement: PlacementOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure accuracy, recall and confusions on a store, or mAP with several labels."""
    if dataset and not store:
        raise typer.BadParameter("is for --store: the run names its own", param_hint="--dataset")
    from featurestore import open_store
    from trainer.data.split import fold_numbers
    from trainer.inference.evaluate import check_match, open_own_store, plan_parts
    from trainer.inference.evaluate import evaluate as evaluate_run
    from trainer.inference.predict import load_network, open_run
    from trainer.safefiles import output_folder
    from trainer.training.device import computing_on, resolve_device

    trained = open_run(run)
    stored = open_store(store, dataset) if store else open_own_store(trained)
    check_match(trained.record, stored)
    parts = plan_parts(trained, stored, fold_numbers(stored, fold or ()), network or ())
    torch_device, chosen = resolve_device(device), checkpoint or trained.checkpoints[0]
    held_out = sorted({k for part in parts for k in part.networks})
    with output_folder(out, (RESULT, PICTURE, VECTOR)), computing_on(torch_device):
        networks = {k: load_network(trained, k, chosen, torch_device) for k in held_out}
        evaluation = evaluate_run(trained, stored, parts, networks, chosen, batch_size, placement)
        written = write_evaluation(out, evaluation)
    if as_json:
        Terminal().write_json(evaluation.model_dump(mode="json"))
        return
    console = Terminal()
    print_evaluation(console, evaluation)
    console.say(written)


def write_evaluation(out: Path, evaluation: Evaluation) -> str:
    """Write evaluation.json, confusion.png and .svg to a folder; return a line for the user.

    If clips may have several labels, there is no confusion matrix.

    Raises:
        RunDirectoryError: The folder cannot be written.
    """
    from trainer.report.classes import confusion_picture
    from trainer.safefiles import record_bytes, write_outputs

    if evaluation.scores is not None:
        return write_outputs(out, {RESULT: record_bytes(evaluation)})
    names = [one.class_name for one in evaluation.classes]
    picture = confusion_picture(_matrix(evaluation), names, _title(evaluation))
    contents = {RESULT: record_bytes(evaluation), PICTURE: picture.png, VECTOR: picture.svg}
    return write_outputs(out, contents)


def _title(evaluation: Evaluation) -> list[str]:
    accuracy, clips = 100 * (evaluation.accuracy or 0.0), quantity(evaluation.num_clips, "clip")
    where = f"{evaluation.run} on {evaluation.dataset}"
    return [f"{where}: {accuracy:.1f} % of {clips}", *evaluation.warnings]


def _matrix(evaluation: Evaluation) -> "Matrix":
    import numpy as np

    return np.array(evaluation.confusion, np.int64)


def print_evaluation(console: Terminal, evaluation: Evaluation) -> None:
    """Print the warnings and all results in tables."""
    for warning in evaluation.warnings:
        loud = warning.startswith("TRAINED ON")
        console.say(f"Warning: {warning}", style="bold red" if loud else "yellow")
    console.print(_fold_table(evaluation))
    console.print(_class_table(evaluation))
    if evaluation.scores is not None:
        names, cells = _score_cells(evaluation.scores)
        text = ", ".join(f"{name} {cell}" for name, cell in zip(names, cells, strict=True))
        console.print(styled(f"all {quantity(evaluation.num_clips, 'clip')}: {text}", style="bold"))
        return
    matrix = _matrix_table(evaluation)
    unbounded = console.options.update(max_width=_WIDEST)
    fits = Measurement.get(console, unbounded, matrix).minimum <= console.width
    console.print(matrix if fits else _confusion_table(evaluation))
    accuracy, clips = 100 * (evaluation.accuracy or 0.0), quantity(evaluation.num_clips, "clip")
    console.print(styled(f"accuracy {accuracy:.2f} % of {clips}", style="bold"))


def _fold_table(evaluation: Evaluation) -> Table:
    names, _ = _score_cells(evaluation.scores or evaluation.accuracy)
    table = Table("fold", "networks", "clips", "trained on", *names)
    for one in evaluation.folds:
        seen = "unknown" if one.num_trained_on is None else str(one.num_trained_on)
        judges = ", ".join(map(str, one.networks))
        _, cells = _score_cells(one.scores or one.accuracy)
        row = str(one.fold), judges, str(one.num_clips), seen, *cells
        table.add_row(*row, style="bold red" if one.num_trained_on else "")
    return table


def _score_cells(score: MultilabelScores | float | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names and the cells of an accuracy, or of the scores of several labels."""
    from trainer.console import SCORES_COLUMNS, scores_cells

    if isinstance(score, MultilabelScores):
        return SCORES_COLUMNS, scores_cells(score)
    return ("accuracy %",), (f"{100 * (score or 0.0):.2f}",)


def _class_table(evaluation: Evaluation) -> Table:
    several = evaluation.scores is not None
    own = ("AP %", "AUC %", "at least 50 %") if several else ("predicted",)
    table = Table("id", "class", "clips", *own, "recall %")
    for class_id, one in enumerate(evaluation.classes):
        name = shorten(one.class_name, _NAME_CHARS)
        measured = [_percent(one.average_precision), _percent(one.auc)] if several else []
        counts = str(one.num_clips), *measured, str(one.num_predicted)
        table.add_row(str(class_id), name, *counts, _percent(one.recall))
    return table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _matrix_table(evaluation: Evaluation) -> Table:
    table = Table(title="clips by true class and predicted id")
    table.add_column("true class", no_wrap=True)
    for class_id in range(len(evaluation.classes)):
        table.add_column(str(class_id), justify="right", no_wrap=True)
    for class_id, (one, row) in enumerate(
        zip(evaluation.classes, evaluation.confusion, strict=True)
    ):
        cells = [str(clips) if clips else "·" for clips in row]
        table.add_row(f"{class_id} {one.class_name}", *cells)
    return table


def _confusion_table(evaluation: Evaluation) -> Table:
    from trainer.stats import most_frequent

    table = Table("clips", "of class", "taken for", title="most frequent confusions")
    for clips, true, predicted in most_frequent(_matrix(evaluation), MOST_CONFUSIONS):
        names = [shorten(evaluation.classes[i].class_name, _NAME_CHARS) for i in (true, predicted)]
        table.add_row(str(clips), *names)
    return table


INTERPRETATION, WORST, WORST_VECTOR = "interpretation.json", "worst.png", "worst.svg"


def interpret(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run.", metavar="RUN")],
    store: Annotated[
        str | None, typer.Option(help="Path or URL of the run's store, if it was moved.")
    ] = None,
    fold: Annotated[
        list[int] | None,
        typer.Option(help="Held-out fold; may be repeated. Default: all of the run's."),
    ] = None,
    checkpoint: CheckpointOption = None,
    top: Annotated[
        int, typer.Option(min=1, max=100, help="Clips to show, the most confident mistakes first.")
    ] = 12,
    out: Annotated[Path, typer.Option(help="Folder for the table and the figure.")] = Path(
        "interpretation"
    ),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show the clips that a run gets most confidently wrong, and the recall of each class."""
    from trainer.inference.evaluate import open_own_store
    from trainer.inference.interpret import interpret as interpret_run
    from trainer.records.finished import open_finished
    from trainer.safefiles import output_folder, write_outputs
    from trainer.selection import OPTIMISTIC, other_images

    finished = open_finished(run)
    chosen, folds = checkpoint or finished.checkpoints[0], finished.chosen(fold or ())
    stored = open_own_store(finished, store)
    interpretation = interpret_run(finished, chosen, folds)
    with output_folder(out, (INTERPRETATION, WORST, WORST_VECTOR)):
        from trainer.report.classes import worst_picture

        worst = interpretation.wrong[:top]
        for array in {clip.array for clip in worst}:
            stored.shape(array)  # refuses an array that the store does not have
        images = [stored.read_clip(clip.clip_id)[clip.array] for clip in worst]
        picture = worst_picture(worst, images, stored.manifest.spec, run.name)
        document = {"run": json_text(run), "checkpoint": chosen, **asdict(interpretation)}
        contents = {INTERPRETATION: json_document(document).encode()}
        contents |= {WORST: picture.png, WORST_VECTOR: picture.svg}
        written = write_outputs(out, contents)
    console = Terminal()
    optimistic = chosen == "best" and finished.config.selection == "heldout"
    unlike = other_images(finished.result, chosen, folds)
    warnings = *finished.partial, finished.warning, unlike, OPTIMISTIC if optimistic else None
    for warning in filter(None, warnings):
        Terminal(stderr=True).warn(warning)
    if as_json:
        console.write_json(document)
        return
    console.print(_recall_table(interpretation))
    console.print(_worst_table(worst, multilabel=stored.multilabel))
    wrong, clips = len(interpretation.wrong), quantity(interpretation.num_clips, "clip")
    text = f"{wrong} of {clips} wrong, accuracy {100 * interpretation.accuracy:.2f} %"
    console.print(styled(f"{text}; {chosen} network of each fold", style="bold"))
    console.say(written)


def _recall_table(interpretation: "Interpretation") -> Table:
    table = Table("class", "clips", "recall %", "95 % interval", "AP %")
    for one in interpretation.classes:
        interval = "–" if one.low is None else f"{_percent(one.low)} to {_percent(one.high)}"
        name = shorten(one.class_name, _NAME_CHARS)
        measured = _percent(one.recall), interval, _percent(one.average_precision)
        table.add_row(name, str(one.num_clips), *measured)
    return table


def _worst_table(worst: "Sequence[WrongClip]", *, multilabel: bool) -> Table:
    named = ("labels", "most wrong about", "with", "the truth with")
    named = named if multilabel else ("class", "taken for", "with", "its class with")
    table = Table("clip", "fold", *named)
    for clip in worst:
        table.add_row(
            clip.clip_id,
            str(clip.fold),
            shorten(clip.class_name, _NAME_CHARS),
            shorten(clip.predicted, _NAME_CHARS),
            f"{100 * clip.predicted_probability:.1f} %",
            f"{100 * clip.probability:.1f} %",
        )
    return table
