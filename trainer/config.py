"""What a run is asked: training options, which shape its numbers, and execution options.

Each option is declared once: the command line, sweeps (`--set`) and Python take it from here.
`trainer.plan` resolves them for a store and a machine into a `schemas.RunConfig`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import typer

from schemas import BestOf, Carry, Cycle, FirstConv, Moments, Recipe, ResizeOperator, Selection
from trainer.methods import METHODS

DeviceOption = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]
ReadingOption = Annotated[
    Literal["auto", "device", "host", "stream"],
    typer.Option(
        help="Where to keep training data: auto (by size), device or host (memory; the same "
        "on a CPU), or stream, from the store. Does not affect results."
    ),
]


@dataclass(frozen=True)
class StepOptions:
    """Options of a training step, see `schemas.RunConfig`; a recipe gives what is None."""

    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0
    device: DeviceOption = "auto"
    precision: Annotated[
        str, typer.Option(help="auto (bf16 if the device computes in it), float32 or bf16.")
    ] = "auto"
    recipe: Annotated[
        Recipe,
        typer.Option(
            help="What fills in the options that are left out: the paper's text, or what its code "
            "of 2019 must have done (--layer-groups 3, --moments carried, --first-conv red-frozen, "
            "--best-of stage, float32, a store with the filters torchaudio-2019)."
        ),
    ] = "paper"
    layer_groups: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=3,
            help="Groups of layers with learning rates of their own where a stage slows the body: "
            "2 (body, head) or 3 (the body in two, as fastai).",
        ),
    ] = None
    first_conv: Annotated[
        FirstConv | None,
        typer.Option(
            help="First convolution: the sum over the colours (sum; the default), or the red "
            "channel's weights, never trained (red-frozen)."
        ),
    ] = None
    init: Annotated[
        str,
        typer.Option(help="Initial weights: auto, imagenet, random, or a torchvision state dict."),
    ] = "auto"
    batch_size: Annotated[int, typer.Option(min=2, help="Clips per training step.")] = 64
    arch: Annotated[
        Literal["resnet18", "resnet34", "resnet50"], typer.Option(help="The network's body.")
    ] = "resnet34"
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads per fold. Default: all cores, shared."),
    ] = None
    mixup: Annotated[
        float, typer.Option(help="Mixup: mix pairs of clips by shares of Beta(α, α); 0 is off.")
    ] = 0.0
    freq_mask: Annotated[
        float, typer.Option(help="SpecAugment: mask up to this fraction of an image's bands.")
    ] = 0.0
    time_mask: Annotated[float, typer.Option(help="SpecAugment: the same for frames.")] = 0.0
    label_smoothing: Annotated[float, typer.Option(help="Label smoothing factor.")] = 0.0
    allow_duplicates: Annotated[
        bool,
        typer.Option(
            "--allow-duplicates",
            help="Train although the same file is in several folds; this is recorded.",
        ),
    ] = False
    methods_file: Annotated[
        Path | None, typer.Option(help="YAML of methods of your own, for --method.")
    ] = None
    resize_operator: Annotated[
        ResizeOperator | None,
        typer.Option(help="Resize operator of the method's images; bilinear by default."),
    ] = None

    def values(self) -> dict[str, Any]:
        """Return the options by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class TrainingOptions(StepOptions):
    """Options of a run that shape its numbers.

    Args:
        folds: Held out one after the other, by number or name; where empty, the official test
            folds, or all.
        own_methods: What is in the methods file, which is not read again then: on another machine
            another file may have its name.
    """

    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}.")] = ""
    selection: Annotated[
        Selection,
        typer.Option(
            help="Model selection: by the heldout fold, as in the paper; by a validation "
            "part of the training folds; or nothing (last)."
        ),
    ] = "heldout"
    validation_share: Annotated[
        float, typer.Option(help="Fraction of training clips for --selection validation.")
    ] = 0.1
    carry: Annotated[
        Carry | None,
        typer.Option(
            help="Network that each stage starts from: the best epoch of the stage before (stage; "
            "the default), the best so far (run), or the last epoch (last)."
        ),
    ] = None
    best_of: Annotated[
        BestOf | None,
        typer.Option(
            help="Epochs among which the reported best one is picked: those on the last stage's "
            "array (array; the default), those of the last stage (stage), or all (run)."
        ),
    ] = None
    moments: Annotated[
        Moments | None,
        typer.Option(
            help="The optimiser's moments at the start of a stage: fresh (the default), or carried "
            "with the network that the stage starts from."
        ),
    ] = None
    max_lr: Annotated[
        str | None,
        typer.Option(
            metavar="auto|LR,LR,…",
            help="Peak learning rates λ: measured by a range test of each stage before the "
            "training (auto), or given, one per stage. Default: the method's.",
        ),
    ] = None
    epochs_scale: Annotated[
        float, typer.Option(help="Multiplies the epochs of every stage; at least one each.")
    ] = 1.0
    acceleration: Annotated[
        str,
        typer.Option(
            help="Execution of steps: auto (eager), eager, or, experimental, compile, graph "
            "or compile-graph. Falls back to eager, with a warning, if unavailable."
        ),
    ] = "auto"
    folds: tuple[int | str, ...] = ()
    own_methods: Mapping[str, tuple[Cycle, ...]] | None = None


@dataclass(frozen=True)
class ExecutionOptions:
    """Options of how a run is carried out; they do not affect results."""

    reading: ReadingOption = "auto"
    folds_at_once: Annotated[
        int, typer.Option(min=1, help="Folds trained in parallel. Does not affect results.")
    ] = 1
    save_every_s: Annotated[
        float,
        typer.Option(
            "--checkpoint-every",
            min=0,
            help="Seconds between two states on disk; 0: after every epoch.",
        ),
    ] = 60.0

    def for_folds(self, num_folds: int) -> Self:
        """Return these options with no more folds at once than there are."""
        return replace(self, folds_at_once=min(self.folds_at_once, num_folds))
