"""Config, record and results of a training run.

The contents of run.json and result.json and, per held-out fold, of metrics.csv and fold.json.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator

from schemas.base import Schema, Sealed
from schemas.features import FeatureSpec

_LEAST_MIXUP = 1e-3
Share = Annotated[float, Field(ge=0, le=1)]
Accuracy = Share
Placement = Literal["device", "host", "stream"]
"""Place of a stage's data: GPU memory, host memory, or the store. Does not affect results."""
Placements = dict[str, Placement]
_EARLIER = AliasChoices("placements", "readings")
Acceleration = Literal["eager", "compile", "graph", "compile-graph"]
"""Execution of a training step: eager, through torch.compile, as a CUDA graph, or both; all but
eager are experimental."""
Selection = Literal["heldout", "validation", "last"]
"""Model selection: which network of a fold counts, and which one each stage starts from.

heldout: the epoch of the highest accuracy on the held-out fold itself, as in the paper; optimistic.
validation: the same on a part of the training folds; the held-out fold is evaluated once.
last: nothing is picked, the last epoch counts; the held-out fold's scores are only recorded.
"""

Carry = Literal["stage", "run", "last"]
"""Network that a stage starts from: the best epoch of the stage before, as in the paper's code; the
best of all stages so far; or the last epoch."""
BestOf = Literal["array", "stage", "run"]
"""Epochs among which the reported best one is picked: those on the last stage's array; those of the
last stage; or all, which may report a network of small images."""

LayerGroups = Literal[2, 3]
"""Groups of layers with learning rates of their own: body and head; or, as in fastai, the lower
half of the body, its upper half, and the head, at λ·r, λ·√r and λ for a body's ratio r."""
Moments = Literal["fresh", "carried"]
"""The optimiser's moments at the start of a stage: none; or, as in fastai, those after the epoch
whose network the stage starts from."""
FirstConv = Literal["sum", "red-frozen"]
"""Weights of the one-channel first convolution: the sum over the channels of the three-channel one,
trained; or, as in the paper's code, those of its red channel, never trained."""

MaxLrFrom = Literal["method", "measured", "given"]
"""Origin of the stages' learning rates: the method's table for the dataset; a range test of each
stage before the training; or the user."""

Task = Literal["multiclass", "multilabel"]
"""Kind of task: one class per clip, scored by accuracy; or any number of labels per clip, scored by
mean average precision. Results of the two are never compared."""

InitUsed = Literal["imagenet", "timm", "random", "file"]
"""Origin of the initial weights: torchvision's ImageNet weights, timm's, random, or a file."""

Recipe = Literal["paper", "fastai-2019"]
"""Reading of the paper that fills in what is left open: its text, or the code of its time."""


def _mixes(alpha: float) -> float:
    """Refuse an α so small that Beta(α, α) cannot be computed."""
    if 0 < alpha < _LEAST_MIXUP:
        raise ValueError(f"expected 0, or at least {_LEAST_MIXUP}")
    return alpha


def _carry_of_older_versions(config: dict[str, Any]) -> Carry:
    return "last" if config.get("selection") == "last" else "run"


class Stage(Schema):
    """One 1cycle schedule: a stored array, a number of epochs, and learning rates."""

    array: str
    """Key of the store's array: `resolution/variant`, or `features/NAME`."""
    alternate: str | None = None
    """Array of the same shape that every second epoch uses instead."""
    epochs: Annotated[int, Field(ge=1, le=10**9)]
    max_lr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Peak learning rate of the head."""
    body_lr_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The body's learning rate over the head's: 1, or 1/3 in the second cycle of a resolution."""


class RunConfig(Schema):
    """Everything that determines a run's numbers, next to the store's fingerprint."""

    dataset: str
    method: str
    stages: tuple[Stage, ...]
    folds: tuple[int, ...]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    arch: Annotated[str, Field(pattern=r"^(resnet(18|34|50)|timm:[\w.-]+)$")] = "resnet34"
    """A ResNet of torchvision, or `timm:` and the name of a model of timm."""
    init: str = "auto"
    """`auto`, `imagenet` (timm's weights for its models), `random`, or the path of a state dict."""
    batch_size: Annotated[int, Field(ge=2, le=10**6)] = 64
    epochs_scale: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    device: str = "cpu"
    """A PyTorch device: `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the forward and backward pass; the parameters are always float32."""
    acceleration: Acceleration = "eager"
    """Execution mode. Compiled steps round differently, so a run is resumed in the same mode."""
    threads: Annotated[int, Field(ge=1, le=4096)] = 1
    """CPU threads per fold: sums are split among them, which changes their last bits."""
    selection: Selection = "heldout"
    carry: Carry = Field(default_factory=_carry_of_older_versions)
    """Network that a stage starts from. If missing, as in files of older versions: `run`, or `last`
    with selection `last`."""
    best_of: BestOf = "run"
    """Epochs among which the best one is picked; `run` in files of older versions."""
    layer_groups: LayerGroups = 2
    moments: Moments = "fresh"
    first_conv: FirstConv = "sum"
    validation_share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Fraction of each class's training clips that `validation` sets aside, as whole recordings."""
    mixup: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False), AfterValidator(_mixes)] = 0.0
    """Mixup: α of the Beta(α, α) distribution of the mixing weights; 0 for off."""
    freq_mask: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """SpecAugment: maximum fraction of an image's bands to mask; 0 for off."""
    time_mask: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """SpecAugment: maximum fraction of an image's frames to mask; 0 for off."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing factor."""
    max_lr_from: MaxLrFrom = "method"
    """Origin of the `max_lr` of the stages."""
    allow_duplicates: bool = False
    """Whether the user accepted that the same file is in several folds."""
    task: Task = "multiclass"
    """Kind of task, which follows from the dataset; `multiclass` in files of older versions."""


class RangeTest(Schema):
    """A range test before the training, from the initial weights: one per array and body's ratio.

    Its seed is 0 whatever the run's, so that runs of several seeds train at the same rates: with
    selection `validation` it leaves out the validation part of seed 0 with the first fold held out,
    and its clips may include the validation parts of other seeds and folds.
    """

    stages: tuple[int, ...]
    """Numbers of the stages, from 1, that take their λ from it."""
    folds: tuple[int, ...]
    """Folds whose clips it used."""
    num_steps: Annotated[int, Field(ge=1)]
    """Number of steps taken."""
    max_lr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Suggested λ."""
    reason: str
    """Derivation of the λ."""


class RunRecord(Sealed):
    """run.json: the config and the environment of a run, written before the first step."""

    config: RunConfig
    fingerprint: str
    store: str
    """Path or URL of the store when the run started."""
    features: FeatureSpec
    """Feature settings of the networks' images, with which any other file must be processed."""
    extractor_version: int
    class_names: tuple[str, ...]
    """Class names by class_id."""
    versions: dict[str, str]
    device_name: str
    started: str
    """Start time, ISO 8601, UTC."""
    init_used: InitUsed
    init_sha256: str | None = None
    """SHA-256 of the file of initial weights, or of the parameters that timm loaded; None for
    random ones and in files of older versions."""
    warnings: tuple[str, ...] = ()
    placements: Placements = Field(default_factory=dict, validation_alias=_EARLIER)
    """Placement by array; empty, or called `readings`, in files of older versions."""
    folds_at_once: Annotated[int, Field(ge=1)] = 1
    """Number of folds trained in parallel. Does not affect results."""
    range_tests: tuple[RangeTest, ...] = ()
    """Tests that measured the stages' learning rates, with `max_lr_from` `measured`; else empty."""


class MultilabelScores(Schema):
    """Scores of a network for clips of several labels, or none, over all clips of a fold.

    Means are over the classes that occur in the clips; the others are left out, not counted as 0.
    """

    map: Share
    """Mean average precision: step-wise, as in scikit-learn, with equal weight for every class."""
    num_classes: Annotated[int, Field(ge=1)]
    """Number of classes that occur, over which `map` is the mean."""
    auc: Share | None
    """Mean area under the ROC curve over the classes that some clips have and some lack; None if
    there are none."""
    d_prime: Annotated[float, Field(allow_inf_nan=False)] | None
    """d' of `auc`, √2 · Φ⁻¹(AUC); None if that is infinite."""
    lwlrap: Share
    """Label-weighted label-ranking average precision, with equal weight for every label."""


def _none_of_empty(value: Any) -> Any:  # noqa: ANN401  (a cell of a table)
    return None if value == "" else value


class EpochMetrics(Schema):
    """One row of a fold's metrics.csv. Losses are mean cross-entropies in nats.

    `valid_*` are measured on the validation part if there is one, else on the held-out fold.
    """

    fold: int
    stage: int
    """Number of the stage, from 1."""
    epoch: int
    """Number of the epoch, from 1 over the whole schedule."""
    array: str
    max_lr: float
    train_loss: float
    """Optimised loss. With mixup, masks or label smoothing it is the loss with these, and not
    comparable with `valid_loss`."""
    valid_loss: float
    valid_accuracy: Annotated[Accuracy | None, BeforeValidator(_none_of_empty)] = None
    """Accuracy; None with several labels, which have `valid_map`."""
    seconds: float
    """Wall time of the epoch with its validation, in seconds."""
    samples_per_s: float
    """Training samples per second spent training."""
    wait_share: Share = 0.0
    """Fraction of `seconds` spent waiting for data; 0 in files of older versions."""
    failed_recordings: Annotated[int, Field(ge=0)] = 0
    """Attempts of this epoch to record a step as a CUDA graph that failed, or were put off while
    another training of the process used a GPU; until one succeeds, steps run eagerly, and slower.
    """
    valid_map: Annotated[Share | None, BeforeValidator(_none_of_empty)] = None
    """Mean average precision over the classes that occur, with several labels; else None."""

    @model_validator(mode="after")
    def _has_one_score(self) -> Self:
        if (self.valid_accuracy is None) == (self.valid_map is None):
            raise ValueError("expected either valid_accuracy or valid_map")
        return self

    @property
    def score(self) -> float:
        """The score by which epochs are compared: accuracy, or mean average precision."""
        score = self.valid_map if self.valid_accuracy is None else self.valid_accuracy
        assert score is not None, "there is one, as was checked"  # noqa: S101
        return score


class FoldResult(Schema):
    """Result of one held-out fold."""

    fold: int
    num_train: int
    num_test: int
    best_accuracy: Accuracy | None
    """Accuracy on the held-out fold of the epoch that was picked by that fold itself (optimistic)
    or by the validation part; None if nothing is picked, and with several labels."""
    best_epoch: int | None
    best_array: str | None = None
    """Array that the best epoch trained on; None if nothing is picked, and in files of older
    versions."""
    last_accuracy: Accuracy | None
    """Accuracy of the last epoch on the held-out fold; None with a validation part, as the fold is
    then evaluated once, and with several labels."""
    last_epoch: int
    seconds: float
    num_valid: int = 0
    """Clips of the validation part, which are not among `num_train`."""
    valid_accuracy: Accuracy | None = None
    """Accuracy of the picked epoch on the validation part."""
    warnings: tuple[str, ...] = ()
    """Warnings during its training."""
    best_scores: MultilabelScores | None = None
    """With several labels, scores in place of `best_accuracy`."""
    last_scores: MultilabelScores | None = None
    """With several labels, scores in place of `last_accuracy`."""
    valid_map: Share | None = None
    """With several labels, mean average precision in place of `valid_accuracy`."""

    @property
    def best_map(self) -> float | None:
        """Mean average precision of the best epoch's network on the held-out fold, if any."""
        return None if self.best_scores is None else self.best_scores.map

    @property
    def last_map(self) -> float | None:
        """Mean average precision of the last network on the held-out fold, if any."""
        return None if self.last_scores is None else self.last_scores.map

    @property
    def best_score(self) -> float | None:
        """Accuracy, or mean average precision, of the best epoch's network on the held-out fold."""
        return self.best_accuracy if self.best_scores is None else self.best_scores.map

    @property
    def last_score(self) -> float | None:
        """Accuracy, or mean average precision, of the last network on the held-out fold."""
        return self.last_accuracy if self.last_scores is None else self.last_scores.map

    @property
    def valid_score(self) -> float | None:
        """Accuracy, or mean average precision, of the best epoch on the validation part."""
        return self.valid_accuracy if self.valid_map is None else self.valid_map


class FoldRecord(FoldResult, Sealed):
    """fold.json: a fold's result, with the digests of the files behind it."""

    record_sha256: str | None = None
    """Digest of the run.json that the fold belongs to; None in files of older versions."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each of the fold's files by its name; empty in files of older versions."""


class RunResult(Sealed):
    """result.json: the run's results."""

    config: RunConfig
    fingerprint: str
    folds: tuple[FoldResult, ...]
    init_used: InitUsed
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    device_name: str
    placements: Placements = Field(default_factory=dict, validation_alias=_EARLIER)
    digests: dict[str, str] = Field(default_factory=dict)
    """Digests of run.json and of each fold.json by path; empty in files of older versions."""
