"""The notebooks of the documentation run from the first cell to the last, in an empty directory."""

import os
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def test_the_notebooks_are_in_the_documentation() -> None:
    page = (NOTEBOOKS[0].parents[1] / "howto" / "index.md").read_text()
    assert len(NOTEBOOKS) == 4
    assert all(f"../notebooks/{notebook.stem}\n" in page for notebook in NOTEBOOKS)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_error_and_no_path_of_a_machine(notebook: Path) -> None:
    text = notebook.read_text()
    assert '"output_type": "error"' not in text
    assert not [
        word
        for word in ("tmp", "home", "root", "work")
        if f'"/{word}/' in text or f" /{word}/" in text
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the notebook's own packages
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    book = nbformat.read(notebook, as_version=4)
    client = nbclient.NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shell = [
        output.get("text", "")
        for cell in book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.get("output_type") == "stream"
    ]
    assert not [text for text in shell if "error:" in text or "Traceback" in text]
