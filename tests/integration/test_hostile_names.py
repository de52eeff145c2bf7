"""Every command of both programs, with names that no terminal, table or reader should obey."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featurestore import cli as featurestore
from featurestore import open_store
from featurestore.building.build import build
from featurestore.datasets.base import Dataset
from featurestore.terminal import Terminal
from featurestore.text import csv_text, from_json_text, json_text, markdown, printable
from schemas import Clip, DatasetCard, Evaluation, FeatureSpec, Predictions, Stage
from tests.conftest import sound
from tests.hostile import NAMES
from tests.integration.reported_runs import make_run
from tests.integration.trainer_store import RESOLUTIONS, TINY
from tests.pairs import each_in_turn
from trainer import cli as trainer
from trainer.config import TrainingOptions
from trainer.plan import plan_run
from trainer.records.finished import open_finished
from trainer.report import print_report, write_report
from trainer.run import run as train

UNICODE = {key: name for key, name in NAMES.items() if key != "not-utf-8"}
FILES = {k: n for k, n in NAMES.items() if "/" not in n and n != ".." and len(n) < 200}
ARGUMENTS = {k: n for k, n in NAMES.items() if not n.startswith("-") and k != "spaces"}
PARTS = 6
Said = pytest.CaptureFixture[str]


def harmless(text: str) -> str:
    """The text, of which no character acts on a terminal."""
    acting = {"Cc", "Cs", "Zl", "Zp"}
    assert not [c for c in text if unicodedata.category(c) in acting and c != "\n"]
    assert not re.search("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]", text)
    assert "secret" not in text.replace("me:secret@h/x?key=secret", "") or "***" not in text
    text.encode()
    return text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def sounds(place: Path) -> Dataset:
    """A class of every name in two folds; file names are hostile, too, and one file is gone."""
    (place / "sounds").mkdir()
    clips = []
    for number, (key, name) in enumerate(UNICODE.items()):
        for fold in (1, 2):
            file = f"{fold}{name if key in FILES else key}.wav"
            clips.append(Clip(clip_id=file, path=file, fold=fold, class_id=number))
            data = sound(2 * number + fold, 0.1, 8000)
            soundfile.write(place / "sounds" / file, data, 8000, "PCM_16", format="WAV")
    gone = "gone\x1b[31m[/].wav"
    clips.append(Clip(clip_id=gone, path=gone, fold=1, class_id=0))
    card = DatasetCard(
        name="folder",
        title="[red]$t$\x1b]0;t\x07",
        class_names=tuple(UNICODE.values()),
        licence="\x1b[31m[/]",
        citation="a\nb\u202e",
        url="http://me:secret@h/?key=secret",
    )
    return Dataset(card, place / "sounds", tuple(clips))


@pytest.fixture(scope="module")
def store(place: Path, sounds: Dataset) -> Path:
    path = place / os.fsdecode(b"[red]\x1b]0;x\x07 caf\xe9.zarr")
    build(sounds, path, FeatureSpec(resolutions=RESOLUTIONS))
    return path


@pytest.fixture(scope="module")
def run(place: Path, store: Path) -> Path:
    """An epoch of the smallest network."""
    stored = open_store(str(store))
    options = TrainingOptions(
        method="mel",
        init="random",
        arch=TINY,
        batch_size=48,
        device="cpu",
        precision="float32",
        threads=1,
    )
    plan = plan_run(stored, options)
    stages = (Stage(array="R1/mel", epochs=1, max_lr=1e-3),)
    out = place / os.fsdecode(b"[/red]%s\x1b[31m\ncaf\xe9")
    train(stored, replace(plan, config=plan.config.model_copy(update={"stages": stages})), out)
    return out


def told(capsys: Said) -> str:
    captured = capsys.readouterr()
    return harmless(captured.out + captured.err)


# Every name in a sixth of the command lines, every line with a sixth of the names.
@pytest.mark.parametrize(("key", "part"), each_in_turn(ARGUMENTS, range(PARTS)))
def test_a_wrong_argument_is_one_line_that_shows_it_as_it_is(
    key: str, part: int, capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = ARGUMENTS[key]
    if name in ("..", " "):
        name = f"{name}x"
    commands = {
        featurestore.main: (
            "info {}|verify {}|repair {}|download {}|plot {} --clip x|"
            "build --dataset {}|build --dataset folder --root {}"
        ),
        trainer.main: (
            "run --store {} --method mel|run --resume {}|predict x.wav --run {}|report {}|"
            "evaluate --run {}|export --run {} --fold 1 --format onnx|ensemble {} {}|"
            "lr-find --store {} --method mel|sweep --store {} --method mel --out o|"
            "sweep --store s --file {} --out o|reproduce --store {}"
        ),
    }
    for main, lines in commands.items():
        for line in lines.split("|")[part::PARTS]:
            code = main([name if word == "{}" else word for word in line.split()])
            text = told(capsys)
            assert code == 1, line
            doing = re.sub(r"^[^\n]*: (reading|looking|loading)[^\n]*\n", "", text)
            assert re.match("error: [^\n]*\n$", doing), line
            if "secret" in name:
                assert "secret" not in text
                continue
            path = re.sub("/+", "/", printable(name))
            forms = printable(name), path, repr(name)[1:-1], name[:40]
            assert any(form in text for form in forms), line


@pytest.mark.parametrize(
    "name", ["\x1b]0;x\a", "caf\udce9", "[red]", "http://me:secret@h?k=secret"]
)
def test_a_usage_error_shows_its_argument_as_it_is(name: str, capsys: Said) -> None:
    lines = "{}|build --workers {}|info --{}|verify a {}|run --seed {}|export --format {} --fold 1"
    for line in lines.split("|"):
        for main in (featurestore.main, trainer.main):
            assert main([word.format(name) for word in line.split()]) == 2
            assert "secret" not in told(capsys)


def test_info_and_verify_show_every_name_and_obey_none(store: Path, capsys: Said) -> None:
    assert featurestore.main(["info", str(store)]) == 0
    text = told(capsys)
    assert r"[red]$t$\x1b]0;t\x07" in text
    assert r"\x1b[31m[/]" in text
    assert "[red]\\x1b]0;x\\x07 caf\\udce9.zarr: " in text
    assert r"cannot be opened: gone\x1b[31m[/].wav" in text
    assert featurestore.main(["info", str(store), "--json"]) == 0
    description = json.loads(told(capsys))
    assert from_json_text(description["path"]) == str(store)
    card = description["datasets"]["folder"]["card"]
    assert card["class_names"] == list(UNICODE.values())
    assert featurestore.main(["verify", str(store)]) == 0
    told(capsys)


@pytest.mark.parametrize(
    "key",
    [
        "colour",
        *(
            pytest.param(key, marks=pytest.mark.slow)
            for key in ("mathematics", "broken-mathematics", "cjk", "long")
        ),
    ],
)
def test_a_clip_of_any_name_is_drawn(
    key: str, store: Path, capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = f"2{UNICODE[key]}.wav" if key in FILES else f"2{key}.wav"
    assert featurestore.main(["plot", str(store), "--clip", clip]) == 0
    (file,) = tmp_path.iterdir()
    captured = capsys.readouterr()
    assert harmless(captured.out) == f"{file.name}\n"
    assert harmless(captured.err).endswith(": reading the clips\n")
    assert file.read_bytes().startswith(b"\x89PNG")


def test_answers_of_a_run_keep_every_class_and_clip(run: Path, store: Path) -> None:
    answers = open_finished(run).predictions(1, "best")
    assert answers.class_names == tuple(UNICODE.values())
    assert set(answers.clip_ids) <= {str(clip) for clip in open_store(str(store)).clips().clip_id}


def test_files_of_any_name_are_predicted_in_every_format(
    run: Path, sounds: Dataset, tmp_path: Path, capsys: Said
) -> None:
    names = [f"{name}.wav" for name in FILES.values()]
    (tmp_path / "in").mkdir()
    for name in names:
        shutil.copy(sounds.root / sounds.clips[0].path, tmp_path / "in" / name)
    files = [str(tmp_path / "in" / name) for name in names]
    (tmp_path / "in" / "broken\x1b[31m.wav").write_bytes(b"no sound")
    command = ["predict", str(tmp_path / "in"), *files, "--run", str(run), "--fold", "1"]
    for suffix in ("csv", "json", "txt"):
        out = tmp_path / os.fsdecode(b"caf\xe9." + suffix.encode())
        assert trainer.main([*command, "--out", str(out)]) == 1
        assert r"broken\x1b[31m.wav: " in told(capsys)
        text = harmless(out.read_bytes().decode())
        if suffix == "csv":
            header, *rows = csv.reader(io.StringIO(text), strict=True)
            assert [csv_text(cell) for cell in header[3:]] == list(UNICODE.values())
            assert {csv_text(row[0]) for row in rows} >= set(files)
            assert not [
                c for row in (header, *rows) for c in row if re.match("[=@]|[+-][^0-9.]", c)
            ]
        elif suffix == "json":
            found = Predictions.model_validate_json(text).predictions
            assert {from_json_text(one.path) for one in found} >= set(files)
            assert list(found[0].probabilities) == list(UNICODE.values())
    assert trainer.main(command) == 1
    assert r"caf\udce9.wav" in told(capsys).replace("\n", "").replace("│", "").replace(" ", "")


def test_an_evaluation_and_an_ensemble_of_a_run_show_every_class(
    run: Path, tmp_path: Path, capsys: Said
) -> None:
    out = tmp_path / "[red]caf\udce9"
    assert trainer.main(["evaluate", "--run", str(run), "--out", str(out)]) == 0
    told(capsys)
    found = Evaluation.model_validate_json(harmless((out / "evaluation.json").read_text()))
    assert [one.class_name for one in found.classes] == list(UNICODE.values())
    assert from_json_text(found.run) == str(run)
    other = shutil.copytree(run, tmp_path / "$x$|\x1b[31m`")
    assert trainer.main(["ensemble", str(run), str(other), "--out", str(tmp_path / "e")]) == 0
    told(capsys)
    harmless((tmp_path / "e" / "ensemble.csv").read_text())
    harmless((tmp_path / "e" / "ensemble.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("output_format", ["onnx", "torch-export"])
def test_an_exported_network_knows_every_class(
    output_format: str, run: Path, tmp_path: Path, capsys: Said
) -> None:
    import onnx
    import torch

    file = tmp_path / os.fsdecode(b"[red]caf\xe9")
    command = ["export", "--run", str(run), "--fold", "1", "--format", output_format]
    assert trainer.main([*command, "--out", str(file)]) == 0
    assert r"[red]caf\udce9: images" in told(capsys)
    if output_format == "onnx":
        (text,) = (
            prop.value
            for prop in onnx.load_from_string(file.read_bytes()).metadata_props
            if prop.key == "featurestore.json"
        )
    else:
        extra = {"featurestore.json": ""}
        torch.export.load(io.BytesIO(file.read_bytes()), extra_files=extra)
        text = extra["featurestore.json"]
    assert json.loads(text)["class_names"] == list(UNICODE.values())


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("num_runs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_report_is_made_of_methods_datasets_and_runs_of_any_name(
    num_runs: int, tmp_path: Path
) -> None:
    """Two runs also have pictures of their differences."""
    keys = ("markup", "tag", "pipe", "colour", "wide", "broken-mathematics")
    names = [" ".join(UNICODE[key] for key in keys[n::num_runs]) for n in range(num_runs)]
    runs = [
        make_run(
            tmp_path / f"{number}caf\udce9 `$x$|\x1b[31m",
            name,
            {1: 70.0 + number},
            dataset="\x1b[31m<b>$x$|",
            classes=list(UNICODE.values()),
            warnings=(f"of {name} at http://me:secret@h/?key=secret",),
        )
        for number, name in enumerate(names)
    ]
    report = write_report(runs, tmp_path / "out")
    page = Page(harmless((report.out / "report.html").read_text()))
    text = harmless((report.out / "report.md").read_text())
    assert not {"script", "b", "red", "x"} & page.elements
    assert "secret" not in page.text + text
    for name in names:
        assert printable(name) in page.text
        assert f"| {markdown(name)} |" in text
    assert "caf\\udce9 `$x$|\\x1b[31m" in page.text
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.split("\n\n")[2].split("\n")}
    assert len(widths) == 1
    terminal = Terminal(file=io.StringIO(), width=80)
    print_report(report, terminal)
    assert isinstance(terminal.file, io.StringIO)
    printed = harmless(terminal.file.getvalue())
    assert "[red]x[/red]" in printed
    assert "secret" not in printed


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("featurestore", "info {store}"),
        pytest.param("trainer", "ensemble {run} {run}", marks=pytest.mark.slow),
        pytest.param("trainer", "run --bad-option-犬", marks=pytest.mark.slow),
    ],
)
def test_an_output_that_is_ascii_and_narrow_shows_escapes(
    program: str, command: str, request: pytest.FixtureRequest
) -> None:
    values = {"{store}": "store", "{run}": "run"}
    words = [
        str(request.getfixturevalue(values[word])) if word in values else word
        for word in command.split()
    ]
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "NO_COLOR": "1", "COLUMNS": "40"}
    code = f"import sys; from {program}.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        env=os.environ | ascii_only,
        check=False,
    )
    text = harmless((done.stdout + done.stderr).decode("ascii"))
    assert "Traceback" not in text
    assert ("udce9" in text) or ("u72ac" in text)


def test_logs_warnings_and_tracebacks_of_libraries_are_harmless() -> None:
    code = """
import logging, warnings
from featurestore.terminal import harden
harden()
warnings.warn("a\\x1b[31m http://me:secret@h")
logging.warning("b%s", "\\x1b[31m\\udce9 http://h/?key=secret")
try:
    raise OSError("c\\x1b[31m")
except OSError:
    logging.exception("d")
raise ValueError("e\\x1b[31m http://me:secret@h")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 1
    text = harmless(done.stderr.decode())
    assert "secret" not in text
    assert [letter for letter in "abce" if f"{letter}\\x1b[31m" in text] == [*"abce"]


@pytest.mark.parametrize(
    "address",
    [
        "nothing://me:secret@h/x?key=secret",
        pytest.param("http://me:secret@127.0.0.1:1/?key=secret", marks=pytest.mark.slow),
        pytest.param("postgresql://me:secret@127.0.0.1:1/x?k=secret", marks=pytest.mark.slow),
    ],
)
def test_no_message_shows_the_password_of_an_mlflow_address(
    address: str, run: Path, capsys: Said
) -> None:
    pytest.importorskip("mlflow")
    trainer.main(["run", "--resume", str(run), "--mlflow", address])
    text = told(capsys)
    assert "secret" not in text
    assert "***@" in text


def test_a_store_whose_path_is_not_utf_8_is_found_again(run: Path, store: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    assert record["store"] == json_text(store)
    assert np.isfinite(open_finished(run).result.folds[0].seconds)
