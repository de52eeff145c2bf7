"""The epoch that counts and the one that is carried: the rules over curves made by hand."""

from itertools import accumulate, combinations
from typing import get_args

import pytest

from schemas import BestOf, Carry, EpochMetrics, FoldResult, RunConfig, RunResult, Selection, Stage
from trainer.selection import (
    carried_among,
    carried_epoch,
    other_images,
    reported_among,
    reported_epoch,
    unused_settings,
)

STAGES = tuple(
    Stage(array=array, epochs=2, max_lr=1e-3)
    for array in ("R1/mel", "R2/mel", "R3/full", "R3/full")
)
ACCURACIES = (0.5, 0.9, 0.6, 0.6, 0.8, 0.7, 0.7, 0.7)
"""The best of all is of the smallest images, the best at R3 is not of the last stage."""


def config(**rules: str) -> RunConfig:
    return RunConfig(dataset="d", method="m", stages=STAGES, folds=(1,), **rules)  # type: ignore[arg-type]


def rows(accuracies: tuple[float, ...] = ACCURACIES) -> list[EpochMetrics]:
    return [
        EpochMetrics(
            fold=1,
            stage=at // 2 + 1,
            epoch=at + 1,
            array=STAGES[at // 2].array,
            max_lr=1e-3,
            train_loss=1.0,
            valid_loss=1.0,
            valid_accuracy=accuracy,
            seconds=1.0,
            samples_per_s=1.0,
        )
        for at, accuracy in enumerate(accuracies)
    ]


@pytest.mark.parametrize(("best_of", "epoch"), [("run", 2), ("array", 5), ("stage", 7)])
@pytest.mark.parametrize("selection", ["heldout", "validation"])
def test_the_reported_epoch_is_the_first_best_one_of_those_that_count(
    best_of: str, epoch: int, selection: str
) -> None:
    found = reported_epoch(rows(), config(best_of=best_of, selection=selection))
    assert found is not None
    assert found.epoch == epoch


@pytest.mark.parametrize(("best_of", "first"), [("run", 1), ("array", 5), ("stage", 7)])
def test_nothing_is_reported_before_an_epoch_that_counts(best_of: str, first: int) -> None:
    reported = [reported_epoch(rows()[:n], config(best_of=best_of)) for n in range(1, 9)]
    assert [one is not None for one in reported] == [n >= first for n in range(1, 9)]


@pytest.mark.parametrize("best_of", ["run", "array", "stage"])
def test_nothing_is_reported_where_nothing_is_picked(best_of: str) -> None:
    assert reported_epoch(rows(), config(best_of=best_of, selection="last")) is None


@pytest.mark.parametrize(
    ("carry", "starts"),
    [("stage", (2, 3, 5)), ("run", (2, 2, 2)), ("last", (2, 4, 6))],
)
def test_a_stage_starts_from_the_epoch_that_its_rule_says(
    carry: str, starts: tuple[int, ...]
) -> None:
    after = [carried_epoch(rows()[:n], config(carry=carry)) for n in (2, 4, 6)]
    assert tuple(one.epoch for one in after) == starts


@pytest.mark.parametrize("carry", ["stage", "run", "last"])
def test_where_nothing_is_picked_a_stage_starts_from_the_last_epoch(carry: str) -> None:
    assert carried_epoch(rows()[:3], config(carry=carry, selection="last")).epoch == 3


def test_the_alternate_array_of_the_last_stage_counts_as_well() -> None:
    last = STAGES[-1].model_copy(update={"alternate": "R2/mel"})
    alternating = config(best_of="array").model_copy(update={"stages": (*STAGES[:3], last)})
    accuracies = (0.9, 0.9, 0.3, 0.8, 0.1, 0.2, 0.1, 0.2)
    found = reported_epoch(rows(accuracies), alternating)
    assert found is not None
    assert found.epoch == 4


@pytest.mark.parametrize(("selection", "carry"), [("heldout", "run"), ("last", "last")])
def test_a_config_of_an_older_version_is_read_as_the_rule_it_was_trained_by(
    selection: str, carry: str
) -> None:
    old = config(selection=selection).model_dump(mode="json", exclude={"carry", "best_of"})
    read = RunConfig.model_validate(old)
    assert (read.carry, read.best_of) == (carry, "run")


def test_best_networks_of_other_images_than_the_last_stages_are_warned_of() -> None:
    def result(fold: int, array: str | None) -> FoldResult:
        known: dict[str, object] = {"num_train": 9, "num_test": 9, "best_accuracy": 0.5}
        known |= {"best_epoch": 1, "last_accuracy": 0.5, "last_epoch": 8, "seconds": 1.0}
        return FoldResult.model_validate(known | {"fold": fold, "best_array": array})

    def of(*folds: FoldResult, last: Stage = STAGES[-1]) -> RunResult:
        stages = (*STAGES[:-1], last)
        return RunResult.model_construct(
            config=config().model_copy(update={"stages": stages}), folds=folds
        )

    of_last = [result(1, "R3/full"), result(2, None)]
    assert other_images(of(*of_last)) is None
    smaller = [result(3, "R1/mel"), result(4, "R2/mel"), result(5, "R1/mel")]
    run = of(*of_last, *smaller)
    assert "last stage, R3/full: R1/mel (fold 3, 5); R2/mel (fold 4);" in (other_images(run) or "")
    assert "R3/full: R1/mel (fold 5);" in (other_images(run, folds=[1, 5]) or "")
    assert other_images(run, "last") is None
    assert other_images(run, folds=[1, 2]) is None
    alternates = STAGES[-1].model_copy(update={"alternate": "R1/mel"})
    assert other_images(of(result(3, "R1/mel"), last=alternates)) is None


def peaks(config: RunConfig) -> list[list[EpochMetrics]]:
    """All curves with one best epoch, which may be any."""
    epochs = [
        (number, stage.alternate if stage.alternate and at % 2 else stage.array)
        for number, stage in enumerate(config.stages, start=1)
        for at in range(stage.epochs)
    ]
    row = rows()[0]
    return [
        [
            row.model_copy(
                update={
                    "stage": stage,
                    "array": array,
                    "epoch": epoch,
                    "valid_accuracy": 0.9 if epoch == best else 0.1,
                }
            )
            for epoch, (stage, array) in enumerate(epochs, start=1)
        ]
        for best in range(1, len(epochs) + 1)
    ]


SCHEDULES = [
    (("R1/mel", None, 1),),
    (("R1/mel", "R1/resize", 1),),
    (("R1/mel", None, 3),),
    (("R1/mel", None, 1), ("R2/mel", None, 2)),
    (("R1/mel", "R1/resize", 2), ("R1/mel", None, 2), ("R3/full", None, 1)),
    (("R3/full", None, 2), ("R1/mel", None, 1), ("R3/full", "R1/mel", 1)),
    (("R3/full", None, 1), ("R1/mel", None, 1), ("R3/full", None, 3)),
    (("R3/full", None, 2),) * 3,
]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("selection", get_args(Selection))
def test_rules_are_alike_where_no_curve_tells_them_apart(
    schedule: tuple[tuple[str, str | None, int], ...], selection: str
) -> None:
    stages = tuple(
        Stage(array=array, alternate=other, epochs=epochs, max_lr=1e-3)
        for array, other, epochs in schedule
    )
    stops = list(accumulate(stage.epochs for stage in stages))[:-1]
    base = config(selection=selection).model_copy(update={"stages": stages})
    alike: dict[str, set[bool]] = {"carry": set(), "best_of": set()}
    for (name, rule), choices in {
        ("carry", carried_among): get_args(Carry),
        ("best_of", reported_among): get_args(BestOf),
    }.items():
        picked = {}
        for choice in choices:
            one = base.model_copy(update={name: choice})
            curves = peaks(one)
            picked[choice] = [
                [carried_epoch(curve[:stop], one).epoch for stop in stops]
                if name == "carry"
                else getattr(reported_epoch(curve, one), "epoch", None)
                for curve in curves
            ]
        for first, second in combinations(choices, 2):
            same = picked[first] == picked[second]
            candidates = (rule(base.model_copy(update={name: c})) for c in (first, second))
            assert (len(set(candidates)) == 1) == same, (name, first, second)
            alike[name].add(same)
    unused = unused_settings(base)
    assert unused & set(alike) == {name for name, same in alike.items() if same == {True}}
