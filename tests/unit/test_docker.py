"""The files in docker/ name what exists: paths, programs, commands and their options.

That the images build and run is seen by docker/check.sh, which takes minutes and a root user.
"""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from distributed.cli import dask_scheduler, dask_worker

import featurestore.cli
import trainer.cli

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", (ROOT / "docker" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
TARGETS = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE))
PROGRAMS = {
    "featurestore": typer.main.get_command(featurestore.cli.app),
    "trainer": typer.main.get_command(trainer.cli.app),
    "dask scheduler": dask_scheduler.main,
    "dask worker": dask_worker.main,
}


def instructions(word: str) -> list[str]:
    """Return what follows a Dockerfile's instruction, each time."""
    return re.findall(rf"^{word} (.*)$", DOCKERFILE, flags=re.MULTILINE)


def parse(program: Any, arguments: list[str]) -> None:
    """Parse as the program would; raises click's errors where it would refuse."""
    context = program.make_context("program", list(arguments))
    if hasattr(program, "resolve_command"):
        name, command, rest = program.resolve_command(context, arguments)
        command.make_context(name, rest, parent=context)
    # Dask's commands hand what they do not know to a preloaded module.
    assert not context.params.get("preload_argv"), context.params["preload_argv"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_runs_a_command_that_its_program_understands(name: str) -> None:
    service = SERVICES[name]
    program = " ".join(service.get("entrypoint", [service["image"]]))
    parse(PROGRAMS[program], service["command"])


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_misspelt_option_in_the_compose_file_would_be_found(program: str) -> None:
    service = next(
        s for s in SERVICES.values() if " ".join(s.get("entrypoint", [s["image"]])) == program
    )
    with pytest.raises((Exception, SystemExit)):
        parse(PROGRAMS[program], [*service["command"], "--no-such-option"])


def test_services_are_built_from_targets_of_the_dockerfile_and_wait_for_services() -> None:
    for service in SERVICES.values():
        assert service["build"]["target"] == service["image"]
        assert service["image"] in TARGETS
        assert (ROOT / "docker" / service["build"]["context"] / "docker/Dockerfile").is_file()
        assert set(service.get("depends_on", {})) <= set(SERVICES)


def test_the_build_writes_the_store_that_training_reads_and_workers_see_the_same_volumes() -> None:
    stores = {
        argument
        for name in ("build", "train", "train-gpu")
        for argument in SERVICES[name]["command"]
        if argument.startswith("--store=")
    }
    assert len(stores) == 1
    volumes = [service["volumes"] for service in SERVICES.values()]
    assert all(volume == volumes[0] for volume in volumes)
    targets = [volume.split(":")[1] for volume in volumes[0]]
    assert str(targets).replace("'", '"') == instructions("VOLUME")[0]


def test_the_build_service_waits_for_no_answer_of_a_user() -> None:
    assert "--yes" in SERVICES["build"]["command"]


def test_only_the_gpu_service_reserves_a_gpu() -> None:
    reserving = [n for n, s in SERVICES.items() if "reservations" in str(s.get("deploy"))]
    assert reserving == ["train-gpu"]


def test_what_the_dockerfile_copies_exists_and_reaches_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    copied = [
        path
        for line in instructions("COPY")
        if not line.startswith("--from")
        for path in line.split()[:-1]
    ]
    assert "featurestore" in copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert any(fnmatch(path, pattern) for pattern in allowed), path


def test_the_files_that_the_metadata_names_are_copied() -> None:
    copied = {path for line in instructions("COPY") for path in line.split()[:-1]}
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= copied


def test_the_images_start_our_programs_as_a_user_who_is_not_root() -> None:
    assert instructions("ENTRYPOINT") == [f'["{name}"]' for name in PROJECT["scripts"]]
    assert instructions("USER") == ["1000:1000"] * 2


def test_the_base_image_is_pinned_and_the_stages_that_copy_are_there() -> None:
    assert re.search(r"^FROM \$\{PYTHON_IMAGE:-\S+@sha256:[0-9a-f]{64}\}", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"--from=(\S+)", DOCKERFILE)) <= TARGETS
    extras = set(re.findall(r"--extra (\w+)", DOCKERFILE))
    assert extras <= set(PROJECT["optional-dependencies"])
