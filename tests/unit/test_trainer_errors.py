import inspect
import pickle
from pathlib import Path

import pytest

from featurestore.text import did_you_mean
from schemas import Stage
from trainer import errors
from trainer.config import ExecutionOptions, checked
from trainer.errors import ConfigError, TrainerError, diverged

STAGE = Stage(array="R1/mel", epochs=2, max_lr=0.01)
CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, TrainerError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_pickling(kind: type[TrainerError]) -> None:
    error = kind("what happened")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_in_the_tree(kind: type[TrainerError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")


def test_divergence_names_fold_stage_epoch_rates_and_what_was_kept() -> None:
    text = str(diverged(3, 2, STAGE, 21, (4e-4, 0.0021), Path("runs/x/fold3/last.pt")))
    for part in (
        "fold 3",
        "stage 2",
        "R1/mel",
        "λ 0.01",
        "epoch 21",
        "λ was between 0.0004 and 0.0021",
        "runs/x/fold3/last.pt",
    ):
        assert part in text
    alone = str(diverged(1, 1, STAGE, 1, (0.01, 0.01), None))
    assert "no epoch was finished" in alone
    assert "λ was 0.01;" in alone


def test_only_what_is_near_is_suggested() -> None:
    assert "did you mean 'mel'" in did_you_mean("mle", ["mel", "resize"])
    assert did_you_mean("xyz", ["mel", "resize"]) == ""


@pytest.mark.parametrize(("given", "meant"), [("ram", ""), ("hots", "host"), ("steam", "stream")])
def test_a_choice_is_suggested_for_a_typing_mistake_only(given: str, meant: str) -> None:
    with pytest.raises(ConfigError, match="expected 'auto', 'device', 'host' or 'stream'") as error:
        checked(ExecutionOptions, "train", {"placement": given})
    assert str(error.value).endswith(f"; did you mean {meant!r}?" if meant else "'stream'")
