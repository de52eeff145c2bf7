import pytest

from trainer.errors import UnknownMethodError
from trainer.methods import METHODS, rates_warning, stages

THIRD = pytest.approx(1 / 3)
# PROTOCOL section 2: resolution, epochs, body over head, λ on UrbanSound8K, λ on ESC-50.
PROGRESSIVE = [
    ("R1", 20, 1, 1e-2, 5e-3),
    ("R1", 20, THIRD, 1e-3, 5e-4),
    ("R2", 20, 1, 5e-3, 5e-3),
    ("R2", 20, THIRD, 5e-6, 5e-6),
    ("R3", 20, 1, 5e-3, 5e-3),
    ("R3", 70, THIRD, 5e-6, 5e-6),
]
BASELINE = [
    ("R3", 20, 1, 1e-2, 5e-3),
    ("R3", 50, THIRD, 5e-6, 1e-4),
    ("R3", 120, THIRD, 1e-6, 1e-6),
]


@pytest.mark.parametrize(
    ("method", "table"),
    [("baseline", BASELINE), ("mel", PROGRESSIVE), ("resize", PROGRESSIVE)],
)
def test_schedule_is_the_papers(
    method: str, table: list[tuple[str, int, float, float, float]]
) -> None:
    for column, dataset in ((3, "urbansound8k"), (4, "esc50")):
        found = [
            (stage.array.split("/")[0], stage.epochs, stage.body_lr_ratio, stage.max_lr)
            for stage in stages(method, dataset)
        ]
        assert found == [(*row[:3], row[column]) for row in table]


def test_each_method_reads_its_own_variant_and_shares_the_largest_resolution() -> None:
    arrays = {name: [cycle.array for cycle in cycles] for name, cycles in METHODS.items()}
    assert arrays["mel"] == ["R1/mel"] * 2 + ["R2/mel"] * 2 + ["R3/full"] * 2
    assert arrays["resize"] == ["R1/resize"] * 2 + ["R2/resize"] * 2 + ["R3/full"] * 2
    assert set(arrays["baseline"] + arrays["control"]) == {"R3/full"}


def test_control_has_the_progressive_schedule_without_its_resolutions() -> None:
    def rates(method: str) -> list[tuple[int, float, float]]:
        return [(s.epochs, s.max_lr, s.body_lr_ratio) for s in stages(method, "esc50")]

    assert rates("control") == rates("resize")


def test_epochs_times_rate_differs_between_methods_as_the_protocol_computed() -> None:
    def dose(method: str, dataset: str) -> float:
        return sum(stage.epochs * stage.max_lr for stage in stages(method, dataset))

    assert dose("mel", "urbansound8k") / dose("baseline", "urbansound8k") == pytest.approx(
        2.1, abs=0.01
    )
    assert dose("mel", "esc50") / dose("baseline", "esc50") == pytest.approx(2.95, abs=0.01)


def test_esc10_has_the_rates_of_esc50_without_a_warning() -> None:
    assert stages("mel", "esc10") == stages("mel", "esc50")
    assert rates_warning("esc10") is None


def test_another_dataset_has_the_rates_of_esc50_and_says_so() -> None:
    assert stages("mel", "birds") == stages("mel", "esc50")
    assert "'birds'" in (rates_warning("birds") or "")


@pytest.mark.parametrize(
    ("scale", "epochs"),
    [
        (1, [20, 50, 120]),
        (0.1, [2, 5, 12]),
        (0.125, [3, 6, 15]),
        (1e-9, [1, 1, 1]),
        (2, [40, 100, 240]),
    ],
)
def test_scaling_rounds_and_leaves_every_stage_an_epoch(scale: float, epochs: list[int]) -> None:
    assert [stage.epochs for stage in stages("baseline", "esc50", scale)] == epochs


def test_unknown_method_is_told_with_those_there_are_and_the_nearest() -> None:
    with pytest.raises(UnknownMethodError, match=r"'rezise'.*baseline.*did you mean 'resize'"):
        stages("rezise", "esc50")
