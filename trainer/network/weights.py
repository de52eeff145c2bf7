"""What a network's body starts from: ImageNet's weights, a file's, or chance."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import torch
import torchvision
from torch import Tensor

from featurestore.download.fetch import Observe, ignore
from featurestore.files import read_regular
from trainer.errors import WeightsError
from trainer.files import read_tensors
from trainer.network.download import download

INITS = ("auto", "imagenet", "random")
"""What initial weights may be besides the path of a file."""
_MOST_BYTES = 4 << 30
_EDITION = "IMAGENET1K_V1"
"""torchvision's name of the weights of 2015 that the paper's fastai took."""
_GIVE_A_FILE = "Give the file with --init FILE, or --init random to start from random weights"


@dataclass(frozen=True)
class InitialWeights:
    """What a run starts from.

    Args:
        state: torchvision's state dict without `fc`; None for random weights.
        used: What it is, for the run's record.
        warning: What the user must know; None where they got what they asked for.
        sha256: Of their file; None for random weights.
    """

    state: Mapping[str, Tensor] | None
    used: Literal["imagenet", "random", "file"]
    warning: str | None = None
    sha256: str | None = None


def initial_weights(init: str, arch: str, observe: Observe = ignore) -> InitialWeights:
    """Find the initial weights.

    Args:
        init: `auto` (ImageNet's where they can be had, else random with a warning), `imagenet`,
            `random`, or the path of a state dict of torchvision's network.
        arch: Name of a ResNet of torchvision.
        observe: Told of each piece, where they must be downloaded.

    Raises:
        WeightsError: They cannot be had, or are another network's.
    """
    if init == "random":
        return InitialWeights(None, "random")
    if init not in ("auto", "imagenet"):
        return _of_file(Path(init), arch, "file")
    try:
        return _of_file(_imagenet(arch, observe), arch, "imagenet")
    except WeightsError as error:
        if init == "imagenet":
            raise WeightsError(f"ImageNet's weights of {arch}: {error}. {_GIVE_A_FILE}") from error
        return InitialWeights(None, "random", _fallback(arch, error))


def _of_file(path: Path, arch: str, used: Literal["imagenet", "file"]) -> InitialWeights:
    data = _read(path)  # once, so that what is used is what has this digest
    return InitialWeights(_body(path, data, arch), used, sha256=hashlib.sha256(data).hexdigest())


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file of weights.

    Raises:
        WeightsError: It cannot be read.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _MOST_BYTES, follow=True)
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be used as initial weights: {error.strerror}"
        ) from error


def _fallback(arch: str, error: WeightsError) -> str:
    return (
        f"training starts from random weights: ImageNet's of {arch} are not to be had ({error}). "
        "The paper found the same final accuracy without them"
    )


def imagenet_file(arch: str) -> tuple[str, Path]:
    """Address of torchvision's ImageNet weights, and where torch caches them."""
    url = torchvision.models.get_model_weights(arch)[_EDITION].url
    return url, Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name


def _imagenet(arch: str, observe: Observe) -> Path:
    """The file of ImageNet's weights, which is downloaded where it is not there."""
    url, cached = imagenet_file(arch)
    if not cached.is_file():
        try:
            download(url, cached, observe=observe)
        except WeightsError as error:
            raise WeightsError(f"not in {cached.parent}, nor from {error}") from error
    return cached


def read_weights(path: Path, arch: str) -> Mapping[str, Tensor]:
    """The body's parameters of a state dict on disk.

    Args:
        path: A file as torchvision publishes it, or of a network it could be loaded into.
        arch: The network they must fit; its classifier `fc` is left out.

    Raises:
        WeightsError: The file cannot be read, or does not fit.
    """
    return _body(path, _read(path), arch)


def _body(path: Path, data: bytes, arch: str) -> Mapping[str, Tensor]:
    try:
        state = read_tensors(io.BytesIO(data))
    except ValueError as error:
        raise WeightsError(f"{path}: cannot be used as initial weights: {error}") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path}: is no state dict but a {type(state).__name__}")
    body = {name: value for name, value in state.items() if not str(name).startswith("fc.")}
    _check_fits(path, body, arch)
    return body


def _check_fits(path: Path, state: Mapping[str, Tensor], arch: str) -> None:
    """Compare names and shapes with the network's, before any of it is loaded."""
    with torch.device("meta"):
        network = torchvision.models.get_model(arch, weights=None)
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    given = {name: getattr(value, "shape", None) for name, value in state.items()}
    wrong = [
        name
        for name in sorted(wanted.keys() | given.keys())
        if given.get(name) != wanted.get(name) and not _left_out(name)
    ]
    if wrong:
        raise WeightsError(
            f"{path}: is not of {arch}: {len(wrong)} parameters are missing, too many or of "
            f"another shape, such as {wrong[0]}. {_GIVE_A_FILE}"
        )


def _left_out(name: str) -> bool:
    """Whether a parameter may be absent: the classifier, and counters that old files lack."""
    return name.startswith("fc.") or name.endswith("num_batches_tracked")
