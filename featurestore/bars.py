"""Progress bars of both programs: in a terminal, in a notebook, or none at all.

Rich needs ipywidgets to draw in a notebook, and draws nothing without it. Here the same bars are an
output of the cell that is replaced a few times per second.
"""

import io
import time
import warnings
from typing import Any

from rich.progress import Progress, ProgressColumn, TaskID

from featurestore.terminal import Bars, Terminal
from featurestore.text import mask_url, printable

_EVERY_S = 0.25
"""Minimum seconds between two updates: each is a message to the browser."""
_HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:normal">{code}</pre>'


def progress_bars(console: Terminal, *columns: ProgressColumn, transient: bool = False) -> Progress:
    """Return bars that suit a console; see `rich.progress.Progress`.

    Args:
        console: Where they are shown.
        columns: Columns of each bar.
        transient: Whether to remove the bars at the end.
    """
    if console.is_jupyter:
        return NotebookBars(*columns, console=console, transient=transient)
    # Where there is no terminal, bars that are removed at the end would leave an empty line.
    absent = transient and not console.is_terminal
    return Bars(*columns, console=console, transient=transient, disable=absent)


class NotebookBars(Bars):
    """Bars in the output of a notebook cell, redrawn whenever they are advanced."""

    def __init__(self, *columns: ProgressColumn, console: Terminal, transient: bool) -> None:
        super().__init__(*columns, console=console, auto_refresh=False)
        self._transient = transient
        self._shown: Any = None
        self._drawn_at = 0.0

    def start(self) -> None:
        """Create the output of the cell."""
        from IPython.display import HTML, display

        self._html: Any = HTML
        if self.console.quiet:
            return
        self._shown = display(HTML(self._document()), display_id=True)

    def stop(self) -> None:
        """Draw the final state, or clear the output if the bars are transient."""
        self._draw("" if self._transient else self._document())
        self._shown = None

    def update(self, task_id: TaskID, **changes: Any) -> None:  # noqa: ANN401
        """Update a task, and redraw if the last update is long enough ago."""
        super().update(task_id, **changes)
        self.refresh()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Advance a task, and redraw if the last update is long enough ago."""
        super().advance(task_id, advance)
        self.refresh()

    def refresh(self) -> None:
        """Redraw, unless the last update was a moment ago."""
        if time.monotonic() - self._drawn_at >= _EVERY_S:
            self._draw(self._document())

    def _draw(self, document: str) -> None:
        if self._shown is not None:
            self._drawn_at = time.monotonic()
            self._shown.update(self._html(document))

    def _document(self) -> str:
        width = self.console.width
        page = Terminal(
            file=io.StringIO(), record=True, width=width, force_jupyter=False, force_terminal=True
        )
        page.print(self.get_renderable())
        return page.export_html(code_format=_HTML, inline_styles=True)


class SilentTerminal(Terminal):
    """A console that prints nothing and issues warnings as Python warnings.

    Args:
        category: Category of the warnings.
    """

    def __init__(self, category: type[Warning]) -> None:
        super().__init__(file=io.StringIO(), force_jupyter=False)
        self._category = category

    def warn(self, message: object) -> None:
        """Issue a Python warning, with credentials in URLs masked."""
        warnings.warn(printable(mask_url(message)), self._category, stacklevel=2)
