import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from schemas import EpochMetrics, FoldResult, RunConfig, RunResult, Stage
from trainer.errors import ReportError
from trainer.paper import ESC50, URBANSOUND8K
from trainer.report import Report, Section, Table, print_report, write_report
from trainer.report.grouping import group
from trainer.report.load import read_run
from trainer.report.sections import text_section

PNG = b"\x89PNG\r\n\x1a\n"
SHORT = {"baseline": (2, 5, 12), "progressive": (2, 2, 2, 2, 2, 7)}
ARRAYS = ("R1/{}", "R1/{}", "R2/{}", "R2/{}", "R3/full", "R3/full")


def stages_of(method: str) -> tuple[Stage, ...]:
    if method == "baseline":
        return tuple(
            Stage(array="R3/full", epochs=epochs, max_lr=lr)
            for epochs, lr in zip(SHORT["baseline"], (1e-2, 5e-6, 1e-6), strict=True)
        )
    arrays = ["R3/full"] * 6 if method == "control" else [a.format(method) for a in ARRAYS]
    rates = (1e-2, 1e-3, 5e-3, 5e-6, 5e-3, 5e-6)
    return tuple(
        Stage(array=array, epochs=epochs, max_lr=lr)
        for array, epochs, lr in zip(arrays, SHORT["progressive"], rates, strict=True)
    )


def fold_result(fold: int, percent: float, last: float, num_epochs: int) -> FoldResult:
    return FoldResult(
        fold=fold,
        num_train=7000,
        num_test=800,
        best_accuracy=percent / 100,
        best_epoch=num_epochs - 1,
        last_accuracy=last / 100,
        last_epoch=num_epochs,
        seconds=12.5,
    )


def epochs_of(fold: FoldResult, stages: Sequence[Stage]) -> list[EpochMetrics]:
    """Plausible curves: each stage forgets a little, then learns more than it forgot."""
    rows = []
    starts = [0, *accumulate(stage.epochs for stage in stages)]
    for number, (stage, start) in enumerate(zip(stages, starts, strict=False)):
        for step in range(1, stage.epochs + 1):
            learnt = 1 - math.exp(-4 * (start + step) / fold.last_epoch)
            dip = 0.1 * math.exp(-step) * (number > 0)
            wobble = 0.01 * math.sin(7 * fold.fold + 3 * (start + step))
            rows.append(
                EpochMetrics(
                    fold=fold.fold,
                    stage=number + 1,
                    epoch=start + step,
                    array=stage.array,
                    max_lr=stage.max_lr,
                    train_loss=2.3 * (1 - learnt) + dip + abs(wobble),
                    valid_loss=1.0,
                    valid_accuracy=max(0.0, fold.best_accuracy * learnt - dip - abs(wobble)),
                    seconds=0.5,
                    samples_per_s=9000,
                )
            )
    return rows


def make_run(
    path: Path,
    method: str,
    accuracies: dict[int, float],
    *,
    dataset: str = "urbansound8k",
    fingerprint: str = "3f9a0c55d1e2b7a4",
    init_used: str = "imagenet",
    warnings: tuple[str, ...] = (),
    last: float = 1.0,
    **config: Any,
) -> Path:
    """A finished run's directory; `last` is by how many points the last epoch is worse."""
    stages = config.pop("stages", stages_of(method))
    num_epochs = sum(stage.epochs for stage in stages)
    folds = [fold_result(fold, a, a - last, num_epochs) for fold, a in accuracies.items()]
    result = RunResult(
        config=RunConfig(
            dataset=dataset, method=method, stages=stages, folds=tuple(accuracies), **config
        ),
        fingerprint=fingerprint,
        folds=tuple(folds),
        init_used=init_used,
        warnings=warnings,
        versions={"torch": "2.9"},
        device_name="NVIDIA H200",
    )
    path.mkdir(parents=True)
    (path / "run.json").write_text("{}")
    (path / "result.json").write_text(result.model_dump_json())
    with (path / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(EpochMetrics.model_fields))
        writer.writeheader()
        writer.writerows(row.model_dump() for fold in folds for row in epochs_of(fold, stages))
    return path


def paper_runs(folder: Path) -> list[Path]:
    """The paper's own accuracies as if they were ours, and a control."""
    methods = {method: URBANSOUND8K.by_fold(method) for method in URBANSOUND8K.splits}
    methods["control"] = {fold: value + 1 for fold, value in methods["baseline"].items()}
    return [make_run(folder / method, method, values) for method, values in methods.items()]


def section_of(*runs: Path) -> Section:
    """What a report of runs of one dataset says, without the pictures."""
    (series,) = group([read_run(run) for run in runs]).values()
    return text_section(series)


def table(section: Section, title: str) -> Table:
    return next(one for one in section.tables if title in one.title)


def row(found: Table, *start: str) -> dict[str, str]:
    cells = next(cells for cells in found.rows if cells[: len(start)] == start)
    return dict(zip((column.heading for column in found.columns), cells, strict=True))


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("paper")
    return write_report(paper_runs(folder), folder / "out")


def test_report_writes_markdown_html_and_two_figures(paper: Report) -> None:
    assert sorted(path.name for path in paper.out.iterdir()) == [
        "boxplot.png",
        "learning-curves.png",
        "report.html",
        "report.md",
    ]
    assert (paper.out / "boxplot.png").read_bytes().startswith(PNG)
    assert (paper.out / "learning-curves.png").read_bytes().startswith(PNG)


def test_summary_has_mean_and_sample_std_of_best_and_last_beside_the_papers(paper: Report) -> None:
    found = row(table(paper.sections[0], "mean ±"), "resize")
    assert found == {
        "method": "resize",
        "folds": "1-10",
        "seeds": "1",
        "best epoch": "77.43 ± 5.33",
        "last epoch": "76.43 ± 5.33",
        "paper, as printed": "77.43 ± 5.32",
    }


def test_fold_table_puts_the_papers_split_i_in_the_row_of_fold_10_minus_i(paper: Report) -> None:
    found = row(table(paper.sections[0], "by held-out fold"), "10")
    assert (found["mel best"], found["mel last"], found["mel paper"]) == ("81.00", "80.00", "81.00")
    assert "control best" in found
    assert "control paper" not in found


def test_paired_differences_are_given_for_best_last_and_paper(paper: Report) -> None:
    found = table(paper.sections[0], "Paired")
    mel = row(found, "mel - baseline")
    assert (mel["folds"], mel["best epoch mean"], mel["best epoch p"]) == ("10", "+2.73", "0.014")
    assert mel["last epoch p"] == mel["paper p"] == "0.014"
    assert row(found, "mel - resize")["best epoch p"] == "0.939"
    assert row(found, "mel - control")["paper p"] == "-"


def test_equal_differences_have_a_mean_but_no_t(paper: Report) -> None:
    found = table(paper.sections[0], "Paired")
    control = row(found, "control - baseline")
    assert (control["best epoch mean"], control["best epoch std"]) == ("+1.00", "0.00")
    assert control["best epoch t"] == control["best epoch p"] == "-"
    assert "t is not defined" in found.note


def test_report_says_that_best_is_optimistic_and_that_epochs_differ(paper: Report) -> None:
    text = (paper.out / "report.md").read_text()
    assert "chosen on the test fold itself" in text
    assert "baseline 19, mel 17, resize 17, control 17" in text
    assert "split i is fold 10 - i" in text
    assert "No `control` run" not in text


def test_context_shows_store_schedule_weights_and_device(paper: Report) -> None:
    found = table(paper.sections[0], "How the runs")
    facts = {cells[0]: cells[1] for cells in found.rows}
    assert facts["store"] == "3f9a0c55d1e2"
    assert facts["schedule"] == "full"
    assert (facts["init"], facts["arch"]) == ("imagenet", "resnet34")
    assert (facts["seeds"], facts["device"]) == ("0", "NVIDIA H200")


class Page(HTMLParser):
    """Collects what a page refers to and how many tables and pictures it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_html_is_one_self_contained_file_with_every_table_and_picture(paper: Report) -> None:
    text = (paper.out / "report.html").read_text()
    page = Page(text)
    assert len(page.links) == page.tags.count("img") == 2
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert page.tags.count("table") == len(paper.sections[0].tables) == 4
    assert not re.search(r"https?://|<script|@import|url\(", text)
    assert 'name="viewport"' in text


def test_every_table_row_has_one_cell_a_column(paper: Report) -> None:
    for found in paper.sections[0].tables:
        assert {len(cells) for cells in found.rows} == {len(found.columns)}


def printed(report: Report, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_report(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_terminal_shows_the_same_numbers_uncut_at_80_columns(paper: Report) -> None:
    text = printed(paper, width=80)
    assert "…" not in text
    for found in paper.sections[0].tables[:3]:
        assert all(cell in text for cells in found.rows for cell in cells[2:])
    assert max(map(len, text.splitlines()[:-1])) <= 80


def test_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "mel", {1: 70.0, 2: 80.0})
    first, second = (write_report([run], tmp_path / name).out for name in ("a", "b"))
    for path in first.iterdir():
        assert (second / path.name).read_bytes() == path.read_bytes()


def test_esc50_splits_stand_apart_because_their_folds_are_not_known(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mel", "mel", dict.fromkeys(range(1, 6), 80.0), dataset="esc50")
    section = section_of(run)
    assert "mel paper" not in row(table(section, "by held-out fold"), "1")
    assert row(table(section, "own splits"), "0")["mel"] == f"{ESC50.splits['mel'][0]:.2f}"
    assert any("not known" in note for note in section.notes)
    assert row(table(section, "mean ±"), "mel")["paper, as printed"] == "76.80 ± 4.83"


def test_dataset_the_paper_does_not_have_shows_no_paper(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "mel", {1: 80.0, 2: 70.0}, dataset="synthetic")
    section = section_of(run)
    assert not any("paper" in c.heading for one in section.tables for c in one.columns)


def test_part_of_the_folds_is_set_beside_the_same_folds_of_the_paper(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "mel", {10: 82.0, 9: 84.0})
    section = section_of(run)
    assert row(table(section, "mean ±"), "mel")["paper, same folds"] == "82.28 ± 1.82"


def test_folds_of_one_method_may_come_from_several_runs(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(k), "mel", {k: 70.0 + k}) for k in (2, 1, 3)]
    section = section_of(*runs)
    found = row(table(section, "mean ±"), "mel")
    assert (found["folds"], found["best epoch"]) == ("1-3", "72.00 ± 1.00")


def test_seeds_are_averaged_by_fold_and_their_spread_is_shown(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", "mel", {1: 70.0, 2: 80.0}, seed=0),
        make_run(tmp_path / "b", "mel", {1: 74.0, 2: 80.0}, seed=1),
    ]
    section = section_of(*runs)
    found = row(table(section, "mean ±"), "mel")
    assert (found["seeds"], found["best epoch"]) == ("2", "76.00 ± 5.66")
    assert found["std over seeds best"] == "1.41"
    assert row(table(section, "by held-out fold"), "1")["mel best"] == "72.00"


def test_seeds_with_different_folds_are_warned_of(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", "mel", {1: 70.0, 2: 80.0}, seed=0),
        make_run(tmp_path / "b", "mel", {1: 74.0}, seed=1),
    ]
    section = section_of(*runs)
    assert any("not every seed has every fold" in text for text in section.warnings)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("store", {"fingerprint": "another"}),
        ("init", {"init_used": "random"}),
        ("arch", {"arch": "resnet18"}),
        ("epochs scale", {"epochs_scale": 0.1}),
        ("batch size", {"batch_size": 32}),
    ],
)
def test_runs_of_different_settings_are_kept_apart_and_warned_of(
    tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    values = {1: 70.0, 2: 80.0}
    runs = [
        make_run(tmp_path / "a", "mel", values),
        make_run(tmp_path / "b", "mel", values, **change),
        make_run(tmp_path / "c", "baseline", values),
    ]
    section = section_of(*runs)
    labels = [cells[0] for cells in table(section, "mean ±").rows]
    assert len(set(labels)) == 3
    assert all(name in label for label in labels)
    assert f"differ in {name} (" in section.warnings[0]
    assert len(table(section, "Paired").rows) == 2, "mel with mel, and baseline with its like"


def test_schedules_of_one_method_that_differ_are_kept_apart(tmp_path: Path) -> None:
    stages = (Stage(array="R3/full", epochs=3, max_lr=0.01),)
    runs = [
        make_run(tmp_path / "a", "mel", {1: 70.0}),
        make_run(tmp_path / "b", "mel", {1: 80.0}, stages=stages),
    ]
    section = section_of(*runs)
    assert {c[0] for c in table(section, "mean ±").rows} == {"mel schedule 1", "mel schedule 2"}
    assert any("different stages" in text for text in section.warnings)


def test_shortened_schedule_and_the_runs_own_warnings_stand_at_the_top(tmp_path: Path) -> None:
    text = "no ImageNet weights: <random>"
    runs = [
        make_run(tmp_path / m, m, {1: 70.0}, epochs_scale=0.1, warnings=(text,))
        for m in ("baseline", "mel")
    ]
    report = write_report(runs, tmp_path / "out")
    warnings = report.sections[0].warnings
    assert "10 % of the paper's schedule was trained" in warnings[0]
    assert warnings.count(text) == 1
    assert "no ImageNet weights: &lt;random&gt;" in (report.out / "report.html").read_text()
    assert "No `control` run" in (report.out / "report.md").read_text()


def test_one_fold_is_reported_without_std_or_test(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / m, m, {1: 70.0}) for m in ("baseline", "mel")]
    section = section_of(*runs)
    assert row(table(section, "mean ±"), "mel")["best epoch"] == "70.00"
    found = table(section, "Paired")
    assert row(found, "mel - baseline")["folds"] == "1"
    assert row(found, "mel - baseline")["best epoch mean"] == "-"
    assert "Fewer than two common folds" in found.note


def test_datasets_have_a_section_and_figures_each(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", "mel", {1: 70.0}, dataset="esc50"),
        make_run(tmp_path / "b", "mel", {1: 70.0}, dataset="../odd"),
    ]
    report = write_report(runs, tmp_path / "out")
    assert [section.dataset for section in report.sections] == ["../odd", "esc50"]
    assert (report.out / "boxplot-esc50.png").is_file()
    assert {path.parent for path in report.out.rglob("*.png")} == {report.out}


def test_text_with_markup_of_the_terminal_is_printed_as_it_is(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "mel", {1: 70.0}, warnings=("[bold]loud[/nothing]",))
    assert "[bold]loud[/nothing]" in printed(write_report([run], tmp_path / "out"))


def test_nan_losses_are_drawn_as_gaps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "mel", {1: 70.0})
    lines = (run / "metrics.csv").read_text().splitlines()
    cells = lines[3].split(",")
    cells[list(EpochMetrics.model_fields).index("train_loss")] = "nan"
    (run / "metrics.csv").write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]))
    assert write_report([run], tmp_path / "out").sections


def edit(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(change((run / name).read_text()))


def lose(*names: str) -> Callable[[Path], object]:
    def remove(run: Path) -> None:
        for name in names:
            (run / name).unlink()

    return remove


def without_folds(text: str) -> str:
    return RunResult.model_validate_json(text).model_copy(update={"folds": ()}).model_dump_json()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "unfinished": (lose("result.json"), r"unfinished.*no result\.json; run it again"),
    "no run": (lose("result.json", "run.json"), "is not a run"),
    "cut json": (edit("result.json", lambda text: text[:200]), r"result\.json: is damaged"),
    "wrong value": (
        edit("result.json", lambda text: text.replace('_accuracy":0.7', '_accuracy":7')),
        r"result\.json: is damaged: folds\.0\.best_accuracy",
    ),
    "binary json": (
        lambda run: (run / "result.json").write_bytes(b"\xff\0"),
        r"result\.json: is damaged",
    ),
    "no folds": (edit("result.json", without_folds), "found folds: none"),
    "no metrics": (lose("metrics.csv"), r"metrics\.csv: is missing"),
    "cut csv": (
        edit("metrics.csv", lambda text: "\n".join(text.splitlines()[:4])[:-20]),
        r"metrics\.csv: is damaged at line 4",
    ),
    "empty csv": (
        edit("metrics.csv", lambda text: text.splitlines()[0]),
        r"metrics\.csv: has no epoch of fold 1",
    ),
    "long row": (
        edit("metrics.csv", lambda text: text.rstrip() + ",1"),
        r"metrics\.csv: is damaged at line 18",
    ),
    "binary csv": (
        lambda run: (run / "metrics.csv").write_bytes(b"\xff\xfe\0"),
        r"metrics\.csv: is damaged",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_runs_are_refused_with_what_is_wrong_and_what_to_do(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    run = make_run(tmp_path / "run", "mel", {1: 70.0})
    damage(run)
    with pytest.raises(ReportError, match=message) as caught:
        write_report([run], tmp_path / "out")
    assert str(run) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no such directory"):
        write_report([tmp_path / "nothing"], tmp_path / "out")


def test_no_runs_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no runs"):
        write_report([], tmp_path / "out")


def test_directory_of_runs_names_the_runs_inside(tmp_path: Path) -> None:
    make_run(tmp_path / "all" / "mel", "mel", {1: 70.0})
    with pytest.raises(ReportError, match=r"holds 1: give them, such as .*mel"):
        write_report([tmp_path / "all"], tmp_path / "out")


def test_two_runs_of_the_same_method_seed_and_fold_are_refused(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", "mel", {1: 70.0, 2: 71.0}),
        make_run(tmp_path / "b", "mel", {2: 70.0, 3: 71.0}),
    ]
    with pytest.raises(ReportError, match=r"a and .*b are both mel, seed 0, fold 2"):
        write_report(runs, tmp_path / "out")


def test_run_given_twice_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "mel", {1: 70.0})
    with pytest.raises(ReportError, match="leave one of them out"):
        write_report([run, run], tmp_path / "out")


def test_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "mel", {1: 70.0})
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ReportError, match="cannot be written"):
        write_report([run], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
