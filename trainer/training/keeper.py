"""A fold's state after its latest epoch: in memory at once, on disk soon."""

import time
from types import TracebackType
from typing import Self

from trainer.records.folddir import FoldDirectory
from trainer.records.state import FoldState

SAVE_EVERY_S = 60.0
"""A state is some 350 MB, and on a GPU an epoch takes under a second."""


class Keeper:
    """Keeps a fold's latest state; a context manager that, interrupted, leaves it on disk.

    Args:
        directory: The fold's.
        save_every_s: Seconds after which a state that is kept is also written.

    Attributes:
        state: The latest; None before the first epoch.
    """

    def __init__(self, directory: FoldDirectory, save_every_s: float = SAVE_EVERY_S) -> None:
        self.state: FoldState | None = None
        self._directory = directory
        self._save_every_s = save_every_s
        self._saved_at = time.monotonic()
        self._on_disk: FoldState | None = None

    def keep(self, state: FoldState) -> None:
        """Take the state after an epoch.

        Raises:
            RunDirectoryError: It cannot be written.
        """
        self.state = state
        if time.monotonic() - self._saved_at >= self._save_every_s:
            self._save()

    def close(self) -> None:
        """Leave nothing on disk any more: the fold is finished."""
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
