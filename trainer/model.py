"""The network: a residual body for one-channel images, and the paper's head."""

import threading
from collections.abc import Mapping

import torch
import torchvision
from torch import Tensor, nn

from schemas import FirstConv, LayerGroups
from trainer.bodies import TIMM, num_outputs, timm_body

HIDDEN = 512
DROPOUTS = (0.25, 0.5)
_UPPER = ("layer3.", "layer4.")
"""The residual stages of the upper of three layer groups."""

_GLOBAL_GENERATOR = threading.Lock()
"""Held while weights are drawn: torchvision uses the process's generator, which threads share."""


class ConcatPool(nn.Module):
    """Pooling from (n, c, h, w) to (n, 2c): the maximum of each channel, then its mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the maxima and means (n, 2c)."""
        # `max` over one axis, because its gradient is the same on every run.
        flat = x.flatten(2)
        return torch.cat([flat.max(dim=2).values, flat.mean(dim=2)], dim=1)


class Head(nn.Sequential):
    """A sequence of layers whose dropout can be decided from outside.

    With the noise as an argument nothing in a training step is random: it can be compiled and
    recorded, and folds that train at once do not draw from one generator.
    """

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the logits.

        Args:
            x: (n, features).
            noise: (n, at least `noise_size`) in [0, 1), independent; the first columns are used: a
                value is dropped where its own is below the layer's p. None leaves dropout to the
                layers themselves.
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
    timm's own pooling (`trainer.bodies`); `head` is `make_head`. By default the weights of a
    ResNet's first convolution are the sum over the three channels of torchvision's, so that the
    body's output is that of the three-channel one for a grey image.

    Args:
        arch: Name of a network, see `trainer.bodies`.
        num_classes: Length of the output.
        body_state: `InitialWeights.state`; None leaves the random weights that the library starts
            with.
        first_conv: What the one channel's weights of a ResNet are made of, see `schemas.FirstConv`.

    Attributes:
        noise_size: Random numbers per clip that dropout takes.
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

        Two are the body and the head. Three cut the body before its third residual stage.

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
    padding = (int(conv.padding[0]), int(conv.padding[1]))
    single = nn.Conv2d(
        1,
        conv.out_channels,
        kernel_size=(conv.kernel_size[0], conv.kernel_size[1]),
        stride=(conv.stride[0], conv.stride[1]),
        padding=padding,
        bias=False,
    )
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
        arch: Name of a network, see `trainer.bodies`.
        num_classes: Length of the output.
        seed: Seed of the random weights, in [0, 2**63).
        body_state: See `Network`.
        first_conv: See `Network`.
    """
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(arch, num_classes, body_state, first_conv)
