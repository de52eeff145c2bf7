"""What an LR range test found: lr-find.json, beside lr-find.csv with each of its steps."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Schema
from schemas.run import RunConfig


class LrFind(Schema):
    """lr-find.json: a sweep of the learning rate over one stage's data, and what it suggests."""

    config: RunConfig
    """Of a run of the method; the test's own fold is its only one."""
    fingerprint: str
    """Of the store."""
    stage: Annotated[int, Field(ge=1)]
    """Number of the stage in `config.stages`; its `max_lr` is the method's own λ."""
    fold: int
    """Held out, and not looked at."""
    init_used: Literal["imagenet", "random", "file"]
    """What the test began with, whatever the stage: no stage before it was trained."""
    num_steps: Annotated[int, Field(ge=1)]
    """Taken."""
    last_lr: float
    """Of the last step."""
    stopped_early: bool
    """By a loss that was no number, or whose smoothed value was 4 times the best so far."""
    suggestion: Annotated[float, Field(gt=0)] | None
    """λ; None where the losses suggest none."""
    reason: str
    """How the suggestion was found, or why there is none."""
    device_name: str
