"""A plain convolutional student, as small as those in the paper, for tasks where timm's models are too large."""

import itertools

from torch import Tensor, nn

# Side of the map that a head with hidden layers reads, so that it sees positions; a single layer does not.
HIDDEN_HEAD_SIDE = 2


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
        out: Tensor = self.act2(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(values))))))
        return out


class PlainNet(nn.Module):
    """Stages of the given widths, then a head: images (N, 3, H, W) -> logits (N, C).

    The head is an average over space and one linear layer. With `hidden` widths it averages over the quarters of the
    map and has a linear layer with ReLU for each width before the last layer, as the paper's published networks.
    """

    def __init__(self, widths: tuple[int, ...], class_count: int, hidden: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(PlainStage(*each) for each in zip((3, *widths[:-1]), widths, strict=True)))
        side = HIDDEN_HEAD_SIDE if hidden else 1
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.head = _head((widths[-1] * side * side, *hidden), class_count)
        # In timm's format, so that layers pair by stage.
        self.feature_info = [
            {"num_chs": width, "reduction": 2 ** (depth + 1), "module": f"stages.{depth}"}
            for depth, width in enumerate(widths)
        ]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.pool(self.stages(images)).flatten(1))
        return logits


def _head(widths: tuple[int, ...], class_count: int) -> nn.Module:
    last = nn.Linear(widths[-1], class_count)
    layers = [layer for sizes in itertools.pairwise(widths) for layer in (nn.Linear(*sizes), nn.ReLU())]
    return nn.Sequential(*layers, last) if layers else last
