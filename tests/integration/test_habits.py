"""Habits of a good command line: help in groups, `--json`, `--quiet`, and what comes next."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel, Field, ValidationError

import featurestore.cli
import trainer.cli
from featurestore.cli import main
from featurestore.errors import first_problem
from tests.conftest import contents
from tests.integration.reported_runs import make_run
from tests.integration.trainer_store import TINY, tiny_store
from tests.pairs import each_in_turn

PROGRAMS: dict[str, Any] = {
    name: typer.main.get_command(app)
    for name, app in (("featurestore", featurestore.cli.app), ("trainer", trainer.cli.app))
}
COMMANDS = [(program, name) for program, group in PROGRAMS.items() for name in group.commands]


@pytest.fixture
def here(tmp_path: Path, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a folder dataset in ./sounds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copytree(sounds, tmp_path / "sounds")
    return tmp_path


def run(line: str) -> int:
    return main(shlex.split(line))


BUILD = "build folder --root sounds --workers 0"


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_help_shows_values_by_names_options_in_groups_and_an_example_that_parses(
    program: str, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert sys.modules[f"{program}.cli"].main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"<(str|int|float|bool|path|list)", text) is None, "a type, and no name"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    shown = re.fullmatch(r"Example: (\S+) (\S+)(.*)", lines[-1])
    assert shown, "no example at the end"
    assert shown.groups()[:2] == (program, command)
    group = PROGRAMS[program]
    with group.make_context(program, [command], resilient_parsing=True) as context:
        group.commands[command].make_context(command, shlex.split(shown[3]), parent=context)
    grouped = [p for p in group.commands[command].params if p.param_type_name == "option"]
    assert [p.opts[0] for p in grouped if p.rich_help_panel is None] == []


def test_a_dataset_is_named_by_the_argument_or_by_the_option(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{BUILD} --store one.zarr") == 0
    assert run(f"build --dataset folder {BUILD.removeprefix('build folder')} --store two.zarr") == 0
    assert contents(here / "one.zarr") == contents(here / "two.zarr")
    assert run(f"{BUILD} --dataset esc10") == 2
    assert "DATASET is folder, and --dataset is esc10" in capsys.readouterr().err


def test_json_is_all_that_standard_output_holds(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "sounds/fold1/high/high0.wav").write_text("text")

    def printed(line: str, code: int = 0) -> Any:
        assert run(line) == code
        return json.loads(capsys.readouterr().out)

    planned = printed(f"{BUILD} --dry-run --json")
    assert (planned["num_clips"], planned["num_pending"]) == (20, 20)
    assert planned["most_bytes"] > 1e6
    built = printed(f"{BUILD} --json")
    assert (built["store"], built["dataset"]) == ("folder.zarr", "folder")
    assert built["counts"] == {"ok": 19, "unreadable": 1}
    (failure,) = built["failures"]
    assert (failure["path"], failure["status"]) == ("fold1/high/high0.wav", "unreadable")
    assert built["fingerprint"] == planned["fingerprint"]
    assert printed("info folder.zarr --json")["datasets"]["folder"]["counts"] == built["counts"]
    assert printed("verify folder.zarr --json")["whole"] is True
    next(here.glob("folder.zarr/folder/fold1/R1/mel/c/0/0/0")).unlink()
    damaged = printed("verify folder.zarr --json", code=1)
    assert len(damaged["problems"]) == 1
    assert "esc10" in {dataset["name"] for dataset in printed("datasets --json")}


def test_quiet_commands_print_warnings_and_errors_and_nothing_else(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "sounds/notes.txt").write_text("text")
    (here / "sounds/fold1/high/deep").mkdir()
    shutil.copy(here / "sounds/fold1/high/high0.wav", here / "sounds/fold1/high/deep/x.wav")
    assert run(f"{BUILD} --quiet") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(":")[0] for line in captured.err.splitlines()] == ["warning"]
    assert run("verify folder.zarr -q") == 0
    assert capsys.readouterr() == ("", "")
    assert run("verify nowhere.zarr -q") == 1
    assert capsys.readouterr().err.startswith("error: no store at")
    assert run("verify folder.zarr") == 0
    assert "everything is there" in capsys.readouterr().out, "--quiet outlived its command"


def test_the_next_command_follows_a_success_and_can_be_run_as_it_is(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{BUILD} --store 'my store.zarr'") == 0
    (line,) = re.findall(r"^next: (.*)$", capsys.readouterr().err, re.MULTILINE)
    assert shlex.split(line) == [
        *("trainer", "run", "--store", "my store.zarr", "--method", "resize")
    ]


def test_failures_are_one_line_for_each_reason(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((here / "sounds").rglob("*.wav"))
    for file in files[:5]:
        file.write_text("text")
    files[5].write_bytes(b"")
    assert run(f"{BUILD}") == 0
    out = capsys.readouterr().out.splitlines()
    reasons = [line for line in out if " × " in line]
    assert [line.split(" × ")[0].strip() for line in reasons] == ["5", "1"]
    assert reasons[0].endswith(" and 2 more")
    assert "all 6 of them: featurestore info folder.zarr --json" in out[-1]


def test_a_dry_run_says_what_would_be_built_and_leaves_everything_as_it_is(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(here)
    assert run(f"{BUILD} --dry-run") == 0
    assert "would build 20 of 20 clips" in capsys.readouterr().out
    assert contents(here) == before
    assert run("build synthetic --root made --dry-run") == 1
    assert "synthetic is not there yet" in capsys.readouterr().err
    assert run("build esc50 --dry-run --yes") == 1
    assert contents(here) == before
    assert run(BUILD) == 0
    before = contents(here)
    capsys.readouterr()
    assert run(f"{BUILD} --dry-run") == 0
    assert "would build 0 of 20 clips" in capsys.readouterr().out
    assert contents(here) == before


SMALL = f"--init random --arch {TINY} --batch-size 48 --threads 1 --epochs-scale 0.01"


def test_the_trainers_json_is_all_that_standard_output_holds(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_line = f"run --store {tiny_store()} --method baseline --fold 1 {SMALL} --device cpu"

    def printed(line: str) -> Any:
        assert trainer.cli.main(shlex.split(line)) == 0
        return json.loads(capsys.readouterr().out)

    before = contents(here)
    planned = printed(f"{run_line} --dry-run --json")
    assert contents(here) == before
    assert planned["num_steps"] == 2 * planned["epochs_per_fold"] > 0
    assert any("steps or fewer" in warning for warning in planned["warnings"])
    result = printed(f"{run_line} --json")
    assert result["config"] == planned["config"]
    assert [fold["fold"] for fold in result["folds"]] == [1]
    out = result["out"]
    assert printed(f"run --resume {out} --json")["folds"] == result["folds"]
    evaluation = printed(f"evaluate --run {out} --json")
    assert evaluation["accuracy"] == result["folds"][0]["best_accuracy"]
    (section,) = printed(f"report {out} --out shown --json")["sections"]
    assert Path("shown/report.html").is_file()
    assert section["dataset"] == "synthetic"
    assert section["tables"][0]["rows"]


def test_a_dry_run_of_a_training_says_how_much_and_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(here)
    line = f"run --store {tiny_store()} --method baseline {SMALL} --device cpu --dry-run"
    assert trainer.cli.main(shlex.split(line)) == 0
    assert "would train 3 folds of" in capsys.readouterr().out
    assert trainer.cli.main(["run", "--resume", "x", "--dry-run"]) == 2
    assert contents(here) == before


@pytest.mark.parametrize(
    "line", ["run --method mel", "run --resume r --dry-run", "sweep --store s --out o"]
)
def test_above_a_usage_error_nothing_is_said_to_be_loading(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trainer.cli.main(line.split()) == 2
    assert "loading" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "program",
    ["featurestore datasets", pytest.param("trainer report run", marks=pytest.mark.slow)],
)
def test_a_program_whose_output_is_wanted_no_more_ends_silently_as_by_sigpipe(
    program: str, tmp_path: Path
) -> None:
    make_run(tmp_path / "run", "mel", {1: 70.0})
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", *program.split()]
    done = subprocess.run(
        line, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
    )
    os.close(writer)
    assert done.returncode == 128 + signal.SIGPIPE
    assert [text for text in done.stderr.splitlines() if "reading" not in text] == []


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "not UTF-8": lambda path: path.write_bytes(b"font.size: 9 # \xe9"),
    "a pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize(
    ("kind", "program"),
    each_in_turn(UNREADABLE, ("featurestore plot s.zarr --clip x", "trainer report run")),
)
def test_a_matplotlibrc_that_cannot_be_read_is_one_line(
    kind: str, program: str, tmp_path: Path
) -> None:
    make_run(tmp_path / "run", "mel", {1: 70.0})
    UNREADABLE[kind](tmp_path / "matplotlibrc")
    line = [sys.executable, "-m", *program.split()]
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "matplotlibrc" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_quiet_commands_of_the_trainer_print_nothing_but_a_result_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [str(make_run(tmp_path / m, m, {1: 70.0, 2: 80.0})) for m in ("mel", "resize")]
    assert trainer.cli.main(["ensemble", *runs, "--quiet"]) == 0
    captured = capsys.readouterr()
    lines = (captured.out + captured.err).splitlines()
    assert all(text.startswith("warning:") for text in lines)
    long = {"run", "sweep", "reproduce", "lr-find", "predict", "evaluate", "ensemble", "export"}
    long |= {"interpret"}
    for name in sorted(long | {"report"}):
        flags = [flag for p in PROGRAMS["trainer"].commands[name].params for flag in p.opts]
        assert "--quiet" in flags


class _Inner(BaseModel, extra="forbid"):
    depth: int = Field(default=1, ge=1, le=9)


class _Outer(BaseModel, extra="forbid", strict=True):
    rate: int
    ratio: float = 0.5
    fast: bool = False
    name: str = ""
    inner: _Inner = _Inner()
    sizes: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ('{"rate": 1.5}', "rate: expected a whole number, got 1.5"),
        ('{"rate": "1"}', "rate: expected a whole number, got '1'"),
        ('{"rate": true}', "rate: expected a whole number, got true"),
        ("{}", "rate: is missing"),
        ('{"rate": 1, "ratio": "x"}', "ratio: expected a number, got 'x'"),
        ('{"rate": 1, "fast": 1}', "fast: expected true or false, got 1"),
        ('{"rate": 1, "name": null}', "name: expected text, got nothing"),
        ('{"rate": 1, "inner": 3}', "inner: expected a mapping of names to values, got 3"),
        ('{"rate": 1, "inner": {"depth": 0}}', "inner.depth: expected at least 1, got 0"),
        ('{"rate": 1, "inner": {"depth": 10}}', "inner.depth: expected at most 9, got 10"),
        ('{"rate": 1, "inner": {"depht": 1}}', "inner.depht: no such field; did you mean 'depth'?"),
        ('{"rate": 1, "sizes": 1}', "sizes: expected a list, got 1"),
    ],
)
def test_a_wrong_value_is_told_in_our_words_and_not_pydantics(values: str, expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _Outer.model_validate_json(values)
    assert first_problem(caught.value, ["rate", "depth"]) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("build x --workers two", "'--workers': expected a whole number, got 'two'"),
        ("build x --workers -1", "'--workers': expected at least 0, got '-1'"),
        ("build x --workers 1.5", "'--workers': expected a whole number, got '1.5'"),
        ("build x --folds", "'--folds' requires an argument"),
    ],
)
def test_a_wrong_value_of_an_option_is_told_in_our_words(
    line: str,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(line) == 2
    assert expected in capsys.readouterr().err


def test_a_mistyped_field_of_a_spec_is_told_the_one_that_was_meant(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text, meant in {
        "hop_lenght: 256": "hop_lenght: no such field; did you mean 'hop_length'?",
        "trim: {top_bd: 1}": "trim.top_bd: no such field; did you mean 'top_db'?",
        "window: han": "window: expected 'hann', 'hamming' or 'blackman', got 'han'; did you",
    }.items():
        (here / "spec.yaml").write_text(text)
        assert run(f"{BUILD} --spec spec.yaml") == 1
        assert meant in capsys.readouterr().err


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_help_in_a_narrow_terminal_cuts_no_name_and_no_word(
    program: str, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words that do not fit are folded; the ellipses that are left are those of the texts."""
    shown = {}
    for width in (60, 300):
        monkeypatch.setenv("COLUMNS", str(width))
        assert sys.modules[f"{program}.cli"].main([command, "--help"]) == 0
        shown[width] = capsys.readouterr().out
    assert shown[60].count("…") == shown[300].count("…")
    assert max(map(len, shown[60].splitlines())) <= 60
    for param in PROGRAMS[program].commands[command].params:
        assert param.param_type_name == "argument" or re.search(rf"{param.opts[0]}\b", shown[60])


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_no_option_has_two_defaults_in_its_help(program: str, command: str) -> None:
    for param in PROGRAMS[program].commands[command].params:
        if param.param_type_name == "option" and "Default:" in (param.help or ""):
            assert param.show_default is False or param.default in (None, ""), param.opts


@pytest.mark.parametrize(("given", "meant"), [("bf17", "'bf16'"), ("half", ""), ("b\n'f", "")])
def test_a_mistyped_choice_of_an_option_is_told_the_one_that_was_meant(
    given: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["run", "--store", "s", "--method", "mel", "--precision", given]
    assert sys.modules["trainer.cli"].main(line) == 2
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().err).split())
    assert "is not one of 'auto', 'float32', 'bf16'" in said
    assert said.endswith(f"; did you mean {meant}?" if meant else "'bf16'.")


@pytest.mark.parametrize(
    ("program", "line", "expected"),
    [
        ("featurestore", "featurestore build es", ["esc50", "esc10"]),
        ("featurestore", "featurestore build --dataset urb", ["urbansound8k"]),
        ("trainer", "trainer run --method re", ["resize", "resize-matched"]),
        ("trainer", "trainer sweep --method base", ["baseline"]),
        ("trainer", "trainer run --recipe fast", ["fastai-2019"]),
    ],
)
def test_a_shell_completes_names_of_datasets_and_methods(
    program: str,
    line: str,
    expected: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the protocol of the script that `--show-completion` prints for bash."""
    monkeypatch.setenv(f"_{program.upper()}_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    with pytest.raises(SystemExit):
        PROGRAMS[program].main([], prog_name=program)
    assert capsys.readouterr().out.split() == expected
