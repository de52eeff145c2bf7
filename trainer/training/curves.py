"""Learning curves as TensorBoard events: the only module that imports tensorboard."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from schemas import EpochMetrics
from trainer.safefiles import refuse_link, writing

FOLDER = "tensorboard"


class Curves:
    """Writer of learning curves, with one TensorBoard run per fold; a context manager.

    Args:
        run: Run directory.

    Raises:
        RunDirectoryError: A symbolic link is in the place of a directory of events.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER
        for path in (self._folder, *self._folder.glob("fold*")):
            refuse_link(path)
        self._writers: dict[int, SummaryWriter] = {}
        self._open = ExitStack()

    def add(self, metrics: EpochMetrics) -> None:
        """Add an epoch's values.

        Raises:
            RunDirectoryError: These or earlier values could not be written.
        """
        with writing(self._folder):
            self._add(metrics)

    def _add(self, metrics: EpochMetrics) -> None:
        fold = metrics.fold
        if fold not in self._writers:
            folder = self._open.enter_context(_as_utf8(self._folder / f"fold{fold}"))
            # What a stopped run had drawn from here on is drawn again.
            self._writers[fold] = SummaryWriter(folder, purge_step=metrics.epoch)
            self._open.callback(self._writers[fold].close)
        values = {
            "loss/train": metrics.train_loss,
            "loss/valid": metrics.valid_loss,
            "accuracy/valid" if metrics.valid_map is None else "map/valid": metrics.score,
            "speed/samples_per_s": metrics.samples_per_s,
            "speed/wait_share": metrics.wait_share,
            "stage/max_lr": metrics.max_lr,
        }
        for tag, value in values.items():
            self._writers[fold].add_scalar(tag, value, metrics.epoch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # Of a run that fails, the failure is what must be said; and all writers are to be closed.
        with suppress(OSError) if error else writing(self._folder):
            self._open.close()


@contextmanager
def _as_utf8(folder: Path) -> Iterator[str]:
    """Yield a path of the folder that TensorBoard takes, which encodes every path as UTF-8."""
    path = str(folder)
    if path.encode(errors="replace").decode() == path:
        yield path
        return
    # Only Linux has names of other bytes, and a second name for every open directory.
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
