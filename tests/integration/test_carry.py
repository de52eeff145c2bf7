"""The network that each stage starts from and the one reported, seen in real runs."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision

from featurestore import StoredDataset
from schemas import EpochMetrics, RunConfig
from tests.integration.reported_runs import section_of
from tests.integration.test_trainer_run import read_metrics
from tests.integration.trainer_runs import as_older
from tests.integration.trainer_store import sounds, tiny_plan
from trainer.api import predict
from trainer.cli import main
from trainer.config import ExecutionOptions
from trainer.errors import ConfigError, TrainerWarning
from trainer.plan import Plan
from trainer.records.checkpoint import Checkpoint, load_checkpoint, load_state
from trainer.records.rundir import RunDirectory
from trainer.report.browsed import browsed_runs
from trainer.run import begin, resume, run
from trainer.selection import carried_epoch, reported_epoch
from trainer.training.events import EpochDone, Event

STILL = 1e-30
"""A learning rate so low that no weight moves: what a stage ends with is what it began with."""
LEARNING, FORGETTING = (5, 1e-2), (1, 0.5)
"""Epochs and learning rate of a stage after which half of the clips are recognised, or few."""
OFTEN = ExecutionOptions(save_every_s=0)


def three_stages(**options: object) -> tuple[StoredDataset, Plan]:
    """Two epochs each at R1, R2 and R3, of which only the first stage moves a weight."""
    dataset, plan = tiny_plan(**options)
    stages = tuple(
        stage.model_copy(update={"epochs": 2, "max_lr": max_lr})
        for stage, max_lr in zip(plan.config.stages[::2], (1e-2, STILL, STILL), strict=True)
    )
    return dataset, replace(plan, config=plan.config.model_copy(update={"stages": stages}))


def on_first_array(*stages: tuple[int, float], **options: object) -> tuple[StoredDataset, Plan]:
    """Stages of so many epochs at a learning rate each, all on the method's first array."""
    dataset, plan = tiny_plan(**options)
    first = plan.config.stages[0]
    changed = tuple(first.model_copy(update={"epochs": n, "max_lr": lr}) for n, lr in stages)
    return dataset, replace(plan, config=plan.config.model_copy(update={"stages": changed}))


def networks_of(out: Path, dataset: StoredDataset, plan: Plan) -> dict[int, Checkpoint]:
    """Train; return the network after each epoch."""
    after: dict[int, Checkpoint] = {}

    def watch(event: Event) -> None:
        if isinstance(event, EpochDone):
            after[event.metrics.epoch] = load_state(out / "fold1/state.pt").last

    run(dataset, plan, out, watch, OFTEN)
    return after


def same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether the parameters agree; the running means of normalisation follow the images."""
    names = [name for name in one.model if "running" not in name and "num_batches" not in name]
    return all(torch.allclose(one.model[n], other.model[n], rtol=0, atol=1e-20) for n in names)


OTHERS = [pytest.param(carry, marks=pytest.mark.slow) for carry in ("run", "last")]


@pytest.mark.parametrize("carry", ["stage", *OTHERS])
def test_each_stage_starts_from_the_network_that_its_rule_carries(
    carry: str, tmp_path: Path
) -> None:
    dataset, plan = three_stages(carry=carry)
    after = networks_of(tmp_path / "run", dataset, plan)
    rows = read_metrics(tmp_path / "run")
    moving = after[1], after[2]
    assert not same_weights(*moving)
    for done in (2, 4):
        start = carried_epoch(rows[:done], plan.config)
        assert same_weights(after[done + 1], after[start.epoch])


@pytest.mark.parametrize(
    "best_of", ["array", *(pytest.param(rule, marks=pytest.mark.slow) for rule in ("stage", "run"))]
)
def test_the_reported_network_is_of_the_epochs_that_its_rule_counts(
    best_of: str, tmp_path: Path
) -> None:
    dataset, plan = three_stages(best_of=best_of)
    (fold,) = run(dataset, plan, tmp_path / "run").folds
    picked = reported_epoch(read_metrics(tmp_path / "run"), plan.config)
    assert picked is not None
    assert (fold.best_epoch, fold.best_array) == (picked.epoch, picked.array)
    saved = json.loads((tmp_path / "run/fold1/fold.json").read_bytes())
    assert saved["best_array"] == picked.array
    best = load_checkpoint(tmp_path / "run/fold1/best.pt")
    assert (best.epoch, best.array) == (picked.epoch, picked.array)
    if best_of != "run":
        assert picked.array == "R3/full"


def test_a_best_network_of_smaller_images_is_told_wherever_it_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, plan = three_stages(best_of="run")
    place, out = tmp_path / "run", tmp_path / "e"
    (fold,) = run(dataset, plan, place).folds
    assert fold.best_array == "R1/resize", "else this shows nothing"
    told = "those of the last stage, R3/full: R1/resize (fold 1)"
    assert main(["evaluate", "--run", str(place), "--out", str(out)]) == 0
    assert main(["interpret", str(place), "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert told in " ".join(shown.out.split())
    assert told in " ".join(shown.err.split())
    line = ["export", "--run", str(place), "--fold", "1", "--format", "torch-export"]
    assert main([*line, "--out", str(tmp_path / "n.pt2")]) == 0
    assert told in " ".join(capsys.readouterr().err.split())
    with pytest.warns(TrainerWarning, match=re.escape(told)):
        predictions = predict(place, next(sounds().rglob("*.wav")), progress=False)
    assert told in " ".join(predictions.warnings)
    assert told in " ".join(browsed_runs([place])["runs"][0]["notes"])
    assert "resize: reported networks by array: R1/resize 1." in section_of(place).warnings
    assert main(["evaluate", "--run", str(place), "--out", str(out), "--checkpoint", "last"]) == 0
    assert told not in " ".join(capsys.readouterr().out.split())


def test_a_better_epoch_takes_the_place_of_the_best(tmp_path: Path) -> None:
    dataset, plan = on_first_array(LEARNING, batch_size=8, seed=1)
    (fold,) = run(dataset, plan, tmp_path / "run").folds
    picked = reported_epoch(read_metrics(tmp_path / "run"), plan.config)
    assert picked is not None
    assert picked.epoch > 1, "else this shows nothing"
    assert load_checkpoint(tmp_path / "run/fold1/best.pt").epoch == fold.best_epoch == picked.epoch


def test_every_method_starts_from_the_same_network(tmp_path: Path) -> None:
    networks = []
    for method in ("baseline", "mel"):
        dataset, plan = on_first_array((1, STILL), method=method)
        run(dataset, plan, tmp_path / method)
        networks.append(load_checkpoint(tmp_path / method / "fold1/last.pt"))
    assert same_weights(*networks)


def test_by_default_a_stage_carries_its_best_epoch_and_the_last_array_is_reported() -> None:
    config = tiny_plan()[1].config
    assert (config.carry, config.best_of) == ("stage", "array")
    unpicked = tiny_plan(selection="last")[1].config
    assert unpicked.carry == "last"


@pytest.mark.parametrize("carry", ["stage", "run"])
def test_the_best_cannot_be_carried_where_nothing_is_picked(carry: str) -> None:
    with pytest.raises(ConfigError, match="no epoch is the best"):
        tiny_plan(selection="last", carry=carry)


class _StoppedError(Exception):
    pass


def test_a_run_begun_by_the_older_rule_is_finished_by_it(tmp_path: Path) -> None:
    dataset, plan = three_stages(carry="run", best_of="run")
    whole = run(dataset, plan, tmp_path / "whole")

    def stop(event: Event) -> None:
        if isinstance(event, EpochDone) and event.metrics.epoch == 3:
            raise _StoppedError

    out = tmp_path / "stopped"
    begin(dataset, plan, out)
    with pytest.raises(_StoppedError):
        resume(dataset, out, stop, OFTEN)
    written_without_rules(out)
    config = RunDirectory(out).record().config
    assert (config.carry, config.best_of) == ("run", "run")
    resumed = resume(dataset, out)
    assert resumed is not None
    assert [numbers(row) for row in read_metrics(out)] == [
        numbers(row) for row in read_metrics(tmp_path / "whole")
    ]
    assert resumed.folds[0].best_epoch == whole.folds[0].best_epoch
    for name in ("best.pt", "last.pt"):
        ours, theirs = (load_checkpoint(p / "fold1" / name) for p in (out, tmp_path / "whole"))
        assert all(torch.equal(ours.model[key], theirs.model[key]) for key in theirs.model)


def written_without_rules(out: Path) -> None:
    """Change a run's directory to what a version wrote that had one rule."""
    record = json.loads((out / "run.json").read_bytes())
    for name in ("carry", "best_of"):
        del record["config"][name]
    (out / "run.json").write_text(json.dumps(record))
    as_older(out)
    values = torch.load(out / "fold1/state.pt", weights_only=True)
    del values["carried"]
    for network in filter(None, (values["last"], values["best"])):
        config = RunConfig.model_validate_json(network["config"])
        network["config"] = config.model_dump_json(exclude={"carry", "best_of"})
    (out / "fold1/state.pt").unlink()
    torch.save(values, out / "fold1/state.pt")


def numbers(row: EpochMetrics) -> dict[str, object]:
    return row.model_dump(exclude={"seconds", "samples_per_s", "wait_share"})


OF_RESNET18 = {"arch": "resnet18", "layer_groups": 3, "first_conv": "red-frozen"}


@pytest.mark.parametrize(
    "pieces", [{}, pytest.param(OF_RESNET18, marks=pytest.mark.slow)], ids=["alone", "with more"]
)
def test_carried_moments_survive_a_stop_to_the_bit(
    pieces: dict[str, object], tmp_path: Path
) -> None:
    dataset, plan = tiny_plan(moments="carried", **pieces)
    stages = tuple(
        stage.model_copy(update={"epochs": 2 if number == 0 else 1, "max_lr": 1e-3})
        for number, stage in enumerate(plan.config.stages[::3])
    )
    plan = replace(plan, config=plan.config.model_copy(update={"stages": stages}))
    run(dataset, plan, tmp_path / "whole")
    out = tmp_path / "stopped"
    begin(dataset, plan, out)

    def stop(event: Event) -> None:
        if isinstance(event, EpochDone) and event.metrics.epoch == 2:
            raise _StoppedError

    with pytest.raises(_StoppedError):
        resume(dataset, out, stop)
    assert load_state(out / "fold1/state.pt").moments is not None
    resume(dataset, out)
    fresh = replace(plan, config=plan.config.model_copy(update={"moments": "fresh"}))
    run(dataset, fresh, tmp_path / "fresh")
    last = [
        load_checkpoint(tmp_path / name / "fold1/last.pt").model
        for name in ("whole", "stopped", "fresh")
    ]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])
    assert not torch.equal(last[0]["head.2.weight"], last[2]["head.2.weight"])


@pytest.mark.slow
def test_the_moments_that_a_stage_takes_over_are_of_the_network_that_it_starts_from(
    tmp_path: Path,
) -> None:
    dataset, plan = on_first_array(
        LEARNING, FORGETTING, (1, STILL), batch_size=8, seed=1, moments="carried", carry="run"
    )
    steps: dict[int, int] = {}

    def watch(event: Event) -> None:
        if isinstance(event, EpochDone):
            moments = load_state(tmp_path / "run/fold1/state.pt").stage.optimizer["state"]
            steps[event.metrics.epoch] = int(moments[0]["step"])

    run(dataset, plan, tmp_path / "run", watch, OFTEN)
    start = carried_epoch(read_metrics(tmp_path / "run")[:6], plan.config)
    assert start.stage == 1, "else this shows nothing"
    assert steps[7] == steps[6] == steps[start.epoch] + steps[1]


@pytest.mark.parametrize(("first_conv", "warns"), [("red-frozen", True), ("sum", False)])
def test_a_first_convolution_that_stays_random_is_warned_of(
    first_conv: str, warns: bool, tmp_path: Path
) -> None:
    """As where ImageNet's weights are unavailable, and `--init auto` falls back."""
    dataset, plan = tiny_plan(arch="resnet18", first_conv=first_conv)
    begin(dataset, plan, tmp_path / "run")
    warnings = RunDirectory(tmp_path / "run").record().warnings
    assert any("first convolution is frozen" in text for text in warnings) == warns
    weights = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    dataset, plan = tiny_plan(arch="resnet18", first_conv=first_conv, init=str(weights))
    begin(dataset, plan, tmp_path / "other")
    assert "frozen" not in " ".join(RunDirectory(tmp_path / "other").record().warnings)
