"""The display of a step that counts bytes, and of one that does not."""

import io

from rich.console import Console

from featurestore.download.fetch import Progress
from featurestore.progress import StepProgress


def shown(*steps: Progress) -> str:
    """Return the output sent to a terminal."""
    screen = io.StringIO()
    with StepProgress(Console(file=screen, force_terminal=True, width=120)) as progress:
        for step in steps:
            progress(step)
    return screen.getvalue()


def test_a_step_that_counts_bytes_shows_them() -> None:
    assert "0.5/1.0 kB" in shown(Progress("downloading", 500, 1000))
    assert "500/? bytes" in shown(Progress("downloading", 500)), "a server may not say how many"


def test_a_step_that_counts_nothing_shows_no_bytes() -> None:
    for step in (Progress("checking"), Progress("waiting", note="another process is at it")):
        text = shown(step)
        assert step.step in text
        assert step.note in text
        assert "bytes" not in text
        assert "?" not in text.replace("\x1b[?25", "")
