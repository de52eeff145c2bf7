import re
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from featurestore import open_store
from tests.integration.trainer_store import tiny_store

EXAMPLES = Path(__file__).parents[2] / "examples"


def _needing(package: str, name: str) -> object:
    """One of a library that takes two seconds to import."""
    absent = pytest.mark.skipif(not find_spec(package), reason=f"{package} is not installed")
    return pytest.param(name, marks=[absent, pytest.mark.slow])


@pytest.mark.parametrize(
    "name",
    [
        "plain_pytorch",
        _needing("lightning", "lightning_module"),
        _needing("fastai", "fastai_learner"),
    ],
)
@pytest.mark.filterwarnings("default")  # of these packages' own
def test_an_example_learns_the_held_out_fold_better_than_guessing(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tiny_store()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", str(store), "30"])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    said = re.search(r"fold 1 held out: accuracy ([\d.]+)%$", capsys.readouterr().out.strip())
    assert said
    assert float(said[1]) / 100 > 2 / len(open_store(store).class_names)
    assert list(tmp_path.iterdir()) == []


def test_every_example_is_tried_and_in_the_documentation() -> None:
    page = (EXAMPLES.parent / "docs/howto/read.md").read_text()
    for file in EXAMPLES.glob("*.py"):
        assert f"examples/{file.name}" in page
        assert file.stem in Path(__file__).read_text()
