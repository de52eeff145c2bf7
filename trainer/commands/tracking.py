"""Logging of runs next to their directories."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from featurestore.terminal import Terminal

if TYPE_CHECKING:
    from trainer.tracking import Tracking


def tracking_to(uri: str | None, console: Terminal) -> AbstractContextManager["Tracking | None"]:
    """Log to MLflow while the context lasts; without a URI, do nothing.

    Raises:
        ConfigError: MLflow cannot be at such a URI.
    """
    if uri is None:
        return nullcontext()
    from trainer.tracking import Tracking

    return Tracking(uri, console.warn)
