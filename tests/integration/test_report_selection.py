"""The model selection is stated everywhere, and different selections are never put together."""

from io import StringIO
from pathlib import Path

import pytest

from featurestore.terminal import Terminal
from schemas import BestOf, Carry, Selection
from tests.integration.reported_runs import (
    make_run,
    row,
    section_of,
    sections_of,
    stages_of,
    table,
    text_report,
)
from trainer.console import print_result
from trainer.records.finished import open_finished
from trainer.report import Section, write_report
from trainer.report.browsed import browsed_runs
from trainer.report.render import to_html, to_markdown
from trainer.report.series import Series, group, read_run

VALUES = {1: 70.0, 2: 80.0, 3: 75.0}
PLAIN = {fold: value - 3 for fold, value in VALUES.items()}


def two_methods(folder: Path, selection: Selection) -> list[Path]:
    return [
        make_run(folder / f"{method}-{selection}", method, values, selection=selection)
        for method, values in (("mel", VALUES), ("baseline", PLAIN))
    ]


def headings(section: Section) -> set[str]:
    return {c.heading for one in section.tables for c in one.columns} | {
        one.title for one in section.tables
    }


def test_runs_that_pick_nothing_have_no_best_epoch_of_ours(tmp_path: Path) -> None:
    section = section_of(*two_methods(tmp_path, "last"))
    ours = {text for text in headings(section) if "paper" not in text}
    assert not any("best" in text for text in ours)
    assert row(table(section, "mean ±"), "mel")["last epoch"] == "75.00 ± 5.00"
    assert row(table(section, "by held-out fold", "last epoch"), "3")["mel ours"] == "75.00"
    assert "the last one counts" in section.heading
    assert "Nothing is picked" in section.notes[0]


def test_runs_with_a_validation_part_have_one_figure_that_says_so(tmp_path: Path) -> None:
    section = section_of(*two_methods(tmp_path, "validation"))
    found = row(table(section, "mean ±"), "baseline")
    assert found["picked on the validation part"] == "72.00 ± 5.00"
    assert not any("last epoch" in text for text in headings(section))
    assert "validation part of the training folds" in section.heading
    assert "looked at once" in section.notes[0]
    facts = {cells[0]: cells[1] for cells in table(section, "How the runs").rows}
    assert (facts["selection"], facts["validation share"]) == ("validation", "0.1")


def test_the_share_of_a_validation_part_that_is_not_used_is_no_setting(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", "mel", VALUES, validation_share=0.2),
        make_run(tmp_path / "b", "mel", VALUES, validation_share=0.1, seed=1),
    ]
    section = section_of(*runs)
    assert [cells[0] for cells in table(section, "mean ±").rows] == ["mel"]
    assert "validation share" not in {cells[0] for cells in table(section, "How the runs").rows}


def test_shares_of_the_validation_part_that_differ_are_kept_apart(tmp_path: Path) -> None:
    runs = [
        make_run(
            tmp_path / str(share), "mel", VALUES, selection="validation", validation_share=share
        )
        for share in (0.1, 0.2)
    ]
    labels = [cells[0] for cells in table(section_of(*runs), "mean ±").rows]
    assert labels == ["mel (validation share 0.1)", "mel (validation share 0.2)"]


def test_selections_are_in_sections_of_their_own_and_never_compared(tmp_path: Path) -> None:
    selections: tuple[Selection, ...] = ("heldout", "validation", "last")
    runs = [run for selection in selections for run in two_methods(tmp_path, selection)]
    sections = sections_of(*runs)
    assert [section.selection for section in sections] == ["heldout", "last", "validation"]
    for section in sections:
        assert {cells[0] for cells in table(section, "mean ±").rows} == {"baseline", "mel"}
        assert {cells[0] for cells in table(section, "Paired").rows} == {"mel - baseline"}
        assert (
            sum(note.startswith(("The best", "The epoch", "Nothing")) for note in section.notes)
            == 1
        )


def test_every_page_says_which_selections_it_is_about(tmp_path: Path) -> None:
    selections: tuple[Selection, ...] = ("heldout", "validation", "last")
    runs = [make_run(tmp_path / name, "mel", VALUES, selection=name) for name in selections]
    report = text_report(*runs)
    assert len(report.sections) == 3
    for page in (to_markdown(report), to_html(report)):
        assert all(section.heading in page for section in report.sections)


@pytest.mark.slow
def test_pictures_of_several_selections_have_their_names(tmp_path: Path) -> None:
    selections: tuple[Selection, ...] = ("heldout", "validation", "last")
    runs = [make_run(tmp_path / name, "mel", VALUES, selection=name) for name in selections]
    report = write_report(runs, tmp_path / "out")
    files = {path.name for path in report.out.iterdir()}
    assert {f"boxplot-{name}.png" for name in selections} <= files


RULES = (
    {"carry": "stage", "best_of": "array"},
    {"carry": "run", "best_of": "array"},
    {"carry": "run", "best_of": "run"},
)
"""The default, what stages start from changed, and, last, what an older version recorded."""


def two_methods_by(folder: Path, rules: dict[str, str]) -> list[Path]:
    name = "-".join(rules.values())
    return [
        make_run(folder / f"{method}-{name}", method, values, **rules)
        for method, values in (("mel", VALUES), ("baseline", PLAIN))
    ]


def test_runs_of_different_rules_are_in_sections_of_their_own_that_say_so(tmp_path: Path) -> None:
    sections = sections_of(*(run for rules in RULES for run in two_methods_by(tmp_path, rules)))
    assert len({section.notes[1] for section in sections}) == 3
    for section in sections:
        assert {cells[0] for cells in table(section, "mean ±").rows} == {"baseline", "mel"}
        assert {cells[0] for cells in table(section, "Paired").rows} == {"mel - baseline"}
        of_all = "best epoch so far" in section.notes[1] or "of all epochs" in section.notes[1]
        assert any("network of smaller images" in line for line in section.warnings) == of_all


def test_a_method_of_one_stage_is_in_the_table_of_each_rule(tmp_path: Path) -> None:
    """Both rules pick the same epochs in it, and each table needs it."""
    runs = [
        make_run(
            tmp_path / "-".join((method, *rules.values())), method, VALUES, stages=stages, **rules
        )
        for method, stages in (("mel", stages_of("mel")), ("once", stages_of("mel")[-1:]))
        for rules in RULES[:2]
    ]
    for section in sections_of(*runs):
        assert {cells[0] for cells in table(section, "mean ±").rows} == {"mel", "once"}
        assert {cells[0] for cells in table(section, "Paired").rows} == {"once - mel"}


@pytest.mark.slow
def test_pictures_of_several_rules_have_names_of_their_own(tmp_path: Path) -> None:
    runs = [two_methods_by(tmp_path, rules)[0] for rules in RULES]
    report = write_report(runs, tmp_path / "out")
    pictures = [picture.file for section in report.sections for picture in section.pictures]
    assert len(set(pictures)) == len(pictures)


def test_runs_of_two_files_of_one_name_are_not_averaged(tmp_path: Path) -> None:
    for used, own in (("file", {"init": "/w.pth"}), ("timm", {}), ("imagenet", {})):
        runs = [
            make_run(
                tmp_path / f"{used}{seed}", "mel", VALUES, seed=seed, init_used=used,
                init_sha256=sha256, **own,
            )
            for seed, sha256 in enumerate(("a" * 64, "a" * 64, "b" * 64))
        ]  # fmt: skip
        seeds = [one.seeds for one in section_series(runs)]
        assert seeds == ([[0, 1, 2]] if used == "imagenet" else [[0, 1], [2]])


def section_series(paths: list[Path]) -> list[Series]:
    (series,) = group([read_run(path) for path in paths]).values()
    return series


def test_runs_of_different_rules_are_told_apart_on_the_page(tmp_path: Path) -> None:
    """The page has a table for each text of what is shown."""
    alike = two_methods_by(tmp_path, RULES[0])
    assert {run["score"] for run in browsed_runs(alike)["runs"]} == {"best epoch"}
    runs = browsed_runs([*alike, *two_methods_by(tmp_path, RULES[1])])["runs"]
    shown = [run["score"] for run in runs]
    assert shown[0] == shown[1] == (
        "best epoch: each stage starts from the best epoch of the one before; the best is of the "
        "epochs on the last stage's array"
    )  # fmt: skip
    assert shown[2] == shown[3] != shown[0]


def test_a_runs_own_result_says_if_it_may_be_of_small_images(tmp_path: Path) -> None:
    for rules in RULES:
        run = make_run(tmp_path / "-".join(rules.values()), "mel", VALUES, **rules)
        file = StringIO()
        print_result(Terminal(file=file, width=1000), open_finished(run).result)
        assert ("not the rules of the paper's code" in file.getvalue()) == ("run" in rules.values())


def test_where_nothing_is_picked_the_rules_do_not_keep_runs_apart(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "new", "mel", VALUES, selection="last", carry="last", best_of="array"),
        make_run(tmp_path / "old", "mel", VALUES, selection="last", seed=1, best_of="run"),
    ]
    labels = [cells[0] for cells in table(section_of(*runs), "mean ±").rows]
    assert labels == ["mel"]


def test_runs_on_other_classes_are_in_sections_of_their_own(tmp_path: Path) -> None:
    """A store built again with a class more: its class 0 is another one, and so is its chance."""
    lists = {"a" * 16: ("cat", "dog", "owl"), "b" * 16: ("ant", "cat", "dog", "owl")}
    runs = [
        make_run(
            tmp_path / f"{method}{store[0]}", method, VALUES, dataset="my",
            fingerprint=store, classes=classes,
        )
        for store, classes in lists.items()
        for method in ("mel", "baseline")
    ]  # fmt: skip
    sections = sections_of(*runs)
    assert [section.scope.split(" (")[0].split(" of ")[1] for section in sections] == [
        "4 classes",
        "3 classes",
    ]
    for section, classes in zip(sections, reversed(lists.values()), strict=True):
        assert [cells[0] for cells in table(section, "by class").rows] == list(classes)
        assert not any("differ in store" in warning for warning in section.warnings)
    assert [section.heading.split(":")[0] for section in sections] == [
        "my, classes 1",
        "my, classes 2",
    ]


def test_sections_of_other_rules_have_other_headings(tmp_path: Path) -> None:
    kinds: list[tuple[Carry, BestOf]] = [("stage", "array"), ("stage", "run"), ("run", "run")]
    runs = [
        make_run(tmp_path / f"{carry}{best_of}", "mel", VALUES, carry=carry, best_of=best_of)
        for carry, best_of in kinds
    ]
    headings = [section.heading for section in sections_of(*runs)]
    assert len(set(headings)) == len(kinds)
    assert any(text.endswith("the best is of all epochs") for text in headings)
