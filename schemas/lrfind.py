"""Result of an LR range test: lr-find.json, next to lr-find.csv with each of its steps."""

from typing import Annotated

from pydantic import Field

from schemas.base import Schema
from schemas.run import InitUsed, RunConfig


class LrFind(Schema):
    """lr-find.json: a range test of the learning rate on one stage's data, and its suggestion."""

    config: RunConfig
    """Config of a run of the method; the test's own fold is its only one."""
    fingerprint: str
    """Fingerprint of the store."""
    stage: Annotated[int, Field(ge=1)]
    """Number of the stage in `config.stages`; its `max_lr` is the method's own λ."""
    fold: int
    """Held-out fold, which the test does not use."""
    init_used: InitUsed
    """Weights that the test started from, whatever the stage: no stage before it was trained."""
    num_steps: Annotated[int, Field(ge=1)]
    """Number of steps taken."""
    last_lr: float
    """Learning rate of the last step."""
    stopped_early: bool
    """Whether a loss ended the test: a non-finite one, or a smoothed one 4 times the best."""
    suggestion: Annotated[float, Field(gt=0)] | None
    """Suggested λ; None if the losses suggest none."""
    reason: str
    """Derivation of the suggestion, or why there is none."""
    device_name: str
