"""A run's directory vouches for itself: no flipped bit and no plausible edit is believed."""

import csv
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from featurestore import open_store
from schemas import RunRecord, RunResult
from tests.integration.reported_runs import make_run, seal
from tests.integration.test_resume import OFTEN, short_plan, stop_at
from tests.integration.trainer_runs import copied, finished_run, older_run, rewrite
from tests.integration.trainer_store import sounds, tiny_store
from trainer.cli import main
from trainer.errors import CheckpointError, TrainerError
from trainer.records.checkpoint import check_is_of
from trainer.records.finished import open_finished
from trainer.records.rundir import RECORD, RunDirectory
from trainer.report.series import read_run
from trainer.run import begin, resume
from trainer.safefiles import write_sealed
from trainer.training.events import EpochDone, Event, Warned

JSON = ("run.json", "result.json", "fold1/fold.json", "fold2/fold.json")
CSV = tuple(f"fold{k}/{name}.csv" for k in (1, 2) for name in ("metrics", "best", "last"))
NETWORKS = tuple(f"fold{k}/{name}.pt" for k in (1, 2) for name in ("best", "last"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return copied(finished_run(), tmp_path / "run")


def flipped(data: bytes, chance: random.Random) -> bytes:
    bit = chance.randrange(8 * len(data))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def everything(run: Path, networks: bool = False) -> str:
    """All that a run says, or the line that refuses to say it."""
    try:
        found = open_finished(run)
        found.verify(networks)
    except TrainerError as error:
        return str(error)
    return f"believed: {found.record!r} {found.result!r}"


@pytest.mark.parametrize("name", [*JSON, *CSV, *NETWORKS])
def test_a_flipped_bit_in_any_file_is_refused_by_its_name_or_says_the_same(
    name: str, run: Path
) -> None:
    chance, whole = random.Random(name), (run / name).read_bytes()  # noqa: S311
    said, networks = everything(run), name in NETWORKS
    for _ in range(20 if len(whole) < 100_000 else 1):
        rewrite(run / name, flipped(whole, chance))
        found = everything(run, networks)
        assert "\n" not in found
        assert name in found or found == said  # white space of a JSON file may change
    assert said.startswith("believed")


@pytest.mark.parametrize("name", [*JSON, *CSV, *NETWORKS])
def test_a_file_that_is_missing_cut_or_empty_is_refused(name: str, run: Path) -> None:
    whole = (run / name).read_bytes()
    for data in (b"", whole[:-40], whole[: len(whole) // 2]):
        rewrite(run / name, data)
        assert name in everything(run, name in NETWORKS)
    (run / name).unlink()
    assert name in everything(run, name in NETWORKS)


def in_json(name: str, **changes: Any) -> Callable[[Path], object]:
    """Change fields, named by their path with `__` between its parts."""

    def edit(run: Path) -> None:
        content = json.loads((run / name).read_bytes())
        for path, value in changes.items():
            *parents, last = path.split("__")
            place = content
            for parent in parents:
                place = place[int(parent) if parent.isdigit() else parent]
            place[last] = value(place[last]) if callable(value) else value
        rewrite(run / name, json.dumps(content).encode())

    return edit


def in_csv(name: str, change: Callable[[list[list[str]]], object]) -> Callable[[Path], object]:
    def edit(run: Path) -> None:
        rows = list(csv.reader(io.StringIO((run / name).read_text())))
        change(rows)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        rewrite(run / name, text.getvalue().encode())

    return edit


def swapped(one: str, other: str) -> Callable[[Path], object]:
    def edit(run: Path) -> None:
        first, second = (run / one).read_bytes(), (run / other).read_bytes()
        rewrite(run / one, second)
        rewrite(run / other, first)

    return edit


def put(row: int, column: int, value: str) -> Callable[[list[list[str]]], object]:
    return lambda rows: rows[row].__setitem__(column, value)


def repeat(rows: list[list[str]]) -> None:
    rows[2] = rows[1]


def swap_classes(rows: list[list[str]]) -> None:
    rows[0][2:] = name_swap(rows[0][2:])


def scale(rows: list[list[str]]) -> None:
    rows[3][2:] = [str(float(value) / 2) for value in rows[3][2:]]


def name_swap(names: list[str]) -> list[str]:
    return [names[1], names[0], *names[2:]]


def twice(folds: list[Any]) -> list[Any]:
    return [*folds, folds[0]]


OTHER_NETWORKS = swapped("fold1/best.pt", "fold2/best.pt")
EDITS: dict[str, tuple[Callable[[Path], object], bool]] = {
    "a better result": (in_json("result.json", folds__0__best_accuracy=0.99), True),
    "a better fold": (in_json("fold1/fold.json", best_accuracy=0.99), False),
    "another hop length": (in_json("run.json", features__hop_length=lambda hop: 2 * hop), False),
    "another extractor": (in_json("run.json", extractor_version=99), True),
    "class names in another order": (in_json("run.json", class_names=name_swap), True),
    "another seed": (in_json("run.json", config__seed=7), True),
    "another seed in the result": (in_json("result.json", config__seed=7), True),
    "another method": (in_json("result.json", config__method="mel"), True),
    "another store": (in_json("run.json", fingerprint="0" * 64), True),
    "a fold twice": (in_json("result.json", folds=twice), True),
    "a fold less": (in_json("result.json", folds=lambda folds: folds[:1]), True),
    "another fold": (in_json("result.json", folds__0__fold=3), True),
    "fewer clips": (in_json("result.json", folds__0__num_test=7), True),
    "another best epoch": (in_json("result.json", folds__0__best_epoch=lambda n: 3 - n), True),
    "another last epoch": (in_json("result.json", folds__0__last_epoch=1), True),
    "a schedule cut short": (in_json("run.json", config__stages=lambda all: all[:1]), True),
    "a row less": (in_csv("fold1/best.csv", lambda rows: rows.pop()), True),
    "a row twice": (in_csv("fold1/best.csv", lambda rows: rows.append(rows[1])), True),
    "a row for another": (in_csv("fold1/best.csv", repeat), True),
    "probabilities halved": (in_csv("fold1/best.csv", scale), True),
    "a probability below 0": (in_csv("fold1/last.csv", put(1, 2, "-1")), True),
    "NaN": (in_csv("fold1/last.csv", put(1, 2, "nan")), True),
    "classes in another order": (
        in_csv("fold1/best.csv", swap_classes),
        True,
    ),
    "a label out of range": (in_csv("fold1/best.csv", put(1, 1, "9")), True),
    "an epoch less": (in_csv("fold1/metrics.csv", lambda rows: rows.pop()), True),
    "epochs in another order": (in_csv("fold1/metrics.csv", lambda rows: rows.reverse()), True),
    "a better epoch": (
        in_csv("fold1/metrics.csv", lambda rows: [row.__setitem__(7, "0.5") for row in rows[1:]]),
        False,
    ),
    "another array": (in_csv("fold1/metrics.csv", put(1, 3, "R2/mel")), True),
    "networks of another fold": (OTHER_NETWORKS, True),
    "answers of another fold": (swapped("fold1/best.csv", "fold2/best.csv"), False),
    "metrics of another fold": (swapped("fold1/metrics.csv", "fold2/metrics.csv"), True),
    "a record of another fold": (swapped("fold1/fold.json", "fold2/fold.json"), False),
    "the digest lost": (in_json("result.json", sha256=None), False),
}  # fmt: skip
"""Edits, and whether each is found without digests, too, because other files contradict it."""


@pytest.mark.parametrize("edit", [edit for edit, _ in EDITS.values()], ids=EDITS)
def test_a_plausible_edit_is_refused_in_one_line(edit: Callable[[Path], object], run: Path) -> None:
    edit(run)
    said = everything(run) if edit is not OTHER_NETWORKS else everything(run, networks=True)
    assert said.startswith(str(run))
    assert "\n" not in said


@pytest.mark.parametrize(
    "edit", [edit for edit, known in EDITS.values() if known], ids=[n for n in EDITS if EDITS[n][1]]
)
def test_without_digests_what_is_said_twice_still_finds_it(
    edit: Callable[[Path], object], tmp_path: Path
) -> None:
    run = copied(older_run(), tmp_path / "run")
    edit(run)
    said = everything(run) if edit is not OTHER_NETWORKS else everything(run, networks=True)
    assert said.startswith(str(run)) or "extractor_version=99" in said
    if "extractor_version=99" in said:
        assert main(["predict", "--run", str(run), "x.wav"]) == 1


@pytest.mark.parametrize("epoch", [0, 1, 99])
def test_a_run_that_picks_no_epoch_has_no_best_one(epoch: int, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "mel", {1: 70.0}, selection="last")
    assert everything(run, networks=False).startswith("believed")
    in_json("result.json", folds__0__best_epoch=epoch)(run)
    assert f"fold 1 cannot have {epoch} as its best epoch" in everything(seal(run))


def test_an_edit_with_a_new_digest_of_its_own_is_refused_by_the_record_above_it(run: Path) -> None:
    before = {name: (run / name).read_bytes() for name in JSON}
    in_json("run.json", features__hop_length=lambda hop: 2 * hop)(run)
    seal(run)
    for name in ("result.json", "fold1/fold.json", "fold2/fold.json"):
        rewrite(run / name, before[name])
    assert "run.json: is damaged or was changed" in everything(run)
    seal(run)  # and now all records: the networks know what they saw
    assert "fold1/best.pt: is not of this run, it differs in: features" in everything(
        run, networks=True
    )


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[list[list[str]]]:
    """Every command that reads a run, of the run `run`."""
    run, other = str(tmp_path / "run"), str(copied(finished_run(), tmp_path / "other"))
    sound = str(next(sounds().rglob("*.wav")))
    yield [
        ["predict", "--run", run, sound],
        ["evaluate", "--run", run, "--out", str(tmp_path / "evaluation")],
        ["ensemble", run, other, "--out", str(tmp_path / "ensemble")],
        ["report", run, "--out", str(tmp_path / "report")],
        ["export", "--run", run, "--fold", "1", "--format", "torch-export"],
        ["run", "--resume", run],
    ]
    shutil.rmtree(other)


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (in_json("run.json", features__hop_length=lambda hop: 2 * hop), "run.json"),
        (in_json("result.json", folds__0__best_accuracy=0.99), "result.json"),
    ],
)
def test_every_command_refuses_an_edited_run_in_one_line(
    edit: Callable[[Path], object],
    name: str,
    run: Path,
    commands: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(run)
    for command in commands:
        assert main(command) == 1, command
        error = capsys.readouterr().err
        assert f"{name}: is damaged or was changed" in error
        assert error.count("\n") == 1


@pytest.mark.slow
def test_runs_of_the_version_before_are_read_with_a_line_that_says_what_is_missing(
    tmp_path: Path, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(older_run(), tmp_path / "run")
    for command in commands:
        assert main(command) == 0, command
        assert "older version, which kept no digests" in "".join(capsys.readouterr()).replace(
            "\n", " "
        ), command
    assert "no digests" in read_run(run).result.warnings[-1]


@pytest.mark.parametrize(("name", "kind"), [("run.json", RunRecord), ("result.json", RunResult)])
def test_records_of_earlier_versions_call_the_placements_readings(
    name: str, kind: type[RunRecord | RunResult]
) -> None:
    content = json.loads((finished_run() / name).read_text())
    record = kind.model_validate(content)
    content["readings"] = content.pop("placements")
    assert kind.model_validate(content).placements == record.placements != {}


def test_a_flip_in_the_state_of_an_unfinished_fold_is_found_when_it_is_resumed(
    tmp_path: Path,
) -> None:
    dataset, plan = short_plan()
    out = tmp_path / "run"
    begin(dataset, plan, out, execution=OFTEN)
    stop_at(out, plan, dataset, EpochDone, 1)
    chance, state = random.Random(0), out / "fold1/state.pt"  # noqa: S311
    whole = state.read_bytes()
    for _ in range(3):
        rewrite(state, flipped(whole, chance))
        with pytest.raises(TrainerError, match=r"state\.pt: .*damaged .*remove it") as caught:
            resume(dataset, out)
        assert "\n" not in str(caught.value)


def test_an_unfinished_run_of_the_version_before_is_resumed_and_says_so(tmp_path: Path) -> None:
    dataset, plan = short_plan()
    out = tmp_path / "run"
    begin(dataset, plan, out, execution=OFTEN)
    stop_at(out, plan, dataset, EpochDone, 1)
    for path in [out / "run.json", *out.rglob("*.pt")]:
        if path.suffix == ".pt":
            torch.save(torch.load(path, weights_only=True), path)
        else:
            in_json("run.json", sha256=None)(out)
    seen: list[Event] = []
    result = resume(dataset, out, seen.append)
    assert result is not None
    assert "no digests" in next(event.message for event in seen if isinstance(event, Warned))
    assert any("no digests" in warning for warning in result.warnings)
    in_json("run.json", config__seed=3)(out)
    assert "run.json: is damaged or was changed" in everything(out)


def test_a_fold_that_was_trained_for_another_run_does_not_become_a_part_of_this_one(
    tmp_path: Path, run: Path
) -> None:
    record = RunDirectory(run).record()
    other = tmp_path / "other"
    changed = record.model_copy(update={"config": record.config.model_copy(update={"seed": 9})})
    other.mkdir()
    write_sealed(other / RECORD, changed)
    for fold in ("fold1", "fold2"):
        copied(run / fold, other / fold)
    with pytest.raises(TrainerError, match=r"run\.json: is damaged or was changed.*fold1/fold"):
        resume(open_store(tiny_store()), other)
    assert not (other / "result.json").exists()


@pytest.mark.parametrize("name", ["fingerprint", "class_names", "features", "extractor_version"])
def test_a_network_that_does_not_say_what_it_is_of_is_not_the_runs(name: str) -> None:
    run = open_finished(finished_run())
    network = replace(run.checkpoint(1, "best"), **{name: None})
    with pytest.raises(CheckpointError, match=f"it differs in: {name}"):
        check_is_of(Path("best.pt"), network, run.record, 1)
