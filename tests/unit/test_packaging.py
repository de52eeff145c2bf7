"""Contents of the package: metadata, licence, citation, and bounds that were tried."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from featurestore.datasets import esc50, urbansound8k

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
REQUIREMENTS = [
    requirement
    for line in (*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra))
    if (requirement := Requirement(line)).name != "featurestore"
]
PINS = {
    name.lower(): Version(version)
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE
    )
}
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def lowest(requirement: Requirement) -> Version | None:
    """Return the lower bound of a requirement; None if it has none."""
    bounds = [Version(s.version) for s in requirement.specifier if s.operator in {">=", "==", "~="}]
    return max(bounds, default=None)


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_every_dependency_has_a_lower_bound_and_a_pin_that_is_not_below_it(
    requirement: Requirement,
) -> None:
    bound = lowest(requirement)
    assert bound is not None
    assert PINS[requirement.name.lower()] >= bound


def test_a_dependency_without_a_bound_would_be_found() -> None:
    assert lowest(Requirement("matplotlib")) is None
    assert lowest(Requirement("matplotlib<4")) is None


def test_the_licence_is_named_once_as_pep_639_has_it() -> None:
    assert PROJECT["license"] == "MIT"
    assert not [c for c in PROJECT["classifiers"] if c.startswith("License ::")]
    for name in PROJECT["license-files"]:
        assert "MIT License" in (ROOT / name).read_text()
    assert PROJECT["authors"]


def test_the_citation_is_of_this_version_and_names_the_paper_and_the_datasets() -> None:
    required = {"cff-version", "message", "title", "authors"}
    assert required <= CITATION.keys()
    assert (CITATION["version"], CITATION["license"]) == (PROJECT["version"], PROJECT["license"])
    titles = {reference["title"]: reference for reference in CITATION["references"]}
    assert any("Progressive training" in title for title in titles)
    for module in (esc50, urbansound8k):
        source = Path(module.__file__).read_text()
        (title,) = (title for title in titles if title in source)
        assert str(titles[title]["year"]) in source


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_the_files_that_a_guide_names_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    paths = re.findall(r"`((?:tests|schemas|featurestore|trainer|\.ci)/[\w./-]*)`", text)
    paths += re.findall(r"\]\((?!http)([^)#]+)\)", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_no_file_at_the_root_is_empty() -> None:
    assert [
        file.name for file in ROOT.iterdir() if file.is_file() and not file.stat().st_size
    ] == []
