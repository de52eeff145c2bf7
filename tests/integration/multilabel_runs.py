"""A small store of clips with several labels or none, and finished runs over it."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from featurestore import StoredDataset, open_store
from featurestore.building.build import build
from featurestore.datasets.collection import Naming, load_collection
from schemas import FeatureSpec, Stage
from tests.integration.trainer_store import CHUNK, RESOLUTIONS, place, sounds
from trainer.config import TrainingOptions
from trainer.plan import Plan, plan_run
from trainer.run import run

EPOCHS = 2


@cache
def several_store() -> Path:
    """The sounds of `tiny_store`: each class is a label, and some clips have more, some none."""
    root = sounds()
    rows = ["path,labels,fold"]
    for number, path in enumerate(sorted(root.rglob("*.wav"))):
        labels = [path.parent.name] + ["even"] * (number % 2 == 0) + ["third"] * (number % 3 == 0)
        fold = next(part for part in path.parts if part.startswith("fold"))[len("fold") :]
        listed = ";".join(labels) if number % 10 else ""
        rows.append(f"{path.relative_to(root).as_posix()},{listed},{fold}")
    table = place() / "several.csv"
    table.write_text("\n".join(rows))
    store = place() / "several.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurestore.store.plan.chunk_clips", lambda fold_sizes: CHUNK)
        spec = FeatureSpec(resolutions=RESOLUTIONS)
        build(load_collection(root, Naming("several"), table=table), store, spec)
    return store


def several_plan(**options: object) -> tuple[StoredDataset, Plan]:
    """A plan of an epoch at R1 and two at R3."""
    small = {
        "method": "resize",
        "folds": (1, 2),
        "init": "random",
        "epochs_scale": 0.01,
        "batch_size": 32,
        "arch": "timm:test_resnet",
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
    }
    dataset = open_store(several_store())
    plan = plan_run(dataset, TrainingOptions(**(small | options)))
    stages = (
        Stage(array=f"R1/{plan.config.method}", epochs=1, max_lr=1e-3),
        Stage(array="R3/full", epochs=EPOCHS, max_lr=1e-3),
    )
    return dataset, replace(plan, config=plan.config.model_copy(update={"stages": stages}))


def several_run(method: str = "resize") -> Path:
    """A finished run of folds 1 and 2; not to be changed."""
    out = place() / f"several-{method}"
    if not out.exists():
        run(*several_plan(method=method), out)
    return out
