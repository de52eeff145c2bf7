"""Using networks in a process of little memory: one line that says what to do, and it works."""

import subprocess
import sys
from pathlib import Path

import pytest

from featurestore.building.build import build
from featurestore.datasets import load_dataset
from schemas import FeatureSpec, Resolution
from tests.integration.trainer_store import place, sounds

METHOD = "one: [{array: R3/full, epochs: 1, max_lr: 1e-4}]"

LIMITED = """
import io
import resource
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from featurestore.malloc import release_freed_memory
from trainer.cli import main

torch.set_num_threads(1)
*lr_find, sound = sys.argv[1:]
run = ["--run", "run", "--device", "cpu"]
evaluate, predict = ["evaluate", *run], ["predict", *run, sound]


def limit(megabytes):
    release_freed_memory()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20), resource.RLIM_INFINITY))


def call(*arguments):
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        code = main(list(arguments))
    print(code, said.getvalue().strip(), flush=True)


call(*evaluate, "--batch-size", "2")  # all libraries are loaded now
call(*predict)
limit(200)
call(*evaluate)
call(*evaluate, "--batch-size", "4")
limit(600)
call(*lr_find)
"""

EXPECTED = (
    "0 ",
    "0 ",
    "1 error: out of memory on cpu: a batch of 47 clips of R3/full 128×300 by resnet18 does not "
    "fit; halve --batch-size (now 47), or",
    "0 ",
    "1 error: out of memory on cpu: a step of 48 clips of R3/full 128×300 by resnet18 in float32 "
    "does not fit; halve --batch-size (now 48), or",
)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits address space")
def test_what_does_not_fit_is_one_line_and_a_smaller_batch_does_fit(
    tmp_path: Path,
) -> None:
    store = place() / "large.zarr"
    small = (Resolution(name="R1", n_mels=16, num_frames=16), FeatureSpec().resolutions[-1])
    build(load_dataset("synthetic", sounds()), store, FeatureSpec(resolutions=small))
    (tmp_path / "one.yaml").write_text(METHOD)
    options = ["--store", str(store), "--method", "one", "--methods-file", "one.yaml"]
    options += ["--arch", "resnet18", "--batch-size", "48", "--init", "random", "--threads", "1"]
    options += ["--precision", "float32", "--device", "cpu"]
    train = [sys.executable, "-m", "trainer", "run", *options, "--fold", "1", "--out", "run"]
    subprocess.run(train, cwd=tmp_path, check=True, capture_output=True)
    sound = next((sounds() / "audio").rglob("*.wav"))
    script = [sys.executable, "-c", LIMITED, "lr-find", *options, str(sound)]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(EXPECTED), done.stdout
    for line, start in zip(said, EXPECTED, strict=True):
        assert line.startswith(start.rstrip() if start == "0 " else start)
