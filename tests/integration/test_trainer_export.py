import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import softmax

from featurestore import open_store
from tests.integration.trainer_runs import finished_run
from tests.integration.trainer_store import tiny_store
from trainer.cli import main
from trainer.errors import ExportError
from trainer.inference import export
from trainer.inference.predict import TrainedNetwork, load_network, mean_probabilities, open_run

CPU = torch.device("cpu")


def made(tmp_path: Path, wanted: str) -> Path:
    path = tmp_path / f"network.{wanted}"
    arguments = ["--run", finished_run(), "--fold", 1, "--format", wanted, "--out", path]
    assert main(["export", *map(str, arguments)]) == 0
    return path


def network(fold: int = 1) -> TrainedNetwork:
    return load_network(open_run(finished_run()), fold, "best", CPU)


def check_metadata(text: str) -> None:
    found, store = json.loads(text), open_store(tiny_store())
    assert found["class_names"] == list(store.class_names)
    assert found["array"] == network().array
    assert (found["bands"], found["frames"]) == store.shape(network().array)
    assert found["features"] == store.manifest.spec.model_dump(mode="json")
    assert found["fingerprint"] == store.fingerprint


def check_answers(ask: Any) -> None:
    """The file says of stored clips what the network says, whatever their number."""
    store, original = open_store(tiny_store()), network()
    stored, _ = store.load(original.array, [1])
    for size in (1, 3, 48):
        images = stored[:size, None].astype(np.float32)
        shares = softmax(torch.as_tensor(ask(images)), dim=1).numpy()
        ours = [
            mean_probabilities([original], {original.array: image}, store.manifest.spec)
            for image in stored[:size]
        ]
        np.testing.assert_allclose(shares, ours, atol=1e-4)


@pytest.mark.slow
def test_torch_export_by_default_next_to_its_network_answers_as_it_and_says_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(finished_run(), tmp_path / "run")
    assert main(["export", "--run", str(run), "--fold", "1", "--format", "torch-export"]) == 0
    assert "checked: its logits differ from the network's by" in capsys.readouterr().out
    extra: dict[str, Any] = {export.METADATA: ""}
    loaded = torch.export.load(run / "fold1" / "best.pt2", extra_files=extra).module()
    check_metadata(extra[export.METADATA])
    check_answers(lambda images: loaded(torch.from_numpy(images)).detach())


@pytest.mark.slow
def test_onnx_answers_as_the_network_and_says_what_it_is(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    session = onnxruntime.InferenceSession(made(tmp_path, "onnx"))
    check_metadata(session.get_modelmeta().custom_metadata_map[export.METADATA])
    check_answers(lambda images: session.run(None, {"images": images})[0])


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    record = open_run(finished_run()).record
    other = export.export(record, network(2), "torch-export").data
    read = export._FORMATS["torch-export"][1]
    monkeypatch.setitem(export._FORMATS, "torch-export", (lambda *_: other, read))
    with pytest.raises(ExportError, match=r"torch-export: the file's logits differ.*not kept"):
        export.export(record, network(1), "torch-export")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--fold 3 --format onnx", 1, "no network held out fold 3"),
        ("--fold 1 --format torch-export --out absent/x.pt2", 1, "absent: no such directory"),
        ("--fold 1 --format tflite", 2, "format"),
        ("--fold 1 --format torchscript", 2, "format"),
        ("--format onnx", 2, "fold"),
    ],
)
def test_bad_arguments_are_one_clear_error(
    arguments: str,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--run", str(finished_run()), *arguments.split()]) == code
    error = capsys.readouterr().err
    assert message in error
    if code == 1:
        assert error.startswith("error: ")
        assert error.count("\n") == 1


def test_onnx_without_its_libraries_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    arguments = ["export", "--run", str(finished_run()), "--fold", "1", "--format", "onnx"]
    assert main(arguments) == 1
    assert "onnx is not installed: pip install 'featurestore[export]'" in capsys.readouterr().err
