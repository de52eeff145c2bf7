"""Options that several commands share, each declared once; and groups of them.

A group is a dataclass whose fields are options. A command that is `grouped` takes it as one
parameter.
"""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_type_hints

import typer

from schemas import CheckpointName, FirstConv, Recipe, ResizeOperator

if TYPE_CHECKING:
    from trainer.run import Manner

RunOption = Annotated[Path, typer.Option(help="Directory of a finished run.")]
CheckpointOption = Annotated[
    CheckpointName, typer.Option(help="Networks of the best epoch, or of the last one.")
]
DeviceOption = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]
StoreOption = Annotated[
    str, typer.Option(help="Path or URL of the store that `featurestore build` wrote.")
]
DatasetOption = Annotated[
    str | None, typer.Option(help="Dataset name; required only if the store holds several.")
]
FoldOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Held-out fold, by number or name; may be repeated. Default: the official test folds, "
        "or every fold."
    ),
]
ReadingOption = Annotated[
    Literal["auto", "device", "host", "stream"],
    typer.Option(
        help="Where to keep training data: auto (by size), device or host (memory; the same "
        "on a CPU), or stream, from the store. Does not affect results."
    ),
]


@dataclass(frozen=True)
class Learning:
    """Options of a training step: fields of `trainer.plan.Options`."""

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


@dataclass(frozen=True)
class Conduct:
    """Execution options of runs; they do not affect results."""

    reading: ReadingOption = "auto"
    folds_at_once: Annotated[
        int, typer.Option(min=1, help="Folds trained in parallel. Does not affect results.")
    ] = 1
    checkpoint_every: Annotated[
        float,
        typer.Option(min=0, help="Seconds between two states on disk; 0: after every epoch."),
    ] = 60.0
    mlflow: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="Also log to MLflow: http://host:5000, sqlite:///mlflow.db and so on.",
        ),
    ] = None

    @property
    def manner(self) -> "Manner":
        """Return these options as the trainer takes them."""
        from trainer.run import Manner

        return Manner(self.reading, self.folds_at_once, self.checkpoint_every)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with an option for each field of the groups among its parameters."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {
        name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)
    }
    options: dict[str, Parameter] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        members = _members(groups[name]) if name in groups else {name: parameter}
        options |= {n: p.replace(kind=Parameter.KEYWORD_ONLY) for n, p in members.items()}

    @wraps(command)
    def call(**given: object) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{member: given.pop(member) for member in _members(kind)})
        command(**given)

    call.__signature__ = inspect.Signature(list(options.values()))  # type: ignore[attr-defined]
    call.__annotations__ = {name: option.annotation for name, option in options.items()}
    return call


def _members(group: type) -> dict[str, Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return {
        field.name: Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    }
