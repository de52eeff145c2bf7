"""Progress of a build or a download: clips or bytes per second, and the time left."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

from featurestore.bars import progress_bars
from featurestore.download.fetch import Progress
from featurestore.terminal import Label, Terminal, styled

if TYPE_CHECKING:
    from featurestore.building.block import BlockOutcome
    from schemas import StoreManifest

T = TypeVar("T")


class _Rate(ProgressColumn):
    """Steps per second, over the last half minute."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> RenderableType:
        """Return the rate, once it is known."""
        speed = task.finished_speed or task.speed
        return styled(f"{speed:,.0f} {self._unit}/s" if speed else "")


def _bar(console: Terminal, unit: str) -> RichProgress:
    return progress_bars(
        console,
        Label(),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
        Label("note"),
    )


class _Drawn:
    """A context manager that shows a bar while it lasts."""

    def __init__(self, bar: RichProgress) -> None:
        self._bar = bar

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


class _OfBytes(ProgressColumn):
    """A column that is empty while a step counts no bytes, such as waiting."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> RenderableType:
        """Return the column, if there is anything in it."""
        return self._column(task) if task.total or task.completed else styled()


class StepProgress(_Drawn):
    """An observer of a download that draws a bar for its current step. A context manager."""

    def __init__(self, console: Terminal) -> None:
        columns = (
            Label(),
            BarColumn(),
            _OfBytes(DownloadColumn()),
            _OfBytes(TransferSpeedColumn()),
            _OfBytes(TimeRemainingColumn()),
            Label("note"),
        )
        super().__init__(progress_bars(console, *columns))
        self._step = ""

    def __call__(self, progress: Progress) -> None:
        """Show a step; one that is new begins its bar at what is done already."""
        if progress.step != self._step:
            self._step = progress.step
            self._task = self._bar.add_task(progress.step, total=progress.total, note="")
            self._bar.reset(self._task, completed=progress.done)
        self._bar.update(
            self._task, completed=progress.done, total=progress.total, note=progress.note
        )


class BuildProgress(_Drawn):
    """An observer of a build that draws a bar. A context manager."""

    def __init__(self, console: Terminal) -> None:
        super().__init__(_bar(console, "clips"))
        self._failed = 0

    def started(self, manifest: "StoreManifest", num_done: int) -> None:
        """Show the bar, starting at the committed clips."""
        self._task = self._bar.add_task("building", total=manifest.num_clips, note="")
        self._bar.advance(self._task, num_done)
        self._bar.reset(self._task, completed=num_done)

    def committed(self, outcome: "BlockOutcome") -> None:
        """Advance by a block."""
        self._failed += len(outcome.failures)
        note = f"{self._failed} failed" if self._failed else ""
        self._bar.update(self._task, advance=len(outcome.block), note=note)


def counting(
    console: Terminal, parts: Iterable[T], total: int, what: str = "reading", unit: str = "chunks"
) -> Iterator[T]:
    """Yield the parts, and draw a bar that counts them."""
    with _bar(console, unit) as bar:
        task = bar.add_task(what, total=total, note="")
        for part in parts:
            yield part
            bar.advance(task)
        bar.update(task, completed=total)
