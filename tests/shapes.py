"""Image folders of drawn shapes, and a small teacher trained on them: one's own data, in miniature."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image, ImageDraw
from timm.models import save_for_hf
from torch.nn import functional as F

SHAPES = ("circle", "square", "triangle", "cross", "ring")
FORMATS = ("RGB.png", "L.png", "P.png", "RGBA.png", "CMYK.jpg", "RGB.jpg", "LA.png", "1.bmp")


def draw_shape(shape: str, generator: np.random.Generator, side: int = 40) -> Image.Image:
    """Draw one dark shape, somewhere and of some size, on a light ground."""
    ground = tuple(int(value) for value in generator.integers(190, 256, 3))
    ink = tuple(int(value) for value in generator.integers(0, 90, 3))
    image = Image.new("RGB", (side, side), ground)
    pen = ImageDraw.Draw(image)
    r = int(generator.integers(8, 14))
    x, y = (int(value) for value in generator.integers(r + 1, side - r - 1, 2))
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)
    elif shape == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=ink)
    elif shape == "triangle":
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=ink)
    elif shape == "cross":
        pen.line((x - r, y, x + r, y), fill=ink, width=5)
        pen.line((x, y - r, x, y + r), fill=ink, width=5)
    else:
        pen.ellipse((x - r, y - r, x + r, y + r), outline=ink, width=4)
    return image


def write_image(image: Image.Image, path: Path, mode: str) -> None:
    """Save in a pixel mode, transparent ones with the picture opaque on nothing."""
    if mode in ("RGBA", "LA"):
        image = image.convert("RGB").convert(mode)
    elif mode == "P":
        image = image.quantize(32)
    else:
        image = image.convert(mode)
    image.save(path)


def write_shape_folder(
    folder: Path, shapes: Sequence[str] = SHAPES, count: int = 30, seed: int = 0, formats: Sequence[str] = FORMATS
) -> Path:
    """Write class folders of shapes, in turn in every format."""
    generator = np.random.default_rng(seed)
    for shape in shapes:
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            mode, suffix = formats[number % len(formats)].split(".")
            write_image(draw_shape(shape, generator), folder / shape / f"{number:03d}-{mode}.{suffix}", mode)
    return folder


def train_shape_teacher(folder: Path, steps: int = 120, seed: int = 0) -> Path:
    """Train a small timm ResNet on all shapes and save it as timm does."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed + 1)
    model = timm.create_model("resnet10t", num_classes=len(SHAPES), channels=(16, 32, 64, 64), stem_width=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        labels = generator.integers(0, len(SHAPES), 64)
        images = np.stack([np.array(draw_shape(SHAPES[label], generator)) for label in labels])
        floats = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        loss = F.cross_entropy(model((floats - 0.5) / 0.5), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    preprocessing = {"input_size": (3, 40, 40), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0}
    save_for_hf(
        model,
        str(folder),
        model_config={"label_names": list(SHAPES), "pretrained_cfg": preprocessing},
        data_config=preprocessing,
        safe_serialization=True,
    )
    return folder
