"""Recipes: the settings that a reading of the paper implies, for those that the user leaves open.

`paper` follows the text. `fastai-2019` is what the paper's code must have done where the text is
silent. Every piece is an option of its own, except the filters, which are the store's.

Source: PROTOCOL section 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from schemas import BestOf, Carry, FeatureSpec, FirstConv, LayerGroups, Moments, Recipe
from trainer.errors import ConfigError


@dataclass(frozen=True)
class Pieces:
    """The settings of a recipe; see `schemas.RunConfig` for the meanings.

    Args:
        carry: With selection `last`, which picks nothing, it is `last`.
        best_of: Epochs that the reported one is picked from.
        layer_groups: Number of groups with learning rates of their own.
        moments: The optimiser's at the start of a stage.
        first_conv: Weights of the first convolution.
        precision: Replaces `auto`; None leaves that to the device.
        mel_scale: Filters that the store must have; None takes any.
        sweep_end: Learning rate of the range test's last step.
    """

    carry: Carry = "stage"
    best_of: BestOf = "array"
    layer_groups: LayerGroups = 2
    moments: Moments = "fresh"
    first_conv: FirstConv = "sum"
    precision: str | None = None
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


def find_recipe(name: str) -> Pieces:
    """Return the recipe of that name.

    Raises:
        ConfigError: There is none.
    """
    for recipe, pieces in RECIPES.items():
        if recipe == name:
            return pieces
    raise ConfigError(f"no recipe {name!r}; there are: {', '.join(get_args(Recipe))}")


def check_filters(spec: FeatureSpec, name: str) -> None:
    """Refuse features whose filterbank is not the recipe's.

    Raises:
        ConfigError: It is another one; says how to build it.
    """
    wanted, stored = find_recipe(name).mel_scale, spec.mel_scale
    if wanted not in (None, stored):
        raise ConfigError(
            f"recipe {name!r} takes the filters {wanted!r}, and the store has {stored!r}: "
            f"build another store with a --spec file that says `mel_scale: {wanted}`, or give the "
            "recipe's other pieces by their own options (--layer-groups, --moments, --first-conv, "
            "--best-of, --precision)"
        )
