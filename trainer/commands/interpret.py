"""`trainer interpret`: the clips that a run's networks get most confidently wrong, and why."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.terminal import JsonOption, QuietOption, Table, Terminal, styled
from featurestore.text import json_document, json_text, shorten
from schemas import CheckpointName

if TYPE_CHECKING:
    from trainer.inference.interpret import Interpretation

RESULT, PICTURE, VECTOR = "interpretation.json", "worst.png", "worst.svg"
_NAME_CHARS = 50


def interpret(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run.", metavar="RUN")],
    store: Annotated[
        str | None,
        typer.Option(help="Path or URL of the run's store, where it was moved."),
    ] = None,
    fold: Annotated[
        list[int] | None,
        typer.Option(help="Held-out fold; may be repeated. Default: all of the run's."),
    ] = None,
    checkpoint: Annotated[
        CheckpointName | None,
        typer.Option(
            help="Networks of the best epoch, or of the last one. Default: best, or last if none "
            "was picked."
        ),
    ] = None,
    top: Annotated[
        int, typer.Option(min=1, max=100, help="Clips to show, the most confident mistakes first.")
    ] = 12,
    out: Annotated[Path, typer.Option(help="Folder for the table and the picture.")] = Path(
        "interpretation"
    ),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show the clips that a run gets most confidently wrong, and the recall of each class."""
    from trainer.errors import TrainedRunError
    from trainer.inference.evaluate import open_own_store
    from trainer.inference.interpret import interpret as interpret_run
    from trainer.records.finished import open_finished
    from trainer.safefiles import output_folder, write_outputs

    finished = open_finished(run)
    chosen = checkpoint or finished.checkpoints[0]
    stored = open_own_store(finished, store)
    if stored.multilabel:
        raise TrainedRunError(f"{run}: its clips have several classes each; see `trainer report`")
    interpretation = interpret_run(finished, chosen, fold or ())
    with output_folder(out, (RESULT, PICTURE, VECTOR)):
        from trainer.report.worst import worst_picture

        array = finished.config.stages[-1].array
        worst = interpretation.wrong[:top]
        images = [stored.read_clip(clip.clip_id)[array] for clip in worst]
        picture = worst_picture(worst, images, array, stored.manifest.spec, run.name)
        document = _document(interpretation, run, chosen)
        contents = {RESULT: json_document(document).encode()}
        contents |= {PICTURE: picture.png, VECTOR: picture.svg}
        written = write_outputs(out, contents)
    console = Terminal()
    for warning in filter(None, (*finished.partial, finished.warning)):
        Terminal(stderr=True).warn(warning)
    if as_json:
        console.write_json(document)
        return
    console.print(_class_table(interpretation))
    console.print(_worst_table(interpretation, top))
    wrong, clips = len(interpretation.wrong), interpretation.num_clips
    text = f"{wrong} of {clips} clips wrong, accuracy {100 * interpretation.accuracy:.2f} %"
    console.print(styled(f"{text}; {chosen} network of each fold", style="bold"))
    console.say(written)


def _document(interpretation: "Interpretation", run: Path, checkpoint: str) -> dict[str, Any]:
    """Return everything, as interpretation.json and `--json` have it."""
    return {
        "run": json_text(run),
        "checkpoint": checkpoint,
        "num_clips": interpretation.num_clips,
        "accuracy": interpretation.accuracy,
        "classes": [asdict(one) for one in interpretation.classes],
        "wrong": [asdict(clip) for clip in interpretation.wrong],
    }


def _class_table(interpretation: "Interpretation") -> Table:
    table = Table("class", "clips", "recall %", "95 % interval")
    for one in interpretation.classes:
        name = shorten(one.class_name, _NAME_CHARS)
        if one.recall is None or one.low is None or one.high is None:
            table.add_row(name, "0", "–", "–")
            continue
        interval = f"{100 * one.low:.1f} to {100 * one.high:.1f}"
        table.add_row(name, str(one.num_clips), f"{100 * one.recall:.1f}", interval)
    return table


def _worst_table(interpretation: "Interpretation", top: int) -> Table:
    table = Table()
    table.add_column("clip", overflow="fold")
    for name in ("fold", "class", "taken for", "with", "its class with"):
        table.add_column(name)
    for clip in interpretation.wrong[:top]:
        table.add_row(
            clip.clip_id,
            str(clip.fold),
            shorten(clip.class_name, _NAME_CHARS),
            shorten(clip.predicted, _NAME_CHARS),
            f"{100 * clip.predicted_probability:.1f} %",
            f"{100 * clip.probability:.1f} %",
        )
    return table
