"""The README shows commands that parse, and leaves none of them, nor an option, out."""

import re
import shlex
from pathlib import Path

import pytest
import typer

import featurestore.cli
import trainer.cli

README = (Path(__file__).parents[2] / "README.md").read_text()
PROGRAMS = {
    name: typer.main.get_command(app)
    for name, app in (("featurestore", featurestore.cli.app), ("trainer", trainer.cli.app))
}
BLOCKS = re.findall(r"^```\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
LINES = [
    line.split("#")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.split(" ")[0] in PROGRAMS
]


@pytest.mark.parametrize("line", LINES)
def test_every_command_in_the_readme_parses(line: str) -> None:
    program, command, *arguments = shlex.split(line)
    group = PROGRAMS[program]
    context = group.make_context(program, [command, *arguments], resilient_parsing=False)
    name, found, rest = group.resolve_command(context, [command, *arguments])  # type: ignore[attr-defined]
    assert name == command
    found.make_context(command, rest, parent=context)


def test_the_readme_shows_commands_of_both_programs() -> None:
    assert {line.split()[0] for line in LINES} == set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_and_option_is_in_the_readme(program: str) -> None:
    for name, command in PROGRAMS[program].commands.items():  # type: ignore[attr-defined]
        assert f"{program} {name}" in README
        for parameter in command.params:
            options = [o for o in parameter.opts if o.startswith("--") and o != "--help"]
            assert all(option in README for option in options), (name, options)
