"""`make demo`, from its script on: it learns, and ends with pictures and with what to do next."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_demo_learns_by_every_method_and_draws_what_it_names(tmp_path: Path) -> None:
    shutil.copy(ROOT / "demo.sh", tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    done = subprocess.run(
        ["sh", "demo.sh"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for method in ("baseline", "mel", "resize"):
        result = json.loads((tmp_path / "demo" / "runs" / method / "result.json").read_text())
        best = [fold["best_accuracy"] for fold in result["folds"]]
        assert sum(best) / len(best) >= 0.8, (method, best)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("Pictures: "))
    for picture in line.removeprefix("Pictures: ").split(", "):
        assert (tmp_path / picture).stat().st_size > 10_000
    (browse,) = (line for line in done.stdout.splitlines() if "featurestore browse" in line)
    with subprocess.Popen(
        shlex.split(browse), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as page:
        assert page.stdout is not None
        address = page.stdout.readline().strip()
        with urllib.request.urlopen(f"{address}data/demo.zarr/synthetic/runs.json") as answer:  # noqa: S310
            assert len(json.load(answer)["runs"]) == 2
        page.terminate()
    assert page.returncode == 143
