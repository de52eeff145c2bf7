"""Training methods: sequences of 1cycle schedules over a store's arrays, and files of them."""

from typing import Annotated

from pydantic import Field, RootModel

from schemas.base import Schema
from schemas.features import Name

ArrayName = Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]
MIN_RATE, MAX_RATE = 1e-10, 1000.0
"""Bounds of learning rates: lower ones change no float32 weight, higher ones never converge."""
Rate = Annotated[float, Field(ge=MIN_RATE, le=MAX_RATE, allow_inf_nan=False)]


class Cycle(Schema):
    """One 1cycle schedule of a method, over one array."""

    array: ArrayName
    """Key of the store's array: `resolution/variant`, or `features/NAME` of two axes."""
    alternate: ArrayName | None = None
    """Array of the same shape that every second epoch uses instead."""
    epochs: Annotated[int, Field(ge=1, le=10**6)]
    """Number of epochs, at an `epochs_scale` of 1."""
    max_lr: Rate | Annotated[dict[str, Rate], Field(min_length=1)]
    """Peak learning rate λ of the head: one for all datasets, or one per dataset by its name, where
    other datasets use `esc50`'s."""
    body_lr_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The body's learning rate over the head's."""


Cycles = Annotated[tuple[Cycle, ...], Field(min_length=1)]


class MethodsFile(RootModel[Annotated[dict[Name, Cycles], Field(min_length=1)]]):
    """A file of methods: the cycles of each method by its name."""
