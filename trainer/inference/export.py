"""Export of networks to other formats, checked before the file is kept.

In every format, the network takes `images` (batch, 1, bands, frames) float32 in [0, 1] with any
batch size, returns `logits` (batch, classes), and has a description as JSON under `METADATA`.
"""

import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schemas import RunRecord
from trainer.errors import ExportError
from trainer.inference.predict import TrainedNetwork
from trainer.oom import explain_oom

Format = Literal["onnx", "torch-export"]
Array = NDArray[np.float32]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2"}
METADATA = "featurestore.json"
"""Name of the extra file in PyTorch's format, and of the metadata property in ONNX."""
INPUT, OUTPUT = "images", "logits"

_CHECKED_BATCHES = (1, 2, 5)
_TOLERANCE = 1e-4
"""Tolerance relative to the largest absolute logit, or to 1, for float32 sums in another order."""


@dataclass(frozen=True)
class Exported:
    """Content of an exported file.

    Args:
        data: Content of the file.
        difference: Largest absolute difference of its logits from the network's.
    """

    data: bytes
    difference: float


class _Named(nn.Module):
    """The network with its input named as in the file."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.network(images)
        return logits


def metadata(record: RunRecord, network: TrainedNetwork) -> dict[str, Any]:
    """Return a JSON-ready description of the file and its input."""
    bands, frames = record.features.arrays[network.array]
    return {
        "class_names": list(record.class_names),
        "probabilities": "sigmoid" if record.config.task == "multilabel" else "softmax",
        "array": network.array,
        "bands": bands,
        "frames": frames,
        "features": record.features.model_dump(mode="json"),
        "extractor_version": record.extractor_version,
        "fingerprint": record.fingerprint,
        "fold": network.fold,
        "epoch": network.checkpoint.epoch,
        "config": record.config.model_dump(mode="json"),
        "versions": record.versions,
    }


def export(record: RunRecord, network: TrainedNetwork, output_format: Format) -> Exported:
    """Convert a network to another format, and compare the outputs of both.

    Args:
        record: Record of the network's run.
        network: Network, on the CPU.
        output_format: Format; `onnx` needs the extra `export`.

    Raises:
        ExportError: The network cannot be converted, or the file gives other results.
        DeviceMemoryError: There is too little memory.
        ModuleNotFoundError: The format needs a library that is not installed.
    """
    shape = (1, *record.features.arrays[network.array])
    model = _Named(network.model).to(memory_format=torch.contiguous_format).eval()
    write, read = _FORMATS[output_format]
    text = json.dumps(metadata(record, network), indent=2)
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # the exporters' own
            torch.no_grad(),
            explain_oom(
                lambda: (
                    f"out of memory: {output_format} of {record.config.arch} takes several "
                    "times its size; end other programs"
                )
            ),
        ):
            data = write(model, torch.zeros(2, *shape), text)
            difference = _difference(model, read(data), shape)
    except RuntimeError as error:
        raise ExportError(f"{output_format}: {' '.join(str(error).split())[:300]}") from error
    if not difference <= _TOLERANCE:
        raise ExportError(
            f"{output_format}: the file's logits differ from the network's by {difference:.2g} "
            f"(relative; {_TOLERANCE:g} is allowed), so it was not kept; try another format"
        )
    return Exported(data, difference)


def _difference(model: nn.Module, ask: Callable[[Array], Array], shape: tuple[int, ...]) -> float:
    """Return the largest difference over batches of several sizes, relative to max(|logit|, 1)."""
    random = np.random.default_rng(0)
    worst = 0.0
    for size in _CHECKED_BATCHES:
        images = random.random((size, *shape), np.float32)
        logits = model(torch.from_numpy(images)).numpy()
        gap = np.abs(logits - ask(images)).max() / max(1.0, float(np.abs(logits).max()))
        worst = max(worst, float(gap)) if np.isfinite(gap) else float("inf")
    return worst


def _dynamic() -> dict[str, dict[int, Any]]:
    return {INPUT: {0: torch.export.Dim("batch")}}


def _write_torch_export(model: nn.Module, example: Tensor, text: str) -> bytes:
    buffer = io.BytesIO()
    program = torch.export.export(model, (example,), dynamic_shapes=_dynamic())
    torch.export.save(program, buffer, extra_files={METADATA: text})
    return buffer.getvalue()


def _read_torch_export(data: bytes) -> Callable[[Array], Array]:
    loaded = torch.export.load(io.BytesIO(data)).module()
    return lambda images: loaded(torch.from_numpy(images)).numpy()


def _write_onnx(model: nn.Module, example: Tensor, text: str) -> bytes:
    import onnx  # noqa: F401 - the exporter's own error is of many lines
    import onnxscript  # noqa: F401

    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        verbose=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=_dynamic(),
    )
    if program is None:
        raise ExportError("onnx: the exporter gave nothing")
    proto = program.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA, text
    return bytes(proto.SerializeToString())


def _read_onnx(data: bytes) -> Callable[[Array], Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


_Write = Callable[[nn.Module, Tensor, str], bytes]
_Read = Callable[[bytes], Callable[[Array], Array]]
_FORMATS: dict[Format, tuple[_Write, _Read]] = {
    "onnx": (_write_onnx, _read_onnx),
    "torch-export": (_write_torch_export, _read_torch_export),
}
