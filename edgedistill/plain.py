"""A plain convolutional student, as small as the ones in the paper, for tasks where a timm model is too large."""

from torch import Tensor, nn

from edgedistill_deploy.errors import UsageError

PREFIX = "plain:"
FEWEST_STAGES = 2


class PlainStage(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU, the first with stride 2: (N, I, H, W) -> (N, O, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = nn.ReLU()

    def forward(self, values: Tensor) -> Tensor:
        """Return the stage's map."""
        values = self.act1(self.bn1(self.conv1(values)))
        out: Tensor = self.act2(self.bn2(self.conv2(values)))
        return out


class PlainNet(nn.Module):
    """Stages of the given widths, an average over space, one linear layer: images (N, 3, H, W) -> logits (N, C)."""

    def __init__(self, widths: tuple[int, ...], class_count: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(PlainStage(*each) for each in zip((3, *widths[:-1]), widths, strict=True))
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(widths[-1], class_count)
        # As timm's models say it, so that layers pair by stage.
        self.feature_info = [
            {"num_chs": width, "reduction": 2 ** (depth + 1), "module": f"stages.{depth}"}
            for depth, width in enumerate(widths)
        ]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.pool(self.stages(images)).flatten(1))
        return logits


def plain_widths(name: str) -> tuple[int, ...]:
    """Read the widths out of `plain:32-24-16-8`.

    Raises:
        UsageError: they are not two or more whole numbers above 0.
    """
    parts = name.removeprefix(PREFIX).split("-")
    if len(parts) < FEWEST_STAGES or not all(
        part.isascii() and part.isdigit() and int(part) for part in parts
    ):
        raise UsageError(
            f"A plain student is named by the widths of its stages, such as plain:32-24-16-8, and {name!r} was given."
        )
    return tuple(map(int, parts))
