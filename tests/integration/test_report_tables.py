"""A report's numbers and words: averages, comparisons, what is kept apart, what is said of it."""

from pathlib import Path
from typing import Any

import pytest

from schemas import Stage
from tests.integration.reported_runs import (
    make_run,
    paper_runs,
    row,
    section_of,
    table,
    text_report,
)
from trainer.report import Section
from trainer.report.paper import ESC50
from trainer.report.render import to_html, to_markdown
from trainer.report.tables import schedule


@pytest.fixture(scope="module")
def paper() -> Section:
    return section_of(*paper_runs())


def test_summary_has_mean_and_sample_std_of_best_and_last_beside_the_papers(paper: Section) -> None:
    found = row(table(paper, "mean ±"), "resize")
    assert found == {
        "method": "resize",
        "folds": "1-10",
        "seeds": "1",
        "best epoch": "77.40 ± 5.30",
        "last epoch": "76.40 ± 5.30",
        "paper, best epoch": "77.43 ± 5.32",
    }


def test_fold_table_puts_the_papers_split_i_in_the_row_of_fold_10_minus_i(paper: Section) -> None:
    found = row(table(paper, "by held-out fold", "best epoch"), "10")
    assert (found["mel ours"], found["mel paper"]) == ("81.00", "81.00")
    assert "control ours" in found
    assert "control paper" not in found
    assert row(table(paper, "by held-out fold", "last epoch"), "10")["mel"] == "80.00"


def test_paired_differences_are_given_for_best_last_and_paper(paper: Section) -> None:
    ours = ("+2.75", "0.010", "+0.82 to +4.68", "+1.02", "0.945")
    papers = ("+2.73", "0.014", "+0.71 to +4.75", "+0.97", "0.939")
    expected = {"points: best epoch": ours, "points: last epoch": ours, "in the paper": papers}
    for words, (mean, p, interval, effect, p_of_others) in expected.items():
        found = table(paper, "Paired", words)
        mel = row(found, "mel - baseline")
        assert (mel["folds"], mel["mean"], mel["p of t"]) == ("10", mean, p)
        assert (mel["95 % CI"], mel["d_z"]) == (interval, effect)
        assert row(found, "mel - resize")["p of t"] == p_of_others
    named = {cells[0] for cells in found.rows}
    assert named == {"resize - baseline", "mel - baseline", "mel - resize"}, "it has no control"


def test_what_was_found_is_said_in_sentences_that_p_carries(paper: Section, tmp_path: Path) -> None:
    assert paper.findings == (
        "mel is better than baseline by 2.75 points (95 % CI +0.82 to +4.68, p 0.010).",
        "resize is better than baseline by 2.85 points (95 % CI +0.82 to +4.88, p 0.011).",
        "control and baseline differ by +1.00 points on every fold.",
        "No difference shown between mel and resize (p 0.945), mel and control (p 0.071), resize "
        "and control (p 0.069).",
        "These p are not corrected for the number of comparisons.",
    )
    values = {1: 70.0, 2: 80.0, 3: 75.0}
    worse = {1: 60.0, 2: 71.0, 3: 64.0}
    runs = [make_run(tmp_path / m, m, v) for m, v in (("baseline", values), ("mel", worse))]
    [finding] = section_of(*runs).findings
    assert finding.startswith("mel is worse than baseline by 10.00 points (95 % CI -12.48 to -7.52")
    assert section_of(runs[0]).findings == ()
    equal = [make_run(tmp_path / f"equal {m}", m, values) for m in ("baseline", "mel", "resize")]
    assert {said.split(" are ")[1] for said in section_of(*equal).findings} == {
        "equal on every fold."
    }, "nothing of p, of which there is none"


def test_who_is_right_where_counts_every_common_clip_once_per_seed(tmp_path: Path) -> None:
    accuracies = {"mel": {1: 70.0, 2: 80.0}, "baseline": {1: 90.0, 2: 60.0}}
    runs = [
        make_run(tmp_path / f"{method}{seed}", method, values, seed=seed)
        for method, values in accuracies.items()
        for seed in (0, 1)
    ]
    for chosen, seeds in ((runs[::2], 1), (runs, 2)):
        section = section_of(*chosen)
        whole, by_fold, by_class = (t for t in section.tables if "right where" in t.title)
        [(_, *numbers, p)] = whole.rows
        clips, both, first, second, neither = map(int, numbers)
        assert clips == both + first + second + neither == 200 * seeds
        assert both + first == (70 + 80) * seeds
        assert both + second == (90 + 60) * seeds
        assert (p == "-") == (seeds > 1)
        assert [int(one) - int(other) for _, one, other in by_fold.rows] == [
            -20 * seeds,
            20 * seeds,
        ]
        for part in (by_fold, by_class):
            sums = [sum(int(row[column]) for row in part.rows) for column in (1, 2)]
            assert sums == [first, second]


def test_a_section_says_its_clips_classes_folds_and_seeds(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"{seed}", "mel", {1: 70.0, 3: 80.0}, seed=seed) for seed in (0, 4)]
    scope = section_of(*runs).scope
    assert scope == "200 clips of 5 classes (chance 20 %), held-out folds 1, 3; 2 seeds (0, 4)."


def test_it_is_said_how_small_p_can_get_with_so_few_folds(tmp_path: Path) -> None:
    values = {1: 70.0, 2: 80.0, 3: 75.0, 4: 60.0, 5: 81.0}
    runs = [
        make_run(tmp_path / "a", "baseline", values),
        make_run(tmp_path / "b", "mel", {fold: v + fold for fold, v in values.items()}),
    ]
    found = table(section_of(*runs), "Paired")
    assert row(found, "mel - baseline")["p of ranks"] == "0.062"
    assert "With 5 folds the rank test cannot give a p below 0.062." in found.note


def test_equal_differences_have_a_mean_but_no_t(paper: Section) -> None:
    found = table(paper, "Paired")
    control = row(found, "control - baseline")
    assert (control["mean"], control["std"], control["95 % CI"]) == (
        "+1.00",
        "0.00",
        "+1.00 to +1.00",
    )
    assert control["t"] == control["p of t"] == control["d_z"] == "-"
    assert control["p of ranks"] == "0.002"
    assert "t and d_z are not defined" in found.note


def test_report_says_that_best_is_optimistic_and_that_epochs_differ(paper: Section) -> None:
    text = "\n".join(paper.notes)
    assert "picked on the test fold itself" in text
    assert "baseline 19, mel 17, resize 17, control 17" in text
    assert "split i is fold 10 - i" in text
    assert "No `control` run" not in text


def test_context_shows_store_schedule_weights_and_device(paper: Section) -> None:
    found = table(paper, "How the runs")
    facts = {cells[0]: cells[1] for cells in found.rows}
    assert facts["store"] == "3f9a0c55d1e2"
    assert facts["schedule"] == "full"
    assert (facts["init"], facts["arch"]) == ("imagenet", "resnet34")
    assert (facts["seeds"], facts["device"]) == ("0", "NVIDIA H200")


def test_esc50_splits_stand_apart_because_their_folds_are_not_known(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mel", "mel", dict.fromkeys(range(1, 6), 80.0), dataset="esc50")
    section = section_of(run)
    assert list(row(table(section, "by held-out fold"), "1")) == ["fold", "mel"]
    assert row(table(section, "own splits"), "0")["mel"] == f"{ESC50.splits['mel'][0]:.2f}"
    assert any("not known" in note for note in section.notes)
    assert row(table(section, "mean ±"), "mel")["paper, best epoch"] == "76.80 ± 4.83"


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
    assert (found["seeds"], found["best epoch mean ± std"]) == ("2", "76.00 ± 5.66")
    assert found["best epoch over seeds"] == "1.41"
    assert row(table(section, "by held-out fold"), "1")["mel ours"] == "72.00"


def test_the_spread_of_a_difference_over_seeds_is_shown(tmp_path: Path) -> None:
    gains = {0: 1.0, 1: 2.0, 2: 6.0}
    runs = [
        make_run(tmp_path / f"{method}{seed}", method, {1: 70 + gain, 2: 80 + gain}, seed=seed)
        for seed in gains
        for method, gain in (("baseline", 5.0 * seed), ("mel", 5.0 * seed + gains[seed]))
    ]
    found = row(table(section_of(*runs), "Paired"), "mel - baseline")
    assert (found["folds"], found["mean"], found["std over seeds"]) == ("2", "+3.00", "2.65")


def test_different_seeds_are_warned_of(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", "mel", {1: 70.0, 2: 80.0}, seed=0),
        make_run(tmp_path / "b", "baseline", {1: 74.0, 2: 77.0}, seed=1),
    ]
    section = section_of(*runs)
    assert any("over different seeds (baseline: 1; mel: 0)" in text for text in section.warnings)
    assert "std over seeds" not in row(table(section, "Paired"), "mel - baseline")


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
    report = text_report(*runs)
    warnings = report.sections[0].warnings
    assert "10 % of the whole schedule was trained" in warnings[0]
    assert warnings.count(text) == 1
    assert "no ImageNet weights: &lt;random&gt;" in to_html(report)
    assert "No `control` run" in to_markdown(report)


@pytest.mark.parametrize(
    ("scale", "share"),
    [(1, "full"), (2, "200 %"), (0.1, "10 %"), (0.01, "3.53 %"), (1e-9, "3.53 %")],
)
def test_the_fraction_of_the_schedule_is_what_was_trained_not_what_was_asked_for(
    scale: float, share: str
) -> None:
    assert schedule(scale).split(" of ")[0] == share


def test_one_fold_is_reported_without_std_or_test(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / m, m, {1: 70.0}) for m in ("baseline", "mel")]
    section = section_of(*runs)
    assert row(table(section, "mean ±"), "mel")["best epoch"] == "70.00"
    found = table(section, "Paired")
    assert row(found, "mel - baseline")["folds"] == "1"
    assert row(found, "mel - baseline")["mean"] == "-"
    assert "Fewer than two common folds" in found.note


def test_what_is_off_is_not_in_a_label_and_what_is_on_only_where_it_differs(tmp_path: Path) -> None:
    values = {1: 70.0, 2: 80.0}
    runs = [
        make_run(tmp_path / "a", "mel", values, label_smoothing=0.1),
        make_run(tmp_path / "b", "mel", values, label_smoothing=0.1, mixup=0.2),
    ]
    section = section_of(*runs)
    assert [cells[0] for cells in table(section, "mean ±").rows] == ["mel", "mel (mixup 0.2)"]
    facts = {cells[0]: cells[1:] for cells in table(section, "How the runs").rows}
    assert (facts["mixup"], facts["label smoothing"]) == (("0", "0.2"), ("0.1", "0.1"))
    assert "freq mask" not in facts
