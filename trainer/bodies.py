"""Bodies of networks by name: torchvision's ResNets, and any model of timm. The one owner of timm.

A body is what comes before the paper's head: images with one channel in, features out. timm's are
made as timm makes them, pooling included, for one channel and without a classifier; what would drop
at random in them is off, so that the head's dropout, whose numbers come from the run's seed, is the
only chance in a training step.
"""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainer.errors import ConfigError, WeightsError, in_a_line

RESNETS = ("resnet18", "resnet34", "resnet50")
TIMM = "timm:"


def check_arch(arch: str) -> None:
    """Refuse a network that there is not.

    Raises:
        ConfigError: Neither torchvision nor timm has it.
        ModuleNotFoundError: It is timm's, and timm is not installed.
    """
    if arch in RESNETS:
        return
    if not arch.startswith(TIMM):
        near = difflib.get_close_matches(arch, RESNETS, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"no network {arch!r}; there are: {', '.join(RESNETS)}, and {TIMM}NAME for any of "
            f"timm's{meant}"
        )
    import timm

    name = arch.removeprefix(TIMM)
    # After a dot, timm's names say which of a model's published weights are meant.
    known = timm.list_pretrained() if "." in name else timm.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        meant = f"; did you mean {' or '.join(TIMM + one for one in near)}?" if near else ""
        raise ConfigError(f"timm {timm.__version__} has no model {name!r}{meant}")


def check_shapes(arch: str, shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuse a network that cannot take images of these shapes; ResNets take all.

    Args:
        arch: A name that `check_arch` accepts.
        shapes: (bands, frames) of each kind of image.

    Raises:
        ConfigError: It cannot, such as one for images of a fixed size.
    """
    if not arch.startswith(TIMM):
        return
    body = timm_body(arch).eval()
    for shape in dict.fromkeys(shapes):
        sizes = "×".join(map(str, shape))
        try:
            with torch.inference_mode():
                features = body(torch.zeros(1, 1, *shape))
        except Exception as error:  # each model says it in its own way
            raise ConfigError(
                f"{arch} cannot take images of {sizes}: {in_a_line(error)}; choose another --arch"
            ) from error
        if features.ndim != 2:
            raise ConfigError(
                f"{arch} gives features {tuple(features.shape)[1:]} for an image of "
                f"{sizes}, expected one row; choose another --arch"
            )


def timm_body(arch: str, *, pretrained: bool = False) -> nn.Module:
    """Return a model of timm for one channel, without its classifier.

    Args:
        arch: `timm:` and the model's name.
        pretrained: Whether it has the weights that timm publishes, from the network or its cache;
            else they are random.

    Raises:
        WeightsError: The published weights are unavailable.
    """
    import timm

    name = arch.removeprefix(TIMM)
    options: dict[str, Any] = {"in_chans": 1, "num_classes": 0}
    try:
        try:
            # Transformers then take images of any size, another one in each stage.
            sizes: dict[str, Any] = {"dynamic_img_size": True, "dynamic_img_pad": True}
            body = timm.create_model(name, pretrained, **options, **sizes)
        except TypeError:
            body = timm.create_model(name, pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise
        # Of a network, of a server, of a cache: each library has its own.
        raise WeightsError(f"timm's weights of {name}: {in_a_line(error)}") from error
    for layer in body.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.p = 0.0
        if hasattr(layer, "drop_prob"):  # timm's own kinds
            setattr(layer, "drop_prob", 0.0)  # noqa: B010 - typed as a module's submodule
    return body


def one_channel_state(arch: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of a whole model as that of its body for one channel, as timm adapts it.

    Args:
        arch: `timm:` and the model's name.
        state: For one or three channels and any number of classes.

    Raises:
        ValueError: It is another model's.
    """
    from timm.models import adapt_input_conv

    body = timm_body(arch)
    expected = {name: tensor.shape for name, tensor in body.state_dict().items()}
    published: dict[str, Any] = vars(body)["pretrained_cfg"]
    classifier = published.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    prefixes = tuple(f"{name}." for name in names)
    adapted = {}
    for name, tensor in state.items():
        if name not in expected and name.startswith(prefixes):
            continue
        one_channel = torch.Size([*tensor.shape[:1], 1, *tensor.shape[2:]])
        if tensor.ndim == 4 and tensor.shape[1] == 3 and expected.get(name) == one_channel:
            adapted[name] = adapt_input_conv(1, tensor)
        else:
            adapted[name] = tensor
    shapes = {name: tensor.shape for name, tensor in adapted.items()}
    wrong = sorted(n for n in expected.keys() | shapes.keys() if expected.get(n) != shapes.get(n))
    if wrong:
        raise ValueError(
            f"is not of {arch}: {len(wrong)} parameters are missing, too many or of another shape, "
            f"such as {wrong[0]}"
        )
    return adapted


def num_outputs(body: nn.Module) -> int:
    """Return the number of features that a model of `timm_body` gives for an image."""
    number: int = getattr(body, "head_hidden_size", None) or getattr(body, "num_features")  # noqa: B009
    return number


def safetensors(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file of safetensors, the format that timm publishes.

    Raises:
        ValueError: It is damaged, or no such file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except SafetensorError as error:
        raise ValueError(f"no safetensors file, or damaged: {in_a_line(error)}") from error


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes, types and bytes of a state dict."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
