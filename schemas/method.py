"""Training methods: a schedule of 1cycles over a store's arrays, and files of such methods."""

from typing import Annotated

from pydantic import Field, RootModel

from schemas.base import Schema
from schemas.features import Name

ArrayName = Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]
MIN_RATE, MAX_RATE = 1e-10, 1000.0
"""Bounds of learning rates: lower ones change no float32 weight, higher ones never converge."""
Rate = Annotated[float, Field(ge=MIN_RATE, le=MAX_RATE, allow_inf_nan=False)]


class Cycle(Schema):
    """One 1cycle of a method."""

    array: ArrayName
    """Key of the store's array: `resolution/variant`, or `features/NAME` of two axes."""
    alternate: ArrayName | None = None
    """An array of the same shape that every second epoch sees instead."""
    epochs: Annotated[int, Field(ge=1, le=10**6)]
    """Number of epochs at scale 1."""
    max_lr: Rate | Annotated[dict[str, Rate], Field(min_length=1)]
    """Peak learning rate λ of the head; one for all datasets, or by the dataset's name. A dataset
    that is not named has ESC-50's."""
    body_lr_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The body's learning rate over the head's."""


Cycles = Annotated[tuple[Cycle, ...], Field(min_length=1)]


class MethodsFile(RootModel[Annotated[dict[Name, Cycles], Field(min_length=1)]]):
    """A file of methods: each one's cycles by its name."""
