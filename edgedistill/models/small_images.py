"""A ResNet for images of 28 to 64 pixels, whose stem keeps the resolution; timm has none.

The import enters `resnet18_cifar` into timm's registry, so that teachers and students can name it like other models.
"""

from collections.abc import Sequence
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from edgedistill_deploy.errors import UsageError

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

default_cfgs = generate_default_cfgs(
    {
        "resnet18_cifar.untrained": {
            "input_size": (3, 32, 32),
            "pool_size": (4, 4),
            "crop_pct": 1.0,
            "interpolation": "bilinear",
            "first_conv": "conv1",
            "classifier": "fc",
            **_IMAGENET,
        }
    }
)


class SmallImageResNet(ResNet):
    """A timm ResNet of basic blocks behind one 3x3 convolution of stride 1 and the first stage's width.

    With `stem_pool` the usual 3x3 maximum of stride 2 follows: 32x32 images give maps of 16, 8, 4 and 2. Without it, as
    in CIFAR's ResNets, they give 32, 16, 8 and 4. Weights are named as in timm and torchvision.
    """

    def __init__(
        self,
        *,
        layers: Sequence[int] = (2, 2, 2, 2),
        channels: Sequence[int] = (64, 128, 256, 512),
        in_chans: int = 3,
        stem_pool: bool = False,
        **rest: Any,
    ) -> None:
        """Build the untrained network. Raises UsageError for an odd first width."""
        if channels[0] % 2:
            raise UsageError(f"The first of the widths {tuple(channels)} must be even.")
        # Only timm's deep stem has a free output width: twice `stem_width`.
        stem: dict[str, Any] = {"stem_type": "deep", "stem_width": channels[0] // 2, **rest}
        block: Any = BasicBlock
        super().__init__(block, tuple(layers), channels=tuple(channels), in_chans=in_chans, **stem)
        convolution = nn.Conv2d(in_chans, channels[0], 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        self.add_module("conv1", convolution)
        if not stem_pool:
            self.add_module("maxpool", nn.Identity())
        shrink = 2 if stem_pool else 4
        entries: Any = self.feature_info
        self.feature_info = [{**entry, "reduction": max(1, entry["reduction"] // shrink)} for entry in entries]


@register_model
def resnet18_cifar(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """Build a `SmallImageResNet`; `layers`, `channels` and `stem_pool` may be given."""
    model: nn.Module = build_model_with_cfg(SmallImageResNet, "resnet18_cifar", pretrained, **arguments)
    return model
