"""Networks by name: a one-channel body from torchvision or timm, and the paper's head.

The only module that imports timm. Its models are used as they are, including pooling, for one
channel and without a classifier. Their own dropout is disabled, so that the head's dropout, whose
random numbers come from the run's seed, is the only randomness in a training step.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from featurestore.text import did_you_mean
from schemas import FirstConv, LayerGroups
from trainer.errors import ConfigError, WeightsError, in_a_line

RESNETS = ("resnet18", "resnet34", "resnet50")
TIMM = "timm:"
HIDDEN = 512
DROPOUTS = (0.25, 0.5)
_UPPER = ("layer3.", "layer4.")
"""Residual stages of the second of three layer groups."""

_GLOBAL_GENERATOR = threading.Lock()
"""Held while weights are drawn, as torchvision uses the global generator."""


class ConcatPool(nn.Module):
    """Pooling from (n, c, h, w) to (n, 2c): the maximum of each channel, then its mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Return maxima and means (n, 2c) of an input (n, c, h, w)."""
        # `max` over one axis, because its gradient is the same on every run.
        flat = x.flatten(2)
        return torch.cat([flat.max(dim=2).values, flat.mean(dim=2)], dim=1)


class Head(nn.Sequential):
    """A sequence of layers whose dropout can take its random numbers as an argument.

    With the noise as an argument, a training step is deterministic: it can be compiled and
    recorded, and folds that train in parallel do not share a generator.
    """

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the logits.

        Args:
            x: (n, features).
            noise: (n, at least `noise_size`) independent uniform numbers in [0, 1), of which the
                first columns are used: a value is dropped if its number is below the layer's p.
                None for the layers' own dropout.
        """
        for layer in self:
            if noise is None or not isinstance(layer, nn.Dropout):
                x = layer(x)
            else:
                own, noise = noise[:, : x.shape[1]], noise[:, x.shape[1] :]
                x = x * (own >= layer.p) / (1 - layer.p)
        return x


def make_head(num_features: int, num_classes: int) -> Head:
    """Return the classifier after pooling: (n, num_features) → logits (n, num_classes).

    Kaiming-normal weights, zero biases. 533,002 parameters for 1024 features and 10 classes.

    Source: PROTOCOL section 2 (read in fastai 1.0.58).
    """
    head = Head(
        nn.BatchNorm1d(num_features),
        nn.Dropout(DROPOUTS[0]),
        nn.Linear(num_features, HIDDEN),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(HIDDEN),
        nn.Dropout(DROPOUTS[1]),
        nn.Linear(HIDDEN, num_classes),
    )
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return head


class Network(nn.Module):
    """The whole network: (n, 1, bands, frames) float32 in [0, 1] → logits (n, num_classes).

    `body` is torchvision's ResNet with one input channel and `ConcatPool`, or a model of timm with
    its own pooling (`timm_body`); `head` is `make_head`. By default the weights of a ResNet's first
    convolution are the sum over torchvision's three channels, so that the body's output equals that
    of the three-channel one for a grey image.

    Args:
        arch: Name of a network, see `check_arch`.
        num_classes: Number of outputs.
        body_state: `InitialWeights.state`; None for the library's random initialisation.
        first_conv: How a ResNet's one-channel weights are derived, see `schemas.FirstConv`.

    Attributes:
        noise_size: Number of random numbers per clip for dropout.
    """

    def __init__(
        self,
        arch: str,
        num_classes: int,
        body_state: Mapping[str, Tensor] | None = None,
        first_conv: FirstConv = "sum",
    ) -> None:
        super().__init__()
        self.body: nn.Module
        if arch.startswith(TIMM):
            self.body = timm_body(arch)
            if body_state is not None:
                self.body.load_state_dict(body_state)
            num_features = num_outputs(self.body)
        else:
            self.body, num_features = _resnet(arch, body_state, first_conv)
        self.head = make_head(num_features, num_classes)
        self.noise_size = num_features + HIDDEN

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the logits of a batch; see `Head` for the noise."""
        logits: Tensor = self.head(self.body(x), noise)
        return logits

    def layer_groups(self, number: LayerGroups) -> tuple[list[nn.Parameter], ...]:
        """Return the trainable parameters in groups from the input to the output.

        Two groups are the body and the head; for three, the body is cut before its third residual
        stage.

        Source: PROTOCOL section 2 (read in fastai 1.0.58: a ResNet's cut is its child 6).
        """
        body = {name: p for name, p in self.body.named_parameters() if p.requires_grad}
        upper = [p for name, p in body.items() if name.startswith(_UPPER)]
        lower = [p for name, p in body.items() if not name.startswith(_UPPER)]
        parts = ([*body.values()],) if number == 2 else (lower, upper)
        return (*parts, list(self.head.parameters()))


def _resnet(
    arch: str, state: Mapping[str, Tensor] | None, first_conv: FirstConv
) -> tuple[nn.Module, int]:
    """Return a ResNet's body and its number of features."""
    body = torchvision.models.get_model(arch, weights=None)
    num_features = 2 * body.fc.in_features  # of `ConcatPool`
    body.fc = nn.Identity()
    if state is not None:
        body.load_state_dict(state, strict=False)
    body.conv1 = _one_channel(body.conv1, first_conv)
    body.avgpool = ConcatPool()
    return body, num_features


def _one_channel(conv: nn.Conv2d, how: FirstConv) -> nn.Conv2d:
    weights = conv.weight.detach()
    red = how == "red-frozen"
    weight = weights[:, :1].clone() if red else weights.sum(dim=1, keepdim=True)
    shape = conv.kernel_size, conv.stride, conv.padding
    single = nn.Conv2d(1, conv.out_channels, *shape, bias=False)  # type: ignore[arg-type]
    single.weight = nn.Parameter(weight, requires_grad=not red)
    return single


def build_model(
    arch: str,
    num_classes: int,
    seed: int,
    body_state: Mapping[str, Tensor] | None = None,
    first_conv: FirstConv = "sum",
) -> Network:
    """Return a network whose random weights depend on the seed alone.

    Args:
        arch: Name of a network, see `check_arch`.
        num_classes: Number of outputs.
        seed: Seed of the random weights, in [0, 2**63).
        body_state: See `Network`.
        first_conv: See `Network`.
    """
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(arch, num_classes, body_state, first_conv)


def check_arch(arch: str) -> None:
    """Check that a network exists.

    Raises:
        ConfigError: Neither torchvision nor timm has it.
        ModuleNotFoundError: It is one of timm's, and timm is not installed.
    """
    if arch in RESNETS:
        return
    if not arch.startswith(TIMM):
        raise ConfigError(
            f"no network {arch!r}; there are: {', '.join(RESNETS)}, and {TIMM}NAME for any of "
            f"timm's{did_you_mean(arch, RESNETS)}"
        )
    import timm

    name = arch.removeprefix(TIMM)
    # After a dot, timm's names say which of a model's published weights are meant.
    known = timm.list_pretrained() if "." in name else timm.list_models()
    if name not in known:
        meant = did_you_mean(arch, (TIMM + one for one in known), cutoff=0.4)
        raise ConfigError(f"timm {timm.__version__} has no model {name!r}{meant}")


def short_arch(arch: str) -> str:
    """Return a network's name without the tag that timm takes for it anyway."""
    model, dot, tag = arch.partition(".")
    if not (dot and arch.startswith(TIMM)):
        return arch
    import timm

    name = model.removeprefix(TIMM)
    weights = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return model if weights and weights.tag == tag else arch


def check_shapes(arch: str, shapes: Sequence[tuple[int, ...]]) -> None:
    """Check that a network accepts images of these shapes; ResNets accept all.

    Args:
        arch: A name that `check_arch` accepts.
        shapes: Shapes (bands, frames) of the images.

    Raises:
        ConfigError: It does not, such as a network for images of a fixed size.
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
        pretrained: Whether to load timm's published weights, downloaded or cached, instead of
            random ones.

    Raises:
        WeightsError: The published weights are unavailable.
    """
    import timm

    name = arch.removeprefix(TIMM)
    options: dict[str, Any] = {"in_chans": 1, "num_classes": 0}
    # Transformers then take images of any size, another one in each stage; others know no such.
    sizes: dict[str, Any] = {"dynamic_img_size": True, "dynamic_img_pad": True}
    try:
        try:
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
    """Convert a state dict of a whole model to that of its one-channel body, as timm does.

    Args:
        arch: `timm:` and the model's name.
        state: State dict for one or three channels and any number of classes.

    Raises:
        ValueError: It belongs to another model.
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
    if unlike := mismatch(arch, adapted, body.state_dict()):
        raise ValueError(unlike)
    return adapted


def mismatch(
    arch: str,
    state: Mapping[str, Any],
    expected: Mapping[str, Tensor],
    is_optional: Callable[[str], bool] = lambda _name: False,
) -> str | None:
    """Return why a state dict cannot be loaded; None if names and shapes are as expected.

    Args:
        arch: Name of the network.
        state: State dict, which is not trusted.
        expected: State dict of the network.
        is_optional: Returns whether a name may be missing.
    """
    own, shapes = (
        {name: getattr(value, "shape", None) for name, value in of.items()}
        for of in (expected, state)
    )
    names = sorted(own.keys() | shapes.keys(), key=str)  # a file may have numbers for names
    missing = [n for n in names if n not in shapes and is_optional(str(n))]
    wrong = [n for n in names if own.get(n) != shapes.get(n) and n not in missing]
    return (
        f"is not of {arch}: {len(wrong)} parameters are missing, too many or of another shape, "
        f"such as {wrong[0]}"
        if wrong
        else None
    )


def num_outputs(body: nn.Module) -> int:
    """Return the number of features per image of a model from `timm_body`."""
    number: int = getattr(body, "head_hidden_size", None) or getattr(body, "num_features")  # noqa: B009
    return number


def safetensors(data: bytes) -> dict[str, Tensor]:
    """Return the tensors in the content of a safetensors file, the format of timm's weights.

    Raises:
        ValueError: It is damaged, or not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except SafetensorError as error:
        raise ValueError(f"no safetensors file, or damaged: {in_a_line(error)}") from error


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 digest (hex) of names, shapes, dtypes and bytes of a state dict."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
