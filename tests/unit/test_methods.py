import math
import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ResizeOperator, Stage, Variant
from trainer.errors import ConfigError, UnknownMethodError
from trainer.methods import (
    LEAST_SCALE,
    METHODS,
    find_method,
    scale_warning,
    scaled_epochs,
)
from trainer.methods import stages as stages_of
from trainer.recipes import rates_warning

TRAINING = (Path(__file__).parents[2] / "docs/howto/train.md").read_text()

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


def stages(method: str, dataset: str, epochs_scale: float = 1.0) -> tuple[Stage, ...]:
    return stages_of(find_method(method), dataset, epochs_scale)


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
    assert rates_warning(find_method("mel").cycles, "esc10") is None


def test_another_dataset_has_the_rates_of_esc50_and_says_so() -> None:
    assert stages("mel", "birds") == stages("mel", "esc50")
    assert "'birds'" in (rates_warning(find_method("mel").cycles, "birds") or "")


@pytest.mark.parametrize(
    ("scale", "epochs"),
    [
        (1, [20, 50, 120]),
        (0.1, [2, 5, 12]),
        (0.125, [3, 6, 15]),
        (1e-9, [1, 2, 4]),
        (2, [40, 100, 240]),
    ],
)
def test_scaling_rounds_and_leaves_every_stage_an_epoch(scale: float, epochs: list[int]) -> None:
    assert [stage.epochs for stage in stages("baseline", "esc50", scale)] == epochs


@pytest.mark.parametrize("scale", [1e-9, 0.02, 0.035, 0.036, 0.05, 0.1, 0.33, 0.5, 1, 1.7])
def test_scaling_keeps_the_ratio_of_epochs_between_methods(scale: float) -> None:
    progressive = sum(stage.epochs for stage in stages("mel", "esc50", scale))
    baseline = sum(stage.epochs for stage in stages("baseline", "esc50", scale))
    wanted = 190 / 170 * progressive
    assert abs(baseline - wanted) <= 1.12, "both sums are rounded, each by half an epoch"
    assert baseline >= progressive
    if scale <= 0.035:
        assert (baseline, progressive) == (7, 6)


@given(
    epochs=st.lists(st.integers(1, 200), min_size=1, max_size=8),
    scale=st.floats(1e-6, 3),
)
def test_scaling_moves_no_stage_by_an_epoch_or_more_but_to_keep_one(
    epochs: list[int], scale: float
) -> None:
    found = scaled_epochs(epochs, scale)
    total = sum(found)
    assert min(found) >= 1
    assert total == max(len(epochs), math.floor(sum(epochs) * max(scale, LEAST_SCALE) + 0.5))
    shares = [total * part / sum(epochs) for part in epochs]
    raised = sum(max(0.0, 1 - share) for share in shares)
    for count, share in zip(found, shares, strict=True):
        assert count < share + 1 + 1e-9
        assert count > share - 1 - raised - 1e-9
    if scale == 1:
        assert found == epochs


def test_the_whole_schedule_is_not_scaled() -> None:
    for cycles in METHODS.values():
        epochs = [cycle.epochs for cycle in cycles]
        assert scaled_epochs(epochs, 1.0) == epochs


def test_a_scale_that_is_too_small_for_a_ratio_is_warned_of() -> None:
    assert LEAST_SCALE == 6 / 170
    assert scale_warning(LEAST_SCALE) is None
    assert "0.0353" in (scale_warning(0.02) or "")


@given(
    epochs=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    scale=st.floats(1e-6, 2),
)
def test_a_schedule_that_its_stages_make_longer_than_asked_for_is_warned_of(
    epochs: list[int], scale: float
) -> None:
    longer = sum(scaled_epochs(epochs, scale)) > sum(epochs) * max(scale, LEAST_SCALE) + 0.5
    assert ("one per stage" in (scale_warning(scale, epochs) or "")) == longer


def test_unknown_method_is_told_with_those_there_are_and_the_nearest() -> None:
    with pytest.raises(UnknownMethodError, match=r"'rezise'.*baseline.*did you mean 'resize'"):
        stages("rezise", "esc50")


def rates_and_epochs(method: str) -> list[tuple[int, float, float]]:
    return [(s.epochs, s.max_lr, s.body_lr_ratio) for s in stages(method, "urbansound8k")]


@pytest.mark.parametrize(
    ("method", "arrays"),
    [
        ("mel-bands", ["R1/mel-bands", "R2/mel-bands", "R3/full"]),
        ("mel-time", ["R1/mel-time", "R2/mel-time", "R3/full"]),
        ("alternate", ["R1/mel", "R2/mel", "R3/full"]),
    ],
)
def test_the_ablations_have_the_progressive_schedule_over_other_arrays(
    method: str, arrays: list[str]
) -> None:
    found = stages(method, "urbansound8k")
    assert [stage.array for stage in found] == [array for array in arrays for _ in range(2)]
    assert rates_and_epochs(method) == rates_and_epochs("resize")


def test_alternate_shows_both_methods_images_in_turn_but_for_the_one_they_share() -> None:
    seconds = [stage.alternate for stage in stages("alternate", "esc50")]
    assert seconds == ["R1/resize", "R1/resize", "R2/resize", "R2/resize", None, None]
    others = [s.alternate for m in METHODS if m != "alternate" for s in stages(m, "esc50")]
    assert set(others) == {None}


@pytest.mark.parametrize("method", ["mel", "resize", "control"])
def test_matched_has_the_baselines_190_epochs_all_20_more_in_the_last_stage(method: str) -> None:
    plain, matched = stages(method, "esc50"), stages(f"{method}-matched", "esc50")
    assert sum(stage.epochs for stage in stages("baseline", "esc50")) == 190
    assert [stage.epochs for stage in matched] == [20, 20, 20, 20, 20, 90]
    assert matched[:-1] == plain[:-1]
    assert matched[-1] == plain[-1].model_copy(update={"epochs": 90})


@pytest.mark.parametrize("operator", get_args(ResizeOperator))
@pytest.mark.parametrize("method", ["resize", "resize-matched", "alternate"])
def test_another_operator_takes_its_own_arrays_and_is_in_the_name(
    method: str, operator: ResizeOperator
) -> None:
    plain, other = find_method(method), find_method(method, resize_operator=operator)
    if operator == "bilinear":
        assert other == plain
        return
    assert other.name == f"{method}-{operator}"
    assert f"resize-{operator}" in get_args(Variant)
    for before, after in zip(plain.cycles, other.cycles, strict=True):
        for field in ("array", "alternate"):
            array, expected = getattr(after, field), getattr(before, field)
            resized = expected is not None and expected.endswith("/resize")
            assert array == (f"{expected}-{operator}" if resized else expected)
    assert other.cycles != plain.cycles


def test_an_operator_needs_a_method_that_resizes() -> None:
    with pytest.raises(ConfigError, match="'mel' uses no resized image; resize, alternate, "):
        find_method("mel", resize_operator="area")


def written(folder: Path, text: str) -> Path:
    file = folder / "methods.yaml"
    file.write_text(text)
    return file


OWN = """
two-steps:
- {array: R1/resize, epochs: 30, max_lr: {urbansound8k: 1e-2, esc50: 5e-3}}
- {array: R3/full, alternate: R3/other, epochs: 60, max_lr: 1e-4, body_lr_ratio: 0.5}
"""


def test_ones_own_methods_are_read_scaled_and_resized_like_ours(tmp_path: Path) -> None:
    method = find_method("two-steps", written(tmp_path, OWN), "area")
    assert method.name == "two-steps-area"
    assert stages_of(method, "urbansound8k", 0.1) == (
        Stage(array="R1/resize-area", epochs=3, max_lr=0.01),
        Stage(array="R3/full", alternate="R3/other", epochs=6, max_lr=1e-4, body_lr_ratio=0.5),
    )
    assert stages_of(method, "esc10")[0].max_lr == 5e-3
    assert find_method("mel", tmp_path / "methods.yaml") == find_method("mel")
    with pytest.raises(UnknownMethodError, match="did you mean 'two-steps'"):
        find_method("two-step", tmp_path / "methods.yaml")


def test_rates_of_other_datasets_are_escs_with_a_warning_or_refused(tmp_path: Path) -> None:
    text = "a: [{array: R1/mel, epochs: 1, max_lr: 1}]\n" + OWN.replace("esc50: ", "birds: ")
    one, two = (find_method(name, written(tmp_path, text)) for name in ("a", "two-steps"))
    assert rates_warning(one.cycles, "whales") is None
    assert rates_warning(two.cycles, "birds") is None
    assert stages_of(two, "birds")[0].max_lr == 5e-3
    with pytest.raises(ConfigError, match="'two-steps', stage 1: max_lr has no value for 'whales'"):
        stages_of(two, "whales")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [{array: R1/mel, epochs: 0, max_lr: 1}]", "a, stage 1, epochs: "),
        ("a: [{array: R1/mel, epochs: 2.5, max_lr: 1}]", "a, stage 1, epochs: "),
        ("a: [{array: R1/mel, epochs: 1}]", "a, stage 1, max_lr: is missing"),
        ("a: [{array: R1, epochs: 1, max_lr: 1}]", "a, stage 1, array: "),
        ("a: [{array: R1/a, epochs: 1, max_lr: 0}]", "a, stage 1, max_lr: expected a number above"),
        ("a: [{array: R1/a, epochs: 1, max_lr: {esc50: fast}}]", "max_lr: expected a number above"),
        ("a: [{array: R1/a, epochs: 1, max_lr: {}}]", "max_lr: expected a number above"),
        ("a: [{array: R1/a, epochs: 1, max_lr: .inf}]", "max_lr: expected a number above"),
        ("a: [{array: R1/a, epochs: 1, max_lr: 1, body_lr_ratio: 2}]", "stage 1, body_lr_ratio: "),
        ("a: [{array: R1/a, epochs: 1, max_lr: 1, epoch: 2}]", "no field 'epoch'; there are: arr"),
        ("a: []", "a: "),
        ("a: R1/mel", "a: "),
        ("a b: [{array: R1/mel, epochs: 1, max_lr: 1}]", "a b: String should match"),
        ("resize: [{array: R1/mel, epochs: 1, max_lr: 1}]", "resize: is a method already"),
        ("resize-area: [{array: R1/mel, epochs: 1, max_lr: 1}]", "resize-area: is a method alre"),
        ("{}", "expected the names of methods"),
        ("- a", "expected the names of methods"),
        ("", "expected the names of methods"),
        ("a: [", "is no YAML"),
    ],
)
def test_a_mistake_in_a_methods_file_is_one_line_with_method_stage_and_field(
    tmp_path: Path, text: str, told: str
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        find_method("a", file)
    assert str(caught.value).startswith(f"{file}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mel", "mel: is a method already"),
        ("resize-area", "resize-area: is a method already"),
        ("../x", "own_methods: ../x: String should match"),
    ],
)
def test_methods_given_from_python_have_names_of_their_own_as_in_a_file(
    name: str, told: str
) -> None:
    own = {name: METHODS["baseline"]}
    with pytest.raises(ConfigError, match=re.escape(told)):
        find_method(name, own=own)
    assert find_method("x", own={"x": METHODS["baseline"]}).cycles == METHODS["baseline"]


def test_a_methods_file_that_is_missing_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: does not exist"):
        find_method("mel", tmp_path / "absent.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"x\.yaml: is no YAML"):
        find_method("mel", tmp_path / "x.yaml")


def test_the_documentations_methods_file_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n# methods.yaml\n(.*?)^```", TRAINING, re.MULTILINE | re.DOTALL)
    method = find_method("long-small", written(tmp_path, text))
    assert len(stages_of(method, "esc50")) == len(method.cycles) > 1
    assert rates_warning(method.cycles, "urbansound8k") is None
    assert all(name in TRAINING for name in METHODS)
