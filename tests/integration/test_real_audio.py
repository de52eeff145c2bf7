"""The real collections, end to end."""

import re
from pathlib import Path

import numpy as np
import pytest

import featurestore
from featurestore.building.build import BuildOptions, build
from featurestore.checking.verify import verify
from featurestore.datasets import load_dataset
from featurestore.errors import StrictError
from tests.conftest import SHARED_DATA, needs_real_audio

pytestmark = needs_real_audio
US8K = SHARED_DATA / "urbansound8k-originals"


@pytest.mark.slow
def test_esc10_builds_whole_and_verifies_against_its_files(tmp_path: Path) -> None:
    report = build(load_dataset("esc10", SHARED_DATA / "esc10"), tmp_path / "s.zarr")
    assert report.manifest.counts == {"ok": 400}
    store = featurestore.open_store(tmp_path / "s.zarr")
    assert store.folds == (1, 2, 3, 4, 5)
    assert np.bincount(store.clips().class_id).tolist() == [40] * 10
    found = [p for part in verify(tmp_path / "s.zarr", root=SHARED_DATA / "esc10") for p in part]
    assert found == []


@pytest.mark.slow
def test_the_python_examples_of_the_documentation_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build(load_dataset("esc10", SHARED_DATA / "esc10"), tmp_path / "esc10.zarr")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/howto/read.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(examples) == 6
    for example in examples:
        exec(example, {})  # noqa: S102  (our own examples)
    accuracy = re.search(r"fold 1: ([\d.]+)%", capsys.readouterr().out)
    assert accuracy is not None
    assert float(accuracy[1]) > 25, "a linear model on mean spectra; chance is 10 %"


@pytest.mark.slow
def test_the_37_original_urbansound8k_clips_build_and_the_rest_is_counted_as_missing(
    tmp_path: Path,
) -> None:
    dataset = load_dataset("urbansound8k", US8K)
    report = build(dataset, tmp_path / "s.zarr")
    assert report.manifest.counts == {"ok": 37, "missing": 8695}
    store = featurestore.open_store(tmp_path / "s.zarr")
    assert len(store.clips()) == len(store.load("R1/mel")[0]) == 37
    present = {path.name for path in US8K.rglob("*.wav")}
    assert set(store.clips().clip_id) == present
    with pytest.raises(StrictError):
        build(dataset, tmp_path / "strict.zarr", options=BuildOptions(strict=True))
