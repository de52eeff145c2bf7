"""A report's files: what is in them, and that they can be looked at."""

import html
import io
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from featurestore import __version__
from featurestore.terminal import Terminal
from schemas import EpochMetrics
from tests.conftest import contents
from tests.integration.reported_runs import make_run, paper_runs, text_report
from tests.integration.trainer_runs import as_older
from trainer.report import Report, print_report, write_report
from trainer.report.curves import learning_curves
from trainer.report.series import group, read_run

PNG = b"\x89PNG\r\n\x1a\n"
PAIRS = ("1-mel-baseline", "2-resize-baseline", "3-mel-resize")


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Report:
    methods = paper_runs()[:3]  # a control more would be a third of the pictures more
    return write_report(methods, tmp_path_factory.mktemp("paper") / "out")


def test_report_writes_markdown_html_and_the_figures(paper: Report) -> None:
    names = (
        *("boxplot", "paper-boxplot", "learning-curves", "recall"),
        *("confusion-1-baseline", "confusion-2-mel", "confusion-3-resize"),
        *(f"{kind}-{pair}" for kind in ("difference", "who-is-right") for pair in PAIRS),
    )
    files = {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert {path.name for path in paper.out.iterdir()} == files | {"report.html", "report.md"}
    assert all(path.read_bytes().startswith(PNG) for path in paper.out.glob("*.png"))


def test_every_svg_is_well_formed_and_loads_nothing(paper: Report) -> None:
    for path in paper.out.glob("*.svg"):
        root = ElementTree.parse(path).getroot()  # noqa: S314 - a file of ours
        assert root.tag.endswith("}svg")
        links = [value for one in root.iter() for key, value in one.items() if "href" in key]
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)


def test_every_table_says_how_many_clips_and_seeds_it_is_about(paper: Report) -> None:
    for text in ((paper.out / "report.md").read_text(), printed(paper, width=200)):
        bases = [table.basis for table in paper.sections[0].tables]
        assert all(re.search(r"clips.*\b1 seed", basis) for basis in bases)
        assert sum("the paper's: 8,732 clips, 10 splits, 1 seed" in basis for basis in bases) == 1
        assert all(basis in text for basis in bases)


WHEN = datetime(2026, 11, 29, 9, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Report:
    place = tmp_path_factory.mktemp("single")
    run = make_run(place / "a run", "mel", {1: 70.0, 2: 80.0})
    return write_report([run], place / "out", WHEN)


def test_a_report_says_how_and_when_it_was_made(single: Report) -> None:
    (run,) = single.runs
    for name in ("report.md", "report.html"):
        text = html.unescape((single.out / name).read_text().replace("\\", ""))
        assert f"Made by featurestore {__version__} on 2026-11-29 at 09:05 UTC." in text
        assert f"trainer report '{run}'" in text


class Page(HTMLParser):
    """Collects what a page refers to and how many tables and pictures it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.names: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_html_is_one_self_contained_file_with_every_table_and_picture(paper: Report) -> None:
    text = (paper.out / "report.html").read_text()
    page = Page(text)
    pictures = [link for link in page.links if not link.startswith("#")]
    assert len(pictures) == page.tags.count("img") == len(paper.sections[0].pictures) == 13
    assert all(link.startswith("data:image/png;base64,") for link in pictures)
    assert page.tags.count("table") == len(paper.sections[0].tables) > 5
    assert not re.search(r"https?://|<script|@import|url\(", text)
    assert 'name="viewport"' in text


def test_every_entry_of_the_contents_leads_to_one_place(paper: Report) -> None:
    page = Page((paper.out / "report.html").read_text())
    entries = [link[1:] for link in page.links if link.startswith("#")]
    assert len(entries) == 1 + len(paper.sections[0].tables) + 3
    assert all(page.names.count(entry) == 1 for entry in entries)


def test_every_table_row_has_one_cell_a_column(paper: Report) -> None:
    for found in paper.sections[0].tables:
        assert {len(cells) for cells in found.rows} == {len(found.columns)}


def printed(report: Report, width: int = 100) -> str:
    console = Terminal(file=io.StringIO(), width=width)
    print_report(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_terminal_shows_the_same_numbers_uncut_at_80_columns(paper: Report) -> None:
    text = printed(paper, width=80)
    assert "…" not in text
    for found in paper.sections[0].tables[:-1]:
        if not found.detail:
            assert all(cell in text for cells in found.rows for cell in cells[2:])
    assert max(map(len, text.splitlines()[:-1])) <= 80


def test_same_runs_give_the_same_bytes(single: Report, tmp_path: Path) -> None:
    second = write_report(single.runs, tmp_path / "out", WHEN)
    assert contents(second.out) == contents(single.out)


def test_datasets_and_selections_have_a_section_and_figures_each(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", "mel", {1: 70.0}, dataset="esc50"),
        make_run(tmp_path / "b", "mel", {1: 70.0}, dataset="../odd", selection="last"),
    ]
    report = write_report(runs, tmp_path / "out")
    assert [section.dataset for section in report.sections] == ["../odd", "esc50"]
    assert (report.out / "boxplot-esc50-heldout.png").is_file()
    assert {path.parent for path in report.out.rglob("*.png")} == {report.out}


def test_text_with_markup_of_the_terminal_is_printed_as_it_is(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "mel", {1: 70.0}, warnings=("[bold]loud[/nothing]",))
    assert "[bold]loud[/nothing]" in printed(text_report(run))


def test_nan_losses_are_drawn_as_gaps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "mel", {1: 70.0})
    as_older(run)  # which nothing vouches for, so that it may be edited
    lines = (run / "fold1/metrics.csv").read_text().splitlines()
    cells = lines[3].split(",")
    cells[list(EpochMetrics.model_fields).index("train_loss")] = "nan"
    (run / "fold1/metrics.csv").write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]))
    ((series,),) = group([read_run(run)]).values()
    assert learning_curves([series]).png.startswith(PNG)
