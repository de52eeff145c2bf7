import pytest

from featurestore import open_store
from featurestore.errors import UnknownNameError
from tests.integration.trainer_store import (
    lonely_class_store,
    one_fold_store,
    tiny_plan,
    tiny_store,
)
from trainer.errors import ConfigError, DataError, UnknownMethodError
from trainer.plan import Options, plan_run


def test_all_folds_are_planned_by_default() -> None:
    _, plan = tiny_plan(folds=())
    assert plan.config.folds == (1, 2, 3)
    assert sum(plan.num_train.values()) == 2 * 143


def test_what_the_config_does_not_say_is_the_papers() -> None:
    plan = plan_run(open_store(tiny_store()), Options("baseline"))
    assert (plan.config.batch_size, plan.config.weight_decay) == (64, 0.1)
    assert (plan.config.arch, sum(stage.epochs for stage in plan.config.stages)) == (
        "resnet34",
        190,
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "rezise"}, UnknownMethodError, "did you mean 'resize'"),
        ({"folds": (7,)}, UnknownNameError, "fold 7.*1, 2, 3"),
        ({"folds": (1, 1)}, ConfigError, "folds repeat"),
        ({"batch_size": 1}, ConfigError, "batch_size 1"),
        ({"seed": -1}, ConfigError, "seed -1"),
        ({"epochs_scale": 0.0}, ConfigError, "epochs_scale 0.0"),
        ({"epochs_scale": 1e9}, ConfigError, "epochs_scale"),
        ({"epochs_scale": float("nan")}, ConfigError, "epochs_scale nan"),
        ({"epochs_scale": float("inf")}, ConfigError, "epochs_scale inf"),
        ({"arch": "vgg"}, ConfigError, "arch 'vgg'"),
    ],
)
def test_what_cannot_be_done_is_told(
    options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tiny_plan(**options)


def test_one_fold_is_too_few() -> None:
    with pytest.raises(DataError, match="one fold only"):
        plan_run(open_store(one_fold_store()), Options("baseline"))


def test_a_class_that_is_never_trained_on_is_told_with_its_fold() -> None:
    dataset = open_store(lonely_class_store())
    with pytest.raises(DataError, match=r"fold 2: every clip of low"):
        plan_run(dataset, Options("baseline"))
    assert plan_run(dataset, Options("baseline", folds=(1,))).config.folds == (1,)
