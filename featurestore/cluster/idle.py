"""Reports on why a cluster is idle: a line before the first task and every half minute."""

import time
from collections.abc import Callable
from contextlib import suppress

from distributed import Client, LocalCluster

from featurestore.text import quantity

_EVERY_S = 30.0
_ANSWER_S = 5.0


class Idle:
    """Reports what a cluster is waiting for while no task is finished.

    Args:
        scheduler: Address of the scheduler, or a local cluster.
        notify: Called with each line.

    Attributes:
        any_progress: Whether any task has finished.
    """

    def __init__(self, scheduler: str | LocalCluster, notify: Callable[[str], object]) -> None:
        self._scheduler, self._notify = scheduler, notify
        self._since = self._said_at = time.monotonic()
        self._workers_seen = 0
        self.any_progress = False

    def begin(self, client: Client) -> None:
        """Report at once if there is no worker."""
        self._since = self._said_at = time.monotonic()
        if self._count(client) == 0:
            self._notify(f"{self._no_worker()}; waiting for one")

    def progressed(self) -> None:
        """Restart the clock after a finished task."""
        self.any_progress = True
        self._since = self._said_at = time.monotonic()

    def lasts(self, seconds: float) -> bool:
        """Return whether no task has finished for that many seconds."""
        return time.monotonic() - self._since > seconds

    def tick(self, client: Client) -> None:
        """Report why nothing happens, if a report is due."""
        now = time.monotonic()
        if now - self._said_at >= _EVERY_S:
            self._said_at = now
            self._notify(f"nothing was finished for {now - self._since:.0f} s: {self._why(client)}")

    def _why(self, client: Client) -> str:
        count = self._count(client)
        if count is None:
            return "the scheduler does not answer"
        if count:
            return f"there: {quantity(count, 'worker')}; a long task, or a slow disk or network"
        if self._workers_seen and not isinstance(self._scheduler, str):
            return "worker processes died, and are being started again"
        if self._workers_seen:
            return (
                "all workers have left; their logs say why (no time or memory left, or not the "
                "same featurestore installed as here). Waiting for others"
            )
        return f"{self._no_worker()}; waiting for one"

    def _no_worker(self) -> str:
        if not isinstance(self._scheduler, str):
            return "no worker process has started yet"
        return (
            f"the scheduler has no worker yet (`dask worker {self._scheduler} --nthreads 1 "
            "--preload featurestore` starts one, and ends at once where featurestore is not "
            "installed)"
        )

    def _count(self, client: Client) -> int | None:
        """Workers there are; None if the scheduler does not say."""
        with suppress(OSError, RuntimeError, TimeoutError):
            info = client.scheduler_info(n_workers=0, callback_timeout=_ANSWER_S)
            count = int(info["n_workers"])
            self._workers_seen = max(self._workers_seen, count)
            return count
        return None
