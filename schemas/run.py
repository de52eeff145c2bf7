"""What a training run was asked to do and what it found.

The contents of run.json and result.json and, by held-out fold, of metrics.csv and fold.json.
"""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Schema, Sealed
from schemas.features import FeatureSpec

Share = Annotated[float, Field(ge=0, le=1)]
Accuracy = Share
Reading = Literal["device", "host", "stream"]
"""Where a stage's data lies while it is trained on; it changes no number."""
Acceleration = Literal["eager", "compile", "graph", "compile-graph"]
"""How a training step is run: as it is, through torch.compile, as a CUDA graph, or both."""
Selection = Literal["heldout", "validation", "last"]
"""What picks the network of a fold, and the one that each stage begins with.

heldout: the epoch of the highest accuracy on the held-out fold itself, as in the paper; optimistic.
validation: the same on a part of the training folds; the held-out fold is looked at once.
last: nothing is picked, the last epoch counts; the held-out fold is watched only.
"""


class Stage(Schema):
    """One 1cycle: a stored array, a number of epochs, and learning rates."""

    array: str
    """`resolution/variant` of the store."""
    alternate: str | None = None
    """An array of the same shape that every second epoch sees instead."""
    epochs: Annotated[int, Field(ge=1)]
    max_lr: Annotated[float, Field(gt=0)]
    """Peak learning rate of the head."""
    body_lr_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The body's learning rate over the head's: 1, or 1/3 in the second cycle of a resolution."""


class RunConfig(Schema):
    """Everything that determines a run's numbers, next to the store's fingerprint."""

    dataset: str
    method: str
    stages: tuple[Stage, ...]
    folds: tuple[int, ...]
    seed: Annotated[int, Field(ge=0)] = 0
    arch: Literal["resnet18", "resnet34", "resnet50"] = "resnet34"
    init: str = "auto"
    """`auto`, `imagenet`, `random` or the path of a state dict."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    epochs_scale: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    device: str = "cpu"
    """A PyTorch device: `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of the forward and backward pass; the parameters are float32 always."""
    acceleration: Acceleration = "eager"
    """Compiled steps round otherwise, so a run that goes on must use the same."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Of a CPU, for each fold: sums are split among them, which changes their last bits."""
    selection: Selection = "heldout"
    validation_share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Of the training clips, that `validation` sets apart; whole recordings, every class alike."""
    mixup: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.0
    """α of the Beta distribution that two mixed clips' shares are drawn from; 0 mixes none."""
    freq_mask: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest share of an image's bands that SpecAugment masks; 0 masks none."""
    time_mask: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """The same of its frames."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that all classes get alike."""
    allow_duplicates: bool = False
    """Whether the user accepted that some files are in several folds."""


class RunRecord(Sealed):
    """run.json: the config with what it met, written before the first step."""

    config: RunConfig
    fingerprint: str
    store: str
    """Where it was: a path, or a URL."""
    features: FeatureSpec
    """What the networks see: any other file must be made into the same images."""
    extractor_version: int
    class_names: tuple[str, ...]
    """By class_id."""
    versions: dict[str, str]
    device_name: str
    started: str
    """ISO 8601, UTC."""
    init_used: Literal["imagenet", "random", "file"]
    init_sha256: str | None = None
    """Of the file of the initial weights; None of random ones, and in files of older versions."""
    warnings: tuple[str, ...] = ()
    readings: dict[str, Reading] = Field(default_factory=dict)
    """By array; empty in files of older versions."""
    folds_at_once: Annotated[int, Field(ge=1)] = 1
    """It changes no number."""


class EpochMetrics(Schema):
    """One row of a fold's metrics.csv. Losses are mean cross-entropies in nats.

    `valid_*` are on the validation part where there is one, else on the held-out fold.
    """

    fold: int
    stage: int
    """Counted from 1."""
    epoch: int
    """Counted from 1 over the whole schedule."""
    array: str
    max_lr: float
    train_loss: float
    """The one that is optimised: of mixed, masked images and smoothed targets where these are on,
    so it is not comparable with `valid_loss` then."""
    valid_loss: float
    valid_accuracy: Accuracy
    seconds: float
    """Wall time of the epoch with its validation."""
    samples_per_s: float
    """Training samples over the seconds spent training."""
    wait_share: Share = 0.0
    """Of `seconds`, in which the loop waited for data; 0 in files of older versions."""


class FoldResult(Schema):
    """What one held-out fold gave."""

    fold: int
    num_train: int
    num_test: int
    best_accuracy: Accuracy | None
    """On the held-out fold, of the epoch that was picked, by that fold itself (optimistic) or by
    the validation part. None where nothing is picked."""
    best_epoch: int | None
    last_accuracy: Accuracy | None
    """On the held-out fold, of the last epoch. None with a validation part: it is seen once."""
    last_epoch: int
    seconds: float
    num_valid: int = 0
    """Clips of the validation part, which are not among `num_train`."""
    valid_accuracy: Accuracy | None = None
    """On the validation part, of the epoch that it picked."""
    warnings: tuple[str, ...] = ()
    """Met while it was trained."""


class FoldRecord(FoldResult, Sealed):
    """fold.json: a fold's outcome, with the digests of what it was found with."""

    record_sha256: str | None = None
    """Digest of the run.json that was carried out; None in files of older versions."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each of the fold's files by its name; empty in files of older versions."""


class RunResult(Sealed):
    """result.json: the run's outcome."""

    config: RunConfig
    fingerprint: str
    folds: tuple[FoldResult, ...]
    init_used: Literal["imagenet", "random", "file"]
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    device_name: str
    readings: dict[str, Reading] = Field(default_factory=dict)
    digests: dict[str, str] = Field(default_factory=dict)
    """Digests of run.json and of each fold.json by path; empty in files of older versions."""
