"""Commands in README and documentation parse, links lead somewhere, figures were measured.

That every block runs is seen by `tests/integration/test_docs_blocks.py`.
"""

import importlib.util
import json
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import featurestore
import featurestore.cli
import featurestore.errors
import schemas
import trainer
import trainer.cli
from trainer.report.paper import PAPER

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
]
FENCED = re.compile(r"^ *```([^\n`]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PROGRAMS: dict[str, Any] = {
    name: typer.main.get_command(app)
    for name, app in (("featurestore", featurestore.cli.app), ("trainer", trainer.cli.app))
}
LINES = [
    pytest.param(line, id=f"{page.name}: {line}")
    for page in PAGES
    for kind, block in FENCED.findall(page.read_text())
    if not kind
    for line in (part.split(" #")[0].strip() for part in block.replace("\\\n", " ").splitlines())
    if line.split(" ")[0] in PROGRAMS
]


def _reference() -> ModuleType:
    """Return the module that makes the reference."""
    spec = importlib.util.spec_from_file_location("reference", DOCS / "_ext" / "reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _reference()


@pytest.mark.parametrize("line", LINES)
def test_every_command_in_the_documentation_parses(line: str) -> None:
    program, command, *arguments = shlex.split(line)
    group = PROGRAMS[program]
    context = group.make_context(program, [command, *arguments], resilient_parsing=False)
    name, found, rest = group.resolve_command(context, [command, *arguments])
    assert name == command
    found.make_context(command, rest, parent=context)


@pytest.mark.parametrize(
    "line",
    [
        line.strip()
        for line in (ROOT / "demo.sh").read_text().replace("\\\n", " ").splitlines()
        if line.strip().split(" ")[0] in PROGRAMS
    ],
)
def test_every_command_of_the_demo_parses(line: str) -> None:
    test_every_command_in_the_documentation_parses(line)


def test_the_tutorial_shows_what_the_demo_does() -> None:
    tutorial = (DOCS / "tutorial.md").read_text().replace("\\\n", " ")
    for line in (ROOT / "demo.sh").read_text().split("cat <<'END'")[0].splitlines():
        if line.startswith(("featurestore ", "trainer ")):
            assert line in tutorial


def test_the_readme_and_the_how_tos_show_every_command() -> None:
    shown = {tuple(str(line.values[0]).split()[:2]) for line in LINES}
    commands = {(p, name) for p, group in PROGRAMS.items() for name in group.commands}
    assert commands <= shown


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_and_option_is_in_the_reference_with_its_meaning(program: str) -> None:
    page = (DOCS / "reference" / f"{program}.md").read_text()
    assert f"```{{commands}} {program}.cli\n" in page
    text = reference.commands_text(f"{program}.cli")
    sections = dict(re.findall(rf"^## {program} (\S+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    assert set(sections) == set(PROGRAMS[program].commands)
    for name, command in PROGRAMS[program].commands.items():
        assert command.help.splitlines()[0] in sections[name]
        for parameter in command.params:
            if "--help" in parameter.opts:
                continue
            words = (*parameter.opts, *parameter.secondary_opts)
            shown = words if parameter.param_type_name == "option" else [parameter.metavar]
            assert all(f"`{word}`" in sections[name] for word in shown), (name, words)
            assert " ".join(parameter.help.split()).replace("|", "\\|") in sections[name]


@pytest.mark.parametrize(
    ("page", "model"),
    [
        ("spec", schemas.FeatureSpec),
        ("spec", schemas.Resolution),
        ("spec", schemas.TrimSpec),
        ("spec", schemas.Cycle),
        ("files", schemas.StoreManifest),
        ("files", schemas.RunConfig),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_field_is_in_the_reference(page: str, model: Any) -> None:
    text = (DOCS / "reference" / f"{page}.md").read_text()
    assert f"```{{fields}} schemas.{model.__name__}\n" in text
    table = reference.fields_text(f"schemas.{model.__name__}")
    rows = {row.split(" | ")[0]: row.split(" | ") for row in table.splitlines() if row[:1] == "|"}
    for field in model.model_fields:
        assert f"| `{field}`" in rows


@pytest.mark.parametrize("model", [schemas.FeatureSpec, schemas.Resolution, schemas.TrimSpec])
def test_every_field_of_a_spec_is_described(model: Any) -> None:
    table = reference.fields_text(f"schemas.{model.__name__}")
    rows = [row.strip("|").split(" | ") for row in table.splitlines() if row.startswith("| `")]
    allowed = {"`resolutions`"}
    assert [
        r[0].strip() for r in rows if len(r[-1].strip()) < 5 and r[0].strip() not in allowed
    ] == []


@pytest.mark.parametrize(
    "package", [featurestore, featurestore.datasets, trainer], ids=lambda p: p.__name__
)
def test_every_public_name_is_in_the_reference(package: ModuleType) -> None:
    page = (DOCS / "reference" / "python.md").read_text()
    assert f"```{{public}} {package.__name__}\n" in page
    text = reference.public_text(package.__name__)
    names = {
        name
        for name in package.__all__
        if not name.startswith("__") and not isinstance(getattr(package, name), ModuleType)
    }
    assert names == set(re.findall(r"^\.\. auto\w+:: \S+\.(\w+)$", text, re.MULTILINE))


def test_every_error_is_in_the_reference() -> None:
    text = reference.public_text("featurestore.errors")
    assert "autoexception:: featurestore.errors.CorruptError" in text
    assert text.count("autoexception::") == len(
        [
            v
            for v in vars(featurestore.errors).values()
            if isinstance(v, type) and issubclass(v, Exception)
        ]
    )


def test_the_readme_has_at_most_12_kb() -> None:
    assert len(README.encode()) <= 12_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_to_files(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())["results"]


def test_the_readmes_accuracies_are_the_papers_and_those_of_our_report() -> None:
    report = (RESULTS / "reproduce-esc10" / "report.md").read_text()
    for method in ("baseline", "mel", "resize", "control"):
        (row,) = re.findall(rf"^\| {method}\b.*", README, re.MULTILINE)
        paper, esc50, ours = row.strip("| ").split(" | ")[1:]
        for table, shown in ((PAPER["urbansound8k"], paper), (PAPER["esc50"], esc50)):
            mean_std = table.printed.get(method)
            assert shown == (f"{mean_std[0]:.2f} ± {mean_std[1]:.2f}" if mean_std else "–")
        assert f"| {method} | 1-5 | 2 | {ours} |" in report


def test_the_readmes_speeds_are_those_of_the_benchmarks() -> None:
    milliseconds = {row["case"]: row["ms per clip"] for row in result("extract")["wav"]}
    names = {
        "the floor": "floor",
        "**featurestore**": "featurestore",
        "librosa": "librosa script",
        "torchaudio": "torchaudio, 1 variant",
        "lhotse": "lhotse, 1 variant",
    }
    for words, case in names.items():
        (row,) = (r for r in README.splitlines() if r.count("|") == 6 and words in r.split("|")[1])
        assert float(row.split("|")[2]) == round(milliseconds[case], 1)
    rates = result("load")["R3/full"]["epochs"]["rates"]
    names = {
        "**trainer**, host": "trainer, host memory",
        "**trainer**, streaming": "trainer, streaming",
        "memory-mapped": "one memory-mapped .npy",
        "Hugging Face": "HF datasets (Arrow)",
        "LitData": "LitData",
        "WebDataset": "WebDataset",
    }
    for words, case in names.items():
        (row,) = (r for r in README.splitlines() if r.count("|") == 6 and words in r.split("|")[4])
        shown = float(row.split("|")[5].replace(",", ""))
        assert shown == float(f"{rates[case]['samples_per_s']:.3g}")


def test_the_sizes_of_an_installation_are_those_that_were_measured() -> None:
    sizes = result("install_size")
    page = (DOCS / "install.md").read_text()
    for name, size in sizes.items():
        word = "–" if name == "base" else f"`{name}`"
        (row,) = re.findall(rf"^\| {word} \|.*", page, re.MULTILINE)
        assert row.endswith(f"| {size['packages']} | {size['MB']:,} |")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"base", "trainer"} <= set(sizes) <= {"base", *extras["optional-dependencies"]}


def test_the_readmes_five_numbers_are_those_of_the_records() -> None:
    faults, fuzz, training = result("faults"), result("fuzz"), result("train_faults")
    expected = [
        (
            faults["kills"]["killed with blocks pending"],
            faults["kills"]["not equal to an uninterrupted build"],
        ),
        (faults["flips"]["bits flipped"], faults["flips"]["found"], faults["flips"]["repaired"]),
        (fuzz["inputs"], fuzz["crashes"], fuzz["hangs"]),
        (
            training["kills"]["kills"],
            training["failing calls"]["failed calls"],
            training["kills"]["unequal"],
        ),
    ]
    section = README.split("## Why trust it")[1].split("\n## ")[0]
    bullets = [b for b in section.split("\n* ")[1:] if "10⁻⁵" not in b]
    shown = [
        tuple(int(n.replace(",", "")) for n in re.findall(r"\*\*([\d,]+)\*\*", b)) for b in bullets
    ]
    assert shown == expected
