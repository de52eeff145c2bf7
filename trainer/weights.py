"""Initial weights of a network's body: from ImageNet, from a file, or random."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
import torchvision
from torch import Tensor

from featurestore.download.fetch import Observe, Patience, RemoteFile, fetch_file, ignore
from featurestore.errors import DownloadError, cause
from featurestore.files import read_regular
from schemas import InitUsed
from trainer.errors import WeightsError
from trainer.model import TIMM, mismatch, one_channel_state, safetensors, state_digest, timm_body
from trainer.safefiles import read_tensors

PATIENCE = Patience(silence_s=10.0, limit_s=900.0, tries=3)
"""Time limits of the download: 87 MB at 100 kB/s take 15 minutes."""

INITS = ("auto", "imagenet", "random")
"""Values of `init` other than paths of files."""
_MOST_BYTES = 4 << 30
_CONVERTIBLE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_EDITION = "IMAGENET1K_V1"
"""torchvision's name for the weights of 2015, which the paper's fastai used."""
_GIVE_A_FILE = "Give the file with --init FILE, or --init random to start from random weights"


@dataclass(frozen=True)
class InitialWeights:
    """The initial weights of a run, read and hashed only once.

    Args:
        state: State dict of the body: torchvision's without `fc`, or timm's for one channel; None
            for random weights.
        used: Origin of the weights, for the run's record.
        warning: Warning if they are not the requested ones, else None.
        sha256: Digest of their file, or of the weights loaded by timm; None for random weights.
    """

    state: Mapping[str, Tensor] | None
    used: InitUsed
    warning: str | None = None
    sha256: str | None = None


def initial_weights(init: str, arch: str, observe: Observe = ignore) -> InitialWeights:
    """Read the initial weights, downloading those of ImageNet first if necessary.

    Args:
        init: `auto` (ImageNet's if available, else random with a warning), `imagenet`, `random`, or
            the path of a state dict. For timm's models, `imagenet` means timm's published weights.
        arch: Name of a network, see `trainer.model.check_arch`.
        observe: Called after each piece of a download of torchvision's weights.

    Raises:
        WeightsError: They are unavailable, or belong to another network.
    """
    if init == "random":
        return InitialWeights(None, "random")
    if init not in ("auto", "imagenet"):
        return _of_file(Path(init), arch, "file")
    published = f"{'timm' if arch.startswith(TIMM) else 'ImageNet'}'s weights of {arch}"
    try:
        if arch.startswith(TIMM):
            state = timm_body(arch, pretrained=True).state_dict()
            return InitialWeights(state, "timm", sha256=state_digest(state))
        return _of_file(_imagenet(arch, observe), arch, "imagenet")
    except WeightsError as error:
        if init == "imagenet":
            raise WeightsError(f"{published}: {error}. {_GIVE_A_FILE}") from error
        warning = f"training starts from random weights: {published} are unavailable ({error})"
        if not arch.startswith(TIMM):
            warning += ". The paper found the same final accuracy without them"
        return InitialWeights(None, "random", warning)


def _of_file(path: Path, arch: str, used: InitUsed) -> InitialWeights:
    data = _read(path)  # once, so that what is used is what has this digest
    return InitialWeights(_body(path, data, arch), used, sha256=hashlib.sha256(data).hexdigest())


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 digest (hex) of a file of weights.

    Raises:
        WeightsError: The file cannot be read.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _MOST_BYTES, follow=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be used as initial weights: {cause(error)}") from error


def imagenet_file(arch: str) -> tuple[str, Path]:
    """Return the URL of torchvision's ImageNet weights, and their path in torch's cache."""
    url = torchvision.models.get_model_weights(arch)[_EDITION].url
    return url, Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name


def _imagenet(arch: str, observe: Observe) -> Path:
    """Return the file of ImageNet's weights, downloaded if it is not there."""
    url, cached = imagenet_file(arch)
    if not cached.is_file():
        try:
            download(url, cached, observe=observe)
        except WeightsError as error:
            raise WeightsError(f"not in {cached.parent}, nor from {error}") from error
    return cached


def download(
    url: str, target: Path, patience: Patience = PATIENCE, observe: Observe = ignore
) -> None:
    """Download a file of weights atomically.

    If the name ends with `-` and eight hexadecimal digits before its suffix, as torchvision's do,
    these must be the first digits of the file's SHA-256. What was received before a failure is kept
    next to the target, and the next call resumes from there.

    Args:
        url: http, https or file URL.
        target: Path to write; its folder is created if missing.
        patience: Time limits and number of attempts.
        observe: Called after each piece.

    Raises:
        WeightsError: The file is unavailable, or its digest does not match its name.
    """
    promised = re.search(r"-([0-9a-f]{8})\.\w+$", urlsplit(url).path)
    checksum = f"sha256:{promised[1]}" if promised else ""
    try:
        fetch_file(RemoteFile(url, checksum), target, patience, observe)
    except DownloadError as error:
        raise WeightsError(str(error)) from error


def _body(path: Path, data: bytes, arch: str) -> Mapping[str, Tensor]:
    try:
        state = safetensors(data) if path.suffix == ".safetensors" else read_tensors(data)
    except ValueError as error:
        raise WeightsError(f"{path}: cannot be used as initial weights: {error}") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path}: is no state dict but a {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise WeightsError(
                f"{path}: {name!r} is a {type(value).__name__}, expected a tensor: is the state "
                f"dict inside it? {_GIVE_A_FILE}"
            )
    # First: of tensors of another kind, none can be told what is wrong once they are converted.
    _check_numbers(path, state)
    if arch.startswith(TIMM):
        try:
            body = one_channel_state(arch, state)
        except ValueError as error:
            raise WeightsError(f"{path}: {error}. {_GIVE_A_FILE}") from error
    else:
        body = {name: value for name, value in state.items() if not str(name).startswith("fc.")}
        # On the meta device parameters have shapes and no memory.
        with torch.device("meta"):
            network = torchvision.models.get_model(arch, weights=None)
        if unlike := mismatch(arch, body, network.state_dict(), _optional):
            raise WeightsError(f"{path}: {unlike}. {_GIVE_A_FILE}")
    _check_numbers(path, _summed(body, arch))
    return body


def _summed(body: Mapping[str, Tensor], arch: str) -> Mapping[str, Tensor]:
    """Return the weights that are sums over colour channels, which may exceed the summands."""
    if arch.startswith(TIMM):
        return body  # timm has summed them
    return {"conv1.weight, summed over colours,": body["conv1.weight"].float().sum(dim=1)}


def _check_numbers(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are integers, as of a quantised network, or not finite in float32."""
    for key, value in state.items():
        if (name := str(key)).startswith("fc."):
            continue
        if value.layout is not torch.strided or value.is_meta:
            what = "has no values" if value.is_meta else f"is {value.layout}"
            raise WeightsError(f"{path}: {name} {what}, expected a dense tensor. {_GIVE_A_FILE}")
        if _optional(name):
            continue
        if value.dtype not in _CONVERTIBLE:
            raise WeightsError(
                f"{path}: {name} is of {value.dtype}, expected floating-point numbers: is this a "
                f"quantised network? {_GIVE_A_FILE}"
            )
        if not torch.isfinite(value.float()).all():
            raise WeightsError(
                f"{path}: {name} has values that are NaN or infinite in float32. {_GIVE_A_FILE}"
            )


def _optional(name: str) -> bool:
    """Return whether a parameter may be absent: the classifier's, or counters old files lack."""
    return name.startswith("fc.") or name.endswith("num_batches_tracked")
