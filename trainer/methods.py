"""The paper's training methods as data: a method is a tuple of cycles.

Source: PROTOCOL section 2, the table of 1cycles (the paper's Table 1 and text).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from schemas import Stage
from trainer.errors import ConfigError, UnknownMethodError

URBANSOUND8K, ESC50 = "urbansound8k", "esc50"
# Datasets that have learning rates, and whose those are.
RATES_OF = {URBANSOUND8K: URBANSOUND8K, ESC50: ESC50, "esc10": ESC50}

MAX_SCALE = 1000

WHOLE, DISCRIMINATIVE = 1.0, 1 / 3
"""The body's learning rate over the head's."""


@dataclass(frozen=True)
class Cycle:
    """One 1cycle of the paper's table.

    Args:
        array: `resolution/variant` of the store.
        epochs: At scale 1.
        body_lr_ratio: The body's learning rate over the head's.
        max_lr: λ by dataset.
    """

    array: str
    epochs: int
    body_lr_ratio: float
    max_lr: Mapping[str, float]


def _cycle(array: str, epochs: int, ratio: float, urbansound8k: float, esc50: float) -> Cycle:
    return Cycle(array, epochs, ratio, {URBANSOUND8K: urbansound8k, ESC50: esc50})


def _progressive(r1: str, r2: str, r3: str) -> tuple[Cycle, ...]:
    """The schedule of `mel` and `resize`, over any three arrays."""
    return (
        _cycle(r1, 20, WHOLE, 1e-2, 5e-3),
        _cycle(r1, 20, DISCRIMINATIVE, 1e-3, 5e-4),
        _cycle(r2, 20, WHOLE, 5e-3, 5e-3),
        _cycle(r2, 20, DISCRIMINATIVE, 5e-6, 5e-6),
        _cycle(r3, 20, WHOLE, 5e-3, 5e-3),
        _cycle(r3, 70, DISCRIMINATIVE, 5e-6, 5e-6),
    )


METHODS: Mapping[str, tuple[Cycle, ...]] = {
    "baseline": (
        _cycle("R3/full", 20, WHOLE, 1e-2, 5e-3),
        _cycle("R3/full", 50, DISCRIMINATIVE, 5e-6, 1e-4),
        _cycle("R3/full", 120, DISCRIMINATIVE, 1e-6, 1e-6),
    ),
    "mel": _progressive("R1/mel", "R2/mel", "R3/full"),
    "resize": _progressive("R1/resize", "R2/resize", "R3/full"),
    # Not the paper's: what its schedule gains without its resolutions (PROTOCOL section 4).
    "control": _progressive("R3/full", "R3/full", "R3/full"),
}


def stages(method: str, dataset: str, epochs_scale: float = 1.0) -> tuple[Stage, ...]:
    """The stages of a method on a dataset.

    Args:
        method: A key of METHODS.
        dataset: Its learning rates are used, or ESC-50's where the paper has none for it.
        epochs_scale: In (0, MAX_SCALE]; multiplies the epochs of every stage, each keeps one.

    Raises:
        UnknownMethodError: There is no such method.
        ConfigError: The scale is out of range.
    """
    if method not in METHODS:
        raise UnknownMethodError(method, METHODS)
    if not 0 < epochs_scale <= MAX_SCALE:
        raise ConfigError(
            f"epochs_scale {epochs_scale}: expected a number above 0 and up to {MAX_SCALE}"
        )
    rates = RATES_OF.get(dataset, ESC50)
    return tuple(
        Stage(
            array=cycle.array,
            epochs=max(1, math.floor(cycle.epochs * epochs_scale + 0.5)),
            max_lr=cycle.max_lr[rates],
            body_lr_ratio=cycle.body_lr_ratio,
        )
        for cycle in METHODS[method]
    )


def rates_warning(dataset: str) -> str | None:
    """What to say where the learning rates are another dataset's; None where they are its own."""
    if dataset in RATES_OF:
        return None
    return f"the paper has no learning rates for {dataset!r}: ESC-50's are used"
