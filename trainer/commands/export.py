"""`trainer export`: a network of a run as a file for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from featurestore.terminal import QuietOption, Terminal
from trainer.commands.options import CheckpointOption, RunOption


def export(
    run: RunOption,
    fold: Annotated[int, typer.Option(help="Use the network that held this fold out.")],
    output_format: Annotated[
        Literal["onnx", "torch-export"],
        typer.Option("--format", help="File format."),
    ],
    checkpoint: CheckpointOption = "best",
    out: Annotated[
        Path | None, typer.Option(help="Default: next to the network, as best.onnx or .pt2.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Write a network as ONNX or torch.export, checked against the original."""
    import torch

    from trainer.inference.export import METADATA, SUFFIXES
    from trainer.inference.export import export as make
    from trainer.inference.predict import load_network, open_run
    from trainer.safefiles import check_output, write_output

    trained = open_run(run)
    if trained.warning:
        Terminal(stderr=True).warn(trained.warning)
    trained.chosen([fold])
    path = out or run / f"fold{fold}" / f"{checkpoint}{SUFFIXES[output_format]}"
    check_output(path)
    network = load_network(trained, fold, checkpoint, torch.device("cpu"))
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
