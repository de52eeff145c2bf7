"""Defaults of settings: recipes, and learning rates by dataset.

A recipe is an interpretation of the paper. `paper` follows the text. `fastai-2019` is what the
paper's code must have done where the text is silent. Every setting is also an option of its own,
except the end of range tests, and the mel filters, which belong to the store. Learning rates are
from the method's table or given by the user; `trainer.training.lr_find` measures them.

Source: PROTOCOL section 2.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from schemas import (
    BestOf,
    Carry,
    Cycle,
    FeatureSpec,
    FirstConv,
    LayerGroups,
    Moments,
    Recipe,
    RunConfig,
    Selection,
    Stage,
)
from schemas.method import MAX_RATE, MIN_RATE
from trainer.errors import ConfigError


@dataclass(frozen=True)
class Pieces:
    """The settings of a recipe; see `schemas.RunConfig` for their meaning.

    Args:
        carry: Network that the next stage starts from; `last` with selection `last`.
        best_of: Epochs among which the reported one is chosen.
        layer_groups: Number of layer groups with their own learning rates.
        moments: Moments of the optimiser at the start of a stage.
        first_conv: Weights of the first convolution.
        precision: Precision that replaces `auto`; None to choose by device.
        mel_scale: Mel scale that the store must have; None for any.
        sweep_end: Learning rate of the last step of a range test.
    """

    carry: Carry = "stage"
    best_of: BestOf = "array"
    layer_groups: LayerGroups = 2
    moments: Moments = "fresh"
    first_conv: FirstConv = "sum"
    precision: Literal["float32"] | None = None
    mel_scale: str | None = None
    sweep_end: float = 10.0


RECIPES: Mapping[Recipe, Pieces] = {
    "paper": Pieces(),
    "fastai-2019": Pieces(
        best_of="stage",
        layer_groups=3,
        moments="carried",
        first_conv="red-frozen",
        precision="float32",
        mel_scale="torchaudio-2019",
        # Its sweep reaches 10 after the hundredth step, not at it.
        sweep_end=1e-7 * 1e8 ** (99 / 100),
    ),
}


_OF_OPTIONS = ("carry", "best_of", "layer_groups", "moments", "first_conv")


def unlike_paper(config: RunConfig, unused: Collection[str] = ()) -> list[str]:
    """Return the pieces of a config that are not those of the recipe `paper`, as names and values.

    Args:
        config: Config of a run.
        unused: Names of settings that affect nothing, which are left out.
    """
    values = {name: getattr(config, name) for name in _OF_OPTIONS if name not in unused}
    unlike = {n: value for n, value in values.items() if value != getattr(RECIPES["paper"], n)}
    return [f"{name.replace('_', ' ')} {value}" for name, value in unlike.items()]


def defaults(recipe: Recipe, selection: Selection) -> dict[str, Any]:
    """Return values for options that are left out; a precision only if the recipe has one."""
    pieces = RECIPES[recipe]
    values = {name: getattr(pieces, name) for name in _OF_OPTIONS}
    values["validation_share"] = RunConfig.model_fields["validation_share"].default
    if selection == "last":  # nothing is picked
        values["carry"] = "last"
    return values | ({"precision": pieces.precision} if pieces.precision else {})


def check_filters(spec: FeatureSpec, name: Recipe) -> None:
    """Check that features have the filterbank of a recipe.

    Raises:
        ConfigError: They do not; the message says how to build them.
    """
    expected, stored = RECIPES[name].mel_scale, spec.mel_scale
    if expected not in (None, stored):
        raise ConfigError(
            f"recipe {name!r} takes the filters {expected!r}, and the store has {stored!r}: "
            f"build another store with a --spec file that says `mel_scale: {expected}`, or give "
            "the recipe's other pieces by their own options (--layer-groups, --moments, "
            "--first-conv, --best-of, --precision)"
        )


URBANSOUND8K, ESC50 = "urbansound8k", "esc50"
RATES_OF = {URBANSOUND8K: URBANSOUND8K, ESC50: ESC50, "esc10": ESC50}
"""Datasets with learning rates, mapped to the dataset whose rates they use."""
AUTO, UNMEASURED = "auto", 1.0
"""Value of `max_lr` that requests measured rates, and placeholder for a rate not measured yet."""


def stage_rates(
    method: str, cycles: Sequence[Cycle], dataset: str, max_lr: str | Sequence[float] | None = None
) -> list[float]:
    """Return the learning rate of each stage, see `trainer.methods.stages`.

    Raises:
        ConfigError: The method has no rate for the dataset, or `max_lr` is not a number above 0
            for each stage.
    """
    if max_lr is None:
        return [
            _rate(cycle, dataset, f"method {method!r}, stage {number}")
            for number, cycle in enumerate(cycles, start=1)
        ]
    return [UNMEASURED] * len(cycles) if max_lr == AUTO else _given_rates(max_lr, len(cycles))


def rates_text(given: str | None) -> str | None:
    """Return `max_lr` with its numbers in one spelling, such as `1e-2,5e-4`; others as given."""
    try:
        rates = [Decimal(repr(float(rate))).normalize() for rate in (given or "").split(",")]
    except ValueError:
        return given
    return ",".join(f"{rate:e}" for rate in rates)


def with_rates(stages: Sequence[Stage], rates: Sequence[float]) -> tuple[Stage, ...]:
    """Return the stages with their learning rates replaced, one per stage."""
    pairs = zip(stages, rates, strict=True)
    return tuple(stage.model_copy(update={"max_lr": rate}) for stage, rate in pairs)


def _given_rates(given: str | Sequence[float], num_stages: int) -> list[float]:
    try:
        rates = [float(rate) for rate in (given.split(",") if isinstance(given, str) else given)]
    except ValueError:
        rates = []
    if len(rates) != num_stages or not all(MIN_RATE <= rate <= MAX_RATE for rate in rates):
        raise ConfigError(
            f"max_lr {given!r}: expected {num_stages} numbers above 0 with commas, one per stage "
            f"of the method, from {MIN_RATE:g} to {MAX_RATE:g}, or {AUTO!r}"
        )
    return rates


def _rate(cycle: Cycle, dataset: str, where: str) -> float:
    if not isinstance(cycle.max_lr, dict):
        return cycle.max_lr
    for name in (dataset, RATES_OF.get(dataset, ESC50), ESC50):
        if name in cycle.max_lr:
            return cycle.max_lr[name]
    raise ConfigError(
        f"{where}: max_lr has no value for {dataset!r}, nor for {ESC50!r}, which others use; it "
        f"has: {', '.join(cycle.max_lr)}"
    )


def rates_warning(cycles: Sequence[Cycle], dataset: str) -> str | None:
    """Return a warning if the learning rates are those of another dataset, else None."""
    datasets = (set(c.max_lr) for c in cycles if isinstance(c.max_lr, dict))
    if all(names & {dataset, RATES_OF.get(dataset)} for names in datasets):
        return None
    return (
        f"there are no learning rates for {dataset!r}: ESC-50's are used; --max-lr auto measures "
        "them, and --max-lr X,Y,… gives them by hand, one per stage"
    )
