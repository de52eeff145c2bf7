"""Progress bars in a notebook, which is not a terminal and need not have ipywidgets."""

import io
import re
import sys
from typing import Any

import IPython.display
import pytest
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from featurestore.bars import SilentTerminal, progress_bars
from featurestore.terminal import Bars, Label, Terminal


class Cell:
    """The output of a cell: the documents that were displayed in it, one in place of another."""

    def __init__(self) -> None:
        self.documents: list[str] = []

    def display(self, document: Any, display_id: bool) -> "Cell":
        assert display_id
        self.documents.append(document.data)
        return self

    def update(self, document: Any) -> None:
        self.documents.append(document.data)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    cell = Cell()
    monkeypatch.setattr(IPython.display, "display", cell.display)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # as where it is not installed
    monkeypatch.setattr(Terminal, "muted", False)
    return cell


def bars(transient: bool = False) -> Progress:
    console = Terminal(stderr=True, force_jupyter=True)
    columns = Label(), BarColumn(), MofNCompleteColumn()
    return progress_bars(console, *columns, transient=transient)


def test_bars_of_a_notebook_are_one_output_that_is_replaced_a_few_times_per_second(
    cell: Cell,
) -> None:
    with bars() as progress:
        task = progress.add_task("building", total=10_000)
        for _ in range(10_000):
            progress.advance(task)
    assert 2 <= len(cell.documents) < 100
    assert "10000/10000" in cell.documents[-1]
    assert "10000/10000" not in cell.documents[0]


def test_a_name_in_a_notebooks_bar_is_text_and_no_page(cell: Cell) -> None:
    with bars() as progress:
        progress.add_task("<script>alert(1)</script> [red]x[/red]", total=1)
    assert "<script>" not in cell.documents[-1]
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [red]x" in re.sub(
        r"</?span[^>]*>", "", cell.documents[-1]
    )


def test_transient_bars_leave_nothing_in_the_cell(cell: Cell) -> None:
    with bars(transient=True) as progress:
        progress.add_task("x", total=1)
    assert cell.documents[-1] == ""


def test_an_error_ends_the_bars_and_is_raised(cell: Cell) -> None:
    def stop() -> None:
        with bars() as progress:
            progress.add_task("x", total=1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert "0/1" in cell.documents[-1]


def test_elsewhere_the_bars_are_richs() -> None:
    made = progress_bars(Terminal(stderr=True, force_jupyter=False), Label())
    assert type(made) is Bars


@pytest.mark.parametrize("width", [50, 60, 80, 200])
def test_a_bar_gives_way_to_what_is_said_next_to_it(width: int) -> None:
    console = Terminal(file=io.StringIO(), force_terminal=True, width=width)
    made = progress_bars(console, Label(), BarColumn(), MofNCompleteColumn(), Label("note"))
    made.add_task("building esc50", total=500_000, completed=250_000, note="123456 failed")
    with console.capture() as screen:
        console.print(made.get_renderable())
    (line,) = re.sub(r"\x1b\[[0-9;]*m", "", screen.get()).splitlines()
    assert re.fullmatch(r"building esc50 [━╸╺]+ +250000/500000 123456 failed *", line)


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_title_is_whole_and_in_a_rule_where_there_is_room(width: int) -> None:
    title = "1/2 baseline-seed0-init=random"
    for align in ("left", "center"):
        screen = io.StringIO()
        Terminal(file=screen, width=width).rule(title, align=align)
        (line,) = screen.getvalue().splitlines()
        assert title in line
        assert ("─" in line) == (width > 30)


def test_a_silent_console_prints_nothing_and_warns_without_secrets(
    capfd: pytest.CaptureFixture[str],
) -> None:
    console = SilentTerminal(UserWarning)
    console.print("x")
    console.say("y")
    with pytest.warns(UserWarning, match=r"lost in s3://.*@host") as caught:
        console.warn("lost in s3://key:the-secret@host/x")
    assert "the-secret" not in str(caught[0].message)
    assert capfd.readouterr() == ("", "")
