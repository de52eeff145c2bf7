"""`trainer ensemble`: the averaged probabilities of several runs against each run alone."""

from pathlib import Path
from typing import Annotated

import typer

from featurestore.terminal import QuietOption, Terminal
from schemas import CheckpointName, Ensemble, EnsembleMember

RESULT, PREDICTIONS = "ensemble.json", "ensemble.csv"


def ensemble(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Directories of finished runs, two or more.", metavar="RUN..."),
    ],
    checkpoint: Annotated[
        CheckpointName | None,
        typer.Option(
            help="Networks of the best epoch, or of the last one. Default: best, or last if "
            "none was picked."
        ),
    ] = None,
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
    contents = {RESULT: record_bytes(record), PREDICTIONS: predictions_bytes(predictions)}
    with output_folder(out, contents):
        written = write_outputs(out, contents)
    console = Terminal()
    print_ensemble(console, record)
    console.say(written)


def print_ensemble(console: Terminal, record: Ensemble) -> None:
    """Print the warnings, accuracies by fold, and what the average gains over each run."""
    from trainer.console import SCORES_COLUMNS, scores_cells
    from trainer.report.render import Column, Table, print_table
    from trainer.report.tables import (
        DIFFERENCE_NOTES,
        TEST_COLUMNS,
        least_note,
    )
    from trainer.task import TASKS

    for warning in record.warnings:
        console.warn(warning)
    names = _names(record.members)
    columns = (Column("fold"), Column("clips"), *map(Column, names), Column("average"))
    score = TASKS[record.task].score_name
    title = f"{'Accuracy' if score == 'accuracy' else score} by held-out fold, %"
    print_table(Table(title, columns, _fold_rows(record)), console)
    columns = (
        *(Column("run", numeric=False), Column("method", numeric=False), Column("seed")),
        *(Column(f"{score}, %"), Column("average gains"), Column("95 % CI")),
        *TEST_COLUMNS,
    )
    note = f"The best single run is picked on these very folds. {least_note(len(record.folds))}"
    rows = _member_rows(record, names)
    print_table(Table("Mean ± sample standard deviation over folds", columns, rows, note), console)
    if record.scores:
        columns = (Column("fold"), *map(Column, SCORES_COLUMNS))
        rows = tuple(
            (str(fold), *scores_cells(scores))
            for fold, scores in zip(record.folds, record.scores, strict=True)
        )
        print_table(Table("All scores of the average", columns, rows), console)
    for text in DIFFERENCE_NOTES:
        console.print(f"• {text}")


def _names(members: tuple[EnsembleMember, ...]) -> list[str]:
    """Return the directories' last parts if they tell the runs apart."""
    short = [Path(member.run).name for member in members]
    return short if len(set(short)) == len(short) else [member.run for member in members]


def _fold_rows(record: Ensemble) -> tuple[tuple[str, ...], ...]:
    from trainer.report.tables import percent

    values = [*(member.accuracies for member in record.members), record.accuracies]
    return tuple(
        (str(fold), str(clips), *(percent(100 * of[at]) for of in values))
        for at, (fold, clips) in enumerate(zip(record.folds, record.num_clips, strict=True))
    )


def _member_rows(record: Ensemble, names: list[str]) -> tuple[tuple[str, ...], ...]:
    from trainer.report.tables import comparison_cells, mean_std

    rows = []
    for at, (member, name) in enumerate(zip(record.members, names, strict=True)):
        best = " (best)" if at == record.best_member else ""
        accuracy = mean_std([100 * value for value in member.accuracies])
        cells = comparison_cells(member.gain, scale=100)
        rows.append((name + best, member.method, str(member.seed), accuracy, *cells))
    whole = mean_std([100 * value for value in record.accuracies])
    return (*rows, ("average", "", "", whole, *[""] * 7))
