"""Impossible and huge values, wherever a user writes them, are refused in a line before a step."""

from pathlib import Path

import pytest

from tests.integration.trainer_runs import finished_run
from tests.integration.trainer_store import tiny_store
from tests.pairs import each_in_turn
from trainer.cli import main

NO_NUMBERS = ("", "abc", "nan", "inf", "-inf", "1e999", "9" * 5000, "0x10")
NO_COUNTS = (*NO_NUMBERS, "-1", "1.5", "1" + "0" * 30)
NO_SHARES = (*NO_NUMBERS, "-1", "-1e-300", "1e300")
RUN = "run --method baseline --init random"
PARTS = 3
"""By default, each command is given a third of the values of an option, in turn."""
VALUES = {
    "--seed": NO_COUNTS,
    "--batch-size": (*NO_COUNTS, "0", "1", "9223372036854775808"),
    "--threads": (*NO_COUNTS, "0", "9223372036854775808"),
    "--fold": (*NO_COUNTS, "0", "9"),
    "--folds-at-once": (*NO_NUMBERS, "-1", "0", "1.5"),
    "--checkpoint-every": ("", "abc", "nan", "-1", "-inf"),
    "--epochs-scale": (*NO_SHARES, "0"),
    "--validation-share": (*NO_SHARES, "0", "0.9"),
    "--mixup": (*NO_SHARES, "1e-300", "11"),
    "--freq-mask": (*NO_SHARES, "0.9"),
    "--time-mask": (*NO_SHARES, "0.9"),
    "--label-smoothing": (*NO_SHARES, "1"),
    "--max-lr": (*NO_NUMBERS, "-1", "0", "1e-300", "1e-11", "1001", "1e300", "1e-3,,", "auto,1"),
    "--device": ("", "nan", "cpu:99999999999999999999", "cuda:-1", "a" * 5000),
    "--precision": ("", "float16", "\0"),
    "--acceleration": ("", "fast"),
    "--arch": ("", "vgg"),
    "--init": ("", "none.pth", "/", "/dev/zero", "a" * 5000),
    "--selection": ("", "all"),
    "--method": ("", "../x", "a" * 5000),
    "--dataset": ("", "other", "../x"),
    "--methods-file": ("", "none.yaml", "/", "/dev/zero"),
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error in its box, or one line; and nothing is made."""
    before = set(Path().rglob("*"))
    code = main(arguments)
    error = capsys.readouterr().err
    assert code in (1, 2), (arguments, error)
    if code == 1:
        assert error.startswith("error: "), arguments
        assert error.count("\n") == 1, (arguments, error)
    assert "Traceback" not in error
    made = set(Path().rglob("*")) - before - {Path("lr-find")}  # which is empty then
    assert not made, arguments


@pytest.mark.parametrize(("option", "part"), each_in_turn(VALUES, range(PARTS)))
def test_a_value_that_makes_no_sense_is_refused_by_run(
    option: str, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in VALUES[option][part::PARTS] or VALUES[option]:  # of two, a third may be none
        refused([*RUN.split(), "--store", str(tiny_store()), option, value], capsys)


@pytest.mark.parametrize(
    ("option", "part"),
    each_in_turn(
        ("--seed", "--batch-size", "--threads", "--fold", "--mixup", "--init", "--method"),
        range(PARTS),
    ),
)
def test_a_value_that_makes_no_sense_is_refused_by_lr_find(
    option: str, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["lr-find", "--method", "baseline", "--store", str(tiny_store())]
    for value in VALUES[option][part::PARTS]:
        refused([*command, option, value], capsys)


@pytest.mark.parametrize(
    ("option", "part"),
    each_in_turn(sorted(VALUES.keys() - {"--method", "--dataset", "--fold"}), range(PARTS)),
)
def test_a_value_that_makes_no_sense_is_refused_by_a_sweep_before_its_first_run(
    option: str, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["sweep", "--method", "baseline", "--out", "s", "--store", str(tiny_store())]
    if option in ("--seed", "--folds-at-once", "--checkpoint-every"):
        settings = [[option, value] for value in VALUES[option][part::PARTS]]
    else:
        name = option.removeprefix("--")
        values = [value for value in VALUES[option][part::PARTS] if value != "0x10"]  # 16 in YAML
        settings = [["--set", f"{name}={value}"] for value in values]
    for setting in settings:
        refused([*sweep, "--set", "arch=resnet18", *setting], capsys)


@pytest.mark.parametrize(
    "sweep",
    [
        "methods: [baseline]\nseeds: [-1]",
        "methods: [baseline]\nseeds: [1.5]",
        "methods: [baseline]\nseeds: [.nan]",
        "methods: [baseline]\nseeds: [1000000000000000000000000000000]",
        "methods: [baseline]\nfolds: [0]",
        "methods: [baseline]\nfolds: [1, 1]",
        "methods: []",
        "methods: [baseline]\nsettings: {mixup: []}",
        "methods: [baseline]\nsettings: {batch_size: .inf}",
        "methods: [baseline]\nsettings: {epochs_scale: .nan}",
        "methods: [baseline]\nsettings: {threads: 1.0e+300}",
        "methods: [baseline]\nsettings: {mixup: true}",
        "methods: [baseline]\nsettings: {batch_size: true}",
        "methods: [baseline]\nseeds: [true]",
        "methods: [baseline]\nsettings: {mixup: {a: 1}}",
        "methods: [baseline]\nsettings: {"
        + ", ".join(
            f"{name}: [{', '.join(map(str, range(1, 200)))}]" for name in ("batch_size", "threads")
        )
        + "}",
    ],
)
def test_a_sweep_file_with_such_values_is_refused_before_its_first_run(
    sweep: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("sweep.yaml").write_text(sweep)
    command = ["sweep", "--file", "sweep.yaml", "--out", "s", "--store", str(tiny_store())]
    refused(command, capsys)


def test_more_runs_than_anybody_can_mean_are_refused_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hundred = ",".join(f"0.{n:02}" for n in range(1, 50))
    crossed = [["--set", f"{name}={hundred}"] for name in ("mixup", "freq-mask", "time-mask")]
    store = ["--store", str(tiny_store())]
    refused(
        [
            "sweep",
            "--method",
            "baseline",
            "--out",
            "s",
            *store,
            *(part for pair in crossed for part in pair),
        ],
        capsys,
    )
    refused(["reproduce", "--seeds", "1000000000000", *store], capsys)


@pytest.mark.parametrize(
    "cycle",
    [
        "epochs: 0, max_lr: 1e-3",
        "epochs: -1, max_lr: 1e-3",
        "epochs: 1.5, max_lr: 1e-3",
        "epochs: 1000000000000000000000000000000, max_lr: 1e-3",
        "epochs: .inf, max_lr: 1e-3",
        "epochs: true, max_lr: 1e-3",
        "epochs: 1, max_lr: 0",
        "epochs: 1, max_lr: -1e-3",
        "epochs: 1, max_lr: .nan",
        "epochs: 1, max_lr: 1.0e-300",
        "epochs: 1, max_lr: .inf",
        "epochs: 1, max_lr: 1.0e+300",
        "epochs: 1, max_lr: {}",
        "epochs: 1, max_lr: 1e-3, body_lr_ratio: 0",
        "epochs: 1, max_lr: 1e-3, body_lr_ratio: .nan",
        "epochs: 1, max_lr: 1e-3, body_lr_ratio: 2",
    ],
)
def test_a_methods_file_with_such_values_is_refused_before_a_step(
    cycle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("m.yaml").write_text(f"mine:\n- {{array: R3/full, {cycle}}}\n")
    options = ["--store", str(tiny_store()), "--methods-file", "m.yaml", "--method", "mine"]
    refused(["run", *options], capsys)
    refused(["lr-find", *options], capsys)


@pytest.mark.parametrize(
    "options",
    [
        ["evaluate", "--batch-size", "0"],
        ["evaluate", "--batch-size", "1" + "0" * 30],
        ["evaluate", "--fold", "99999999999999999999"],
        ["evaluate", "--network", "-1"],
        ["evaluate", "--checkpoint", ""],
        ["evaluate", "--device", "cuda:99999999999999999999"],
        ["predict", "--top", "0", "x.wav"],
        ["predict", "--fold", "9" * 30, "x.wav"],
        ["predict", "--format", "xml", "x.wav"],
        ["export", "--fold", "-1", "--format", "torch-export"],
        ["export", "--fold", "1", "--format", ""],
        ["lr-find", "--stage", "0"],
        ["lr-find", "--stage", "1" + "0" * 30],
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_what_uses_a_run(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command, *rest = options
    where = ["--run", str(finished_run())]
    if command == "lr-find":
        where = ["--store", str(tiny_store()), "--method", "baseline"]
    refused([command, *where, *rest], capsys)
