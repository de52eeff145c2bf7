"""The best and the last network of a fold: in memory at once, on disk soon."""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from trainer.checkpoint import Checkpoint, save_checkpoint

BEST, LAST = "best.pt", "last.pt"
SAVE_EVERY_S = 60.0
"""A network is some 90 MB, and on a GPU an epoch takes under a second."""


class Keeper:
    """Keeps checkpoints; a context manager that puts both on disk however it is left.

    Args:
        folder: Made where it is missing.
        save_every_s: Seconds after which a checkpoint that is kept is also written.
    """

    def __init__(self, folder: Path, save_every_s: float = SAVE_EVERY_S) -> None:
        self.best: Checkpoint | None = None
        self.last: Checkpoint | None = None
        self.last_path = folder / LAST
        self._best_path = folder / BEST
        self._save_every_s = save_every_s
        self._saved_at = time.monotonic()
        self._on_disk: dict[Path, Checkpoint] = {}

    def keep(self, checkpoint: Checkpoint) -> None:
        """Take an epoch's network; it is the best where its accuracy is above all before it."""
        self.last = checkpoint
        if self.best is None or checkpoint.accuracy > self.best.accuracy:
            self.best = checkpoint
        if time.monotonic() - self._saved_at >= self._save_every_s:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet.

        Raises:
            RunDirectoryError: It cannot be written.
        """
        for path, checkpoint in ((self._best_path, self.best), (self.last_path, self.last)):
            if checkpoint is not None and self._on_disk.get(path) is not checkpoint:
                save_checkpoint(path, checkpoint)
                self._on_disk[path] = checkpoint
        self._saved_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()
