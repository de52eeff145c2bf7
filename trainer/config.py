"""Options of a run: training options, which determine its results, and execution options.

Each option is declared once, here, for the command line, sweeps (`--set`) and Python.
`trainer.plan` resolves them for a store and a machine into a `schemas.RunConfig`.
"""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from inspect import Parameter
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    get_args,
    get_type_hints,
)

import typer
from pydantic import Field, TypeAdapter, ValidationError

from featurestore.text import did_you_mean
from schemas import (
    Acceleration,
    BestOf,
    Carry,
    Cycle,
    FirstConv,
    Moments,
    Recipe,
    ResizeOperator,
    Selection,
)
from trainer.errors import refused
from trainer.methods import METHODS

Place = str | os.PathLike[str]


def complete_method(incomplete: str) -> list[str]:
    """Return the built-in methods whose names begin with a text, for completion by the shell."""
    return [name for name in METHODS if name.startswith(incomplete)]


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
DatasetOption = Annotated[
    str | None, typer.Option(help="Dataset name; required only if the store holds more than one.")
]
MlflowOption = Annotated[
    str | None,
    typer.Option(
        metavar="URI", help="Also log to MLflow: http://host:5000, sqlite:///mlflow.db and so on."
    ),
]
DeviceOption = Annotated[
    str, typer.Option(help="Device: auto, cpu, or, never tested, cuda or cuda:N.")
]
PlacementOption = Annotated[
    Literal["auto", "device", "host", "stream"],
    typer.Option(
        help="Where to keep training data: auto (by size), device or host (memory; the same "
        "on a CPU), or stream, from the store. Does not affect results."
    ),
]


@dataclass(frozen=True)
class Doc:
    """Help text of an option that the command line does not have."""

    documentation: str


@dataclass(frozen=True)
class StepOptions:
    """Options of a training step, see `schemas.RunConfig`; a recipe replaces None."""

    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0
    device: DeviceOption = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bf16"],
        typer.Option(help="auto (bf16 if the device supports it), float32 or bf16."),
    ] = "auto"
    recipe: Annotated[
        Recipe,
        typer.Option(
            help="Defaults for options that are left out: the paper's text, or what its code "
            "of 2019 must have done (--layer-groups 3, --moments carried, --first-conv red-frozen, "
            "--best-of stage, float32, a store with the filters torchaudio-2019)."
        ),
    ] = "paper"
    layer_groups: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=3,
            help="Layer groups with their own learning rates in stages that slow the body: "
            "2 (body, head) or 3 (the body split in two, as in fastai).",
        ),
    ] = None
    first_conv: Annotated[
        FirstConv | None,
        typer.Option(
            help="First convolution: the sum over colour channels (sum; the default), or the red "
            "channel's weights, never trained (red-frozen)."
        ),
    ] = None
    init: Annotated[
        str,
        typer.Option(
            help="Initial weights: auto, imagenet (timm's own, for timm:NAME), random, or a file "
            "with a state dict."
        ),
    ] = "auto"
    batch_size: Annotated[int, typer.Option(min=2, help="Clips per training step.")] = 64
    arch: Annotated[
        str,
        typer.Option(
            metavar="NETWORK",
            help="The network's body: resnet18, resnet34 or resnet50, or any of timm's by "
            "timm:NAME (needs the extra timm).",
        ),
    ] = "resnet34"
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads per fold. Default: all cores, shared.")
    ] = None
    mixup: Annotated[
        float,
        typer.Option(help="Mixup: α of the Beta(α, α) distribution of mixing weights; 0 for off."),
    ] = 0.0
    freq_mask: Annotated[
        float, typer.Option(help="SpecAugment: maximum fraction of an image's bands to mask.")
    ] = 0.0
    time_mask: Annotated[
        float, typer.Option(help="SpecAugment: maximum fraction of frames to mask.")
    ] = 0.0
    label_smoothing: Annotated[float, typer.Option(help="Label smoothing factor.")] = 0.0
    allow_duplicates: Annotated[
        bool,
        typer.Option(
            "--allow-duplicates",
            help="Train although the same file is in several folds; this is recorded.",
        ),
    ] = False
    methods_file: Annotated[
        Path | None, typer.Option(help="YAML file with your own methods, for --method.")
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
    """Options of a run that determine its results.

    Options that the command line does not have are documented by `Doc`.
    """

    method: Annotated[
        str, typer.Option(help=f"{', '.join(METHODS)}.", autocompletion=complete_method)
    ] = ""
    selection: Annotated[
        Selection,
        typer.Option(
            help="Model selection: by the held-out fold, as in the paper (heldout), by a "
            "validation part of the training folds, or none (last)."
        ),
    ] = "heldout"
    validation_share: Annotated[
        float | None,
        typer.Option(
            help="Fraction of the training clips to set aside for --selection validation "
            "(default: 0.1)."
        ),
    ] = None
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
        float, typer.Option(help="Factor for the epochs of every stage, which has at least one.")
    ] = 1.0
    acceleration: Annotated[
        Literal["auto", Acceleration],
        typer.Option(
            help="Execution of steps: auto (eager), eager, or, experimental, compile, graph "
            "or compile-graph. Falls back to eager, with a warning, if unavailable."
        ),
    ] = "auto"
    folds: Annotated[
        Sequence[int | str],
        Doc(
            "Folds to hold out in turn, by number or name. Default: the official test "
            "folds, or all."
        ),
    ] = ()
    own_methods: Annotated[
        Mapping[str, tuple[Cycle, ...]] | None,
        # On another machine another file may have its name.
        Doc("Contents of the methods file, if it has been read already."),
    ] = None


@dataclass(frozen=True)
class ExecutionOptions:
    """Options of how a run is executed; they do not affect results."""

    placement: PlacementOption = "auto"
    folds_at_once: Annotated[
        int,
        typer.Option(min=1, help="Folds trained in parallel. Does not affect results."),
        Field(ge=1),
    ] = 1
    save_every_s: Annotated[
        float,
        typer.Option(
            "--checkpoint-every",
            min=0,
            help="Minimum seconds between saved states; 0 to save after every epoch.",
        ),
        Field(ge=0),
    ] = 60.0

    def for_folds(self, num_folds: int) -> Self:
        """Return these options with `folds_at_once` limited to the number of folds."""
        return replace(self, folds_at_once=min(self.folds_at_once, num_folds))


_Rates = Annotated[
    str | Sequence[float] | None,
    typer.Option(help="Peak learning rates λ, one per stage (default: the method's), or auto."),
]


@dataclass(frozen=True, kw_only=True)
class CallOptions(ExecutionOptions):
    """Additional options of the Python functions."""

    mlflow: MlflowOption = None
    progress: Annotated[
        bool,
        Doc(
            "Whether to print the plan, progress bars and the result; if not, "
            "warnings are issued as TrainerWarning."
        ),
    ] = True


@dataclass(frozen=True, kw_only=True)
class RunOptions(CallOptions, TrainingOptions):
    """Options of `trainer.train`: all options of `trainer run`."""

    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}, or your own.")] = "resize"
    max_lr: _Rates = None  # type: ignore[assignment]  # a command has texts alone
    dataset: DatasetOption = None
    out: Annotated[
        Place | None,
        typer.Option(help="Directory of the run. Default: ./runs/<dataset>-<method>-seed<seed>."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ResumeOptions(CallOptions):
    """Options of `trainer.resume`, none of which affects results."""

    store: Annotated[
        Place | None, typer.Option(help="Path of the store, if it has moved since.")
    ] = None


def taking(
    options: Callable[P, object],
) -> Callable[[Callable[..., R]], Callable[Concatenate[S, P], R]]:
    """Give a function, after its first argument, the parameters of a dataclass of options.

    Type checkers see each option, and `help` shows it with its text in place of `settings:
    OPTIONS`.
    """
    named = inspect.signature(options).parameters
    hints = get_type_hints(options, include_extras=True)

    def decorate(function: Callable[..., R]) -> Callable[Concatenate[S, P], R]:
        own = inspect.signature(function)
        first, *_ = own.parameters.values()
        bare = [
            one.replace(kind=Parameter.KEYWORD_ONLY, annotation=get_args(hints[name])[0])
            for name, one in named.items()
        ]
        function.__signature__ = own.replace(  # type: ignore[attr-defined]
            parameters=[first, *bare]
        )
        texts = [f"{name}: {_help(hints[name])}" for name in named]
        function.__doc__ = (function.__doc__ or "").replace(
            "settings: OPTIONS", "\n        ".join(texts)
        )
        return function

    return decorate


def _help(hint: Any) -> str:  # noqa: ANN401 - any annotation
    described = hint.__metadata__[0]
    return described.documentation if isinstance(described, Doc) else str(described.help)


def part(kind: Callable[..., R], options: object) -> R:
    """Return only the options of a base class."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(options, name) for name in names})


def checked(kind: type[R], function: str, options: dict[str, Any]) -> R:
    """Return options after checking types and bounds against their declarations.

    Raises:
        TypeError: There is no such option.
        ConfigError: A value is invalid.
    """
    hints = get_type_hints(kind, include_extras=True)
    for name in options.keys() - hints.keys():
        meant = did_you_mean(name, hints)
        raise TypeError(f"{function}() got an unexpected argument {name!r}{meant}")
    values = {name: _plain(value, hints[name]) for name, value in options.items()}
    for name, value in values.items():
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            raise refused(error, name) from error
    return kind(**values)


def _plain(value: Any, hint: Any) -> Any:  # noqa: ANN401 - whatever is given
    """Return a number or an array of NumPy's as Python's, a list as a tuple, a path as a Path."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, range | list | tuple):
        return tuple(_plain(item, None) for item in value)
    if isinstance(value, str) and Path in get_args(get_args(hint)[0] if get_args(hint) else hint):
        return Path(value)
    return value
