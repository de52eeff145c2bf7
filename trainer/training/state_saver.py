"""The latest state of a fold: in memory after each epoch, on disk every minute."""

import time
from types import TracebackType
from typing import Self

from trainer.records.checkpoint import FoldState
from trainer.records.rundir import FoldDirectory

SAVE_EVERY_S = 60.0
"""Seconds between two states on disk: each is some 350 MB, an epoch on a GPU under a second."""


class StateSaver:
    """Holds a fold's latest state; a context manager that, interrupted, leaves it on disk.

    Args:
        directory: The fold's directory.
        save_every_s: Seconds between two states on disk.

    Attributes:
        state: The latest state; None before the first epoch.
    """

    def __init__(self, directory: FoldDirectory, save_every_s: float = SAVE_EVERY_S) -> None:
        self.state: FoldState | None = None
        self._directory = directory
        self._save_every_s = save_every_s
        self._saved_at = time.monotonic()
        self._on_disk: FoldState | None = None

    def update(self, state: FoldState) -> None:
        """Replace the state, and write it if the last one on disk is old.

        Raises:
            RunDirectoryError: It cannot be written.
        """
        self.state = state
        if time.monotonic() - self._saved_at >= self._save_every_s:
            self._save()

    def close(self) -> None:
        """Forget the state: the fold is finished and needs none on disk."""
        self.state = None

    def _save(self) -> None:
        if self.state is not None and self._on_disk is not self.state:
            self._directory.write_state(self.state)
            self._on_disk = self.state
        self._saved_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self.state is not None:
            self._save()
            self._directory.write_networks(self.state)
