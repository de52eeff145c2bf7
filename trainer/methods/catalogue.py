"""Training methods as data: a method is a name and its cycles. The paper's, and what tests them.

Source: PROTOCOL section 2, the table of 1cycles (the paper's Table 1 and text).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from schemas import Cycle, ResizeOperator, Stage
from trainer.errors import ConfigError, UnknownMethodError
from trainer.methods.file import read_methods

URBANSOUND8K, ESC50 = "urbansound8k", "esc50"
# Datasets that have learning rates, and whose those are.
RATES_OF = {URBANSOUND8K: URBANSOUND8K, ESC50: ESC50, "esc10": ESC50}

MAX_SCALE = 1000

WHOLE, DISCRIMINATIVE = 1.0, 1 / 3
"""The body's learning rate over the head's."""


@dataclass(frozen=True)
class Method:
    """A schedule by its name.

    Args:
        name: As reports tell it from others.
        cycles: At least one.
    """

    name: str
    cycles: tuple[Cycle, ...]


def _cycle(
    array: str,
    epochs: int,
    ratio: float,
    urbansound8k: float,
    esc50: float,
    alternate: str | None = None,
) -> Cycle:
    return Cycle(
        array=array,
        alternate=alternate,
        epochs=epochs,
        body_lr_ratio=ratio,
        max_lr={URBANSOUND8K: urbansound8k, ESC50: esc50},
    )


def _progressive(
    r1: str, r2: str, r3: str, other: str | None = None, last: int = 70
) -> tuple[Cycle, ...]:
    """The schedule of `mel` and `resize`, over any three arrays.

    Args:
        r1: Of the first two cycles.
        r2: Of the third and fourth.
        r3: Of the fifth and sixth.
        other: A variant that alternates with those of `r1` and `r2`.
        last: Epochs of the sixth.
    """
    second = {array: f"{array.split('/')[0]}/{other}" if other else None for array in (r1, r2)}
    return (
        _cycle(r1, 20, WHOLE, 1e-2, 5e-3, second[r1]),
        _cycle(r1, 20, DISCRIMINATIVE, 1e-3, 5e-4, second[r1]),
        _cycle(r2, 20, WHOLE, 5e-3, 5e-3, second[r2]),
        _cycle(r2, 20, DISCRIMINATIVE, 5e-6, 5e-6, second[r2]),
        _cycle(r3, 20, WHOLE, 5e-3, 5e-3),
        _cycle(r3, last, DISCRIMINATIVE, 5e-6, 5e-6),
    )


MATCHED = 70 + 20
"""Epochs of the last cycle with which a progressive schedule has the baseline's 190, not 170."""

METHODS: Mapping[str, tuple[Cycle, ...]] = {
    "baseline": (
        _cycle("R3/full", 20, WHOLE, 1e-2, 5e-3),
        _cycle("R3/full", 50, DISCRIMINATIVE, 5e-6, 1e-4),
        _cycle("R3/full", 120, DISCRIMINATIVE, 1e-6, 1e-6),
    ),
    "mel": _progressive("R1/mel", "R2/mel", "R3/full"),
    "resize": _progressive("R1/resize", "R2/resize", "R3/full"),
    # From here on not the paper's (PROTOCOL section 4). What its schedule gains alone:
    "control": _progressive("R3/full", "R3/full", "R3/full"),
    # `mel` changes the number of filters and the field of view: each alone.
    "mel-bands": _progressive("R1/mel-bands", "R2/mel-bands", "R3/full"),
    "mel-time": _progressive("R1/mel-time", "R2/mel-time", "R3/full"),
    # Both methods' images in turn, epoch by epoch.
    "alternate": _progressive("R1/mel", "R2/mel", "R3/full", other="resize"),
    # With as many epochs as the baseline.
    "mel-matched": _progressive("R1/mel", "R2/mel", "R3/full", last=MATCHED),
    "resize-matched": _progressive("R1/resize", "R2/resize", "R3/full", last=MATCHED),
    "control-matched": _progressive("R3/full", "R3/full", "R3/full", last=MATCHED),
}


def own_methods(methods_file: Path | str) -> dict[str, tuple[Cycle, ...]]:
    """The methods of a file of the user's, see `trainer.methods.file`.

    Raises:
        ConfigError: The file is not usable, or takes a name of ours.
    """
    return read_methods(Path(methods_file), _taken())


def find_method(
    name: str,
    methods_file: Path | str | None = None,
    resize_operator: str | None = None,
    own: Mapping[str, tuple[Cycle, ...]] | None = None,
) -> Method:
    """A method of ours or of a file, its resized images made by another operator where asked.

    Args:
        name: A key of METHODS, or of the file.
        methods_file: YAML of one's own methods, see `trainer.methods.file`.
        resize_operator: A ResizeOperator. Another than bilinear becomes a part of the name.
        own: What `own_methods` has read of the file, which is not read again then.

    Raises:
        UnknownMethodError: There is no such method.
        ConfigError: The file is not usable, there is no such operator, or the method has no resized
            images.
    """
    if own is None:
        own = own_methods(methods_file) if methods_file else {}
    methods = {**METHODS, **own}
    if name not in methods:
        raise UnknownMethodError(name, methods)
    if resize_operator is None:
        return Method(name, methods[name])
    if resize_operator not in get_args(ResizeOperator):
        known = ", ".join(get_args(ResizeOperator))
        raise ConfigError(f"no resize operator {resize_operator!r}; there are: {known}")
    if not _resizes(methods[name]):
        able = ", ".join(n for n, cycles in methods.items() if _resizes(cycles))
        raise ConfigError(
            f"resize operator {resize_operator!r}: the method {name!r} uses no resized image; "
            f"{able} do"
        )
    if resize_operator == "bilinear":
        return Method(name, methods[name])
    cycles = tuple(_resized_by(resize_operator, cycle) for cycle in methods[name])
    return Method(_operated(name, resize_operator), cycles)


def _operated(name: str, operator: str) -> str:
    return f"{name}-{operator}"


def _taken() -> set[str]:
    """Names that a file may not give: ours, and those that operators make of them."""
    resizing = (name for name, cycles in METHODS.items() if _resizes(cycles))
    return METHODS.keys() | {_operated(n, o) for n in resizing for o in get_args(ResizeOperator)}


def _is_resized(array: str | None) -> bool:
    return array is not None and array.endswith("/resize")


def _resizes(cycles: tuple[Cycle, ...]) -> bool:
    return any(_is_resized(c.array) or _is_resized(c.alternate) for c in cycles)


def _resized_by(operator: str, cycle: Cycle) -> Cycle:
    arrays = {"array": cycle.array, "alternate": cycle.alternate}
    return cycle.model_copy(
        update={field: f"{a}-{operator}" for field, a in arrays.items() if _is_resized(a)}
    )


def stages(method: Method, dataset: str, epochs_scale: float = 1.0) -> tuple[Stage, ...]:
    """The stages of a method on a dataset.

    Args:
        method: As `find_method` gives it.
        dataset: Its learning rates are used, or ESC-50's where the method has none for it.
        epochs_scale: In (0, MAX_SCALE]; multiplies the epochs of every stage, each keeps one.

    Raises:
        ConfigError: The scale is out of range, or the method has no rate for the dataset.
    """
    if not 0 < epochs_scale <= MAX_SCALE:
        raise ConfigError(
            f"epochs_scale {epochs_scale}: expected a number above 0 and up to {MAX_SCALE}"
        )
    return tuple(
        Stage(
            array=cycle.array,
            alternate=cycle.alternate,
            epochs=max(1, math.floor(cycle.epochs * epochs_scale + 0.5)),
            max_lr=_rate(cycle, dataset, f"method {method.name!r}, stage {number}"),
            body_lr_ratio=cycle.body_lr_ratio,
        )
        for number, cycle in enumerate(method.cycles, start=1)
    )


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


def rates_warning(method: Method, dataset: str) -> str | None:
    """What to say where learning rates are another dataset's; None where they are its own."""
    given = (set(c.max_lr) for c in method.cycles if isinstance(c.max_lr, dict))
    if all(names & {dataset, RATES_OF.get(dataset)} for names in given):
        return None
    return f"there are no learning rates for {dataset!r}: ESC-50's are used"
