"""A finished run over the tiny store, made once and copied by tests that spoil it."""

import json
import os
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from tests.integration.trainer_store import place, tiny_plan
from tests.once import made_once
from trainer.run import run


@cache
def finished_run() -> Path:
    """Folds 1 and 2 of the tiny store, an epoch at R1 and one at R3; not to be changed."""

    def make(out: Path) -> None:
        dataset, plan = tiny_plan(folds=(1, 2))
        stages = plan.config.stages[::4]
        run(dataset, replace(plan, config=plan.config.model_copy(update={"stages": stages})), out)

    # A copy for each process: a command that reads a run may lock it.
    return shutil.copytree(made_once("run", make), Path(tempfile.mkdtemp(dir=place())) / "run")


def copied(run: Path, to: Path) -> Path:
    """A copy whose files are the same ones until they are replaced: it takes no time or room."""
    return shutil.copytree(run, to, copy_function=os.link)


def rewrite(path: Path, data: bytes) -> None:
    """Give a file of a copy other bytes; the file that it was copied from keeps its own."""
    path.unlink()
    path.write_bytes(data)


def as_older(run: Path) -> Path:
    """A copied run's directory, changed to what the version before wrote: without any digest."""
    for path in run.rglob("*.json"):
        content = json.loads(path.read_bytes())
        for name in ("sha256", "record_sha256", "files", "digests"):
            content.pop(name, None)
        rewrite(path, json.dumps(content, separators=(",", ":")).encode())
    for path in run.rglob("*.pt"):
        values = torch.load(path, weights_only=True)
        values = {n: v for n, v in values.items() if n not in ("features", "extractor_version")}
        path.unlink()
        torch.save(values, path)
    return run


@cache
def older_run() -> Path:
    """The finished run as the version before wrote it; not to be changed."""
    return as_older(copied(finished_run(), Path(tempfile.mkdtemp(dir=place())) / "run"))
