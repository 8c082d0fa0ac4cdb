"""An explanation drawn beside its picture, by Pillow alone, and the folder that such drawings go to."""

import io
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, PngImagePlugin

from edgedistill_deploy.errors import NotWrittenError, UsageError
from edgedistill_deploy.files.writing import make_folder, write_new
from edgedistill_deploy.prediction.occlusion import Explanation, describe_region
from edgedistill_deploy.prediction.sorting import MOST_OF_A_NAME, folder_names, numbered

_LEAST_SIDE = 224  # a smaller picture is enlarged by a whole number
_FOR, _AGAINST = (178, 24, 43), (33, 102, 172)  # readers who confuse red and green can tell red from blue
_STRONGEST = 0.85  # how much of the picture the strongest colour hides
_GAP = 8
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)

Colours = NDArray[np.uint8]


class WhyFolder:
    """Puts drawings into a folder, NAME-why.png for each picture; nothing there is replaced."""

    def __init__(self, root: Path) -> None:
        """Make the folder. Raises UsageError where it is a file, and NotWrittenError where it cannot be made."""
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file; name a folder for the drawings.")
        make_folder(root)
        self._root = root
        self.count = 0

    def put(self, name: str, explanation: Explanation) -> Path:
        """Write the drawing of the picture with this name, and return where it lies.

        The same drawing under its name is left as it is; another one of this name gets a number. Raises NotWrittenError
        where there is no room or no right to write.
        """
        content = png_of(explanation)
        (stem,) = folder_names([Path(name).stem])
        for target in itertools.islice(numbered(self._root, f"{stem}-why.png"), MOST_OF_A_NAME):
            if _holds(target, content) or self._make(target, content):
                self.count += 1
                return target
        raise NotWrittenError(f"{self._root} has no name left for {stem}-why.png.")

    @staticmethod
    def _make(target: Path, content: bytes) -> bool:
        try:
            with write_new(target) as stream:
                stream.write(content)
        except FileExistsError:
            return False
        return True


def _holds(target: Path, content: bytes) -> bool:
    try:
        return target.is_file() and target.stat().st_size == len(content) and target.read_bytes() == content
    except OSError:
        return False


def png_of(explanation: Explanation) -> bytes:
    """Return the drawing as a PNG file, with the answer and its sentence as text in it."""
    told, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    told.add_itxt("Title", str(explanation.prediction))
    told.add_itxt("Description", describe_region(explanation))
    draw(explanation).save(stream, "PNG", pnginfo=told)
    return stream.getvalue()


def draw(explanation: Explanation) -> Image.Image:
    """Return the picture as the model sees it, with a frame around the strongest part, beside the map on grey.

    What speaks for the class is red, what speaks against it blue. The strongest value has the fullest colour.
    """
    height, width = explanation.map.shape
    scale = max(1, -(-_LEAST_SIDE // max(height, width)))
    size = (width * scale, height * scale)
    seen = Image.fromarray(explanation.pixels).resize(size, Image.Resampling.NEAREST)
    heat = Image.fromarray(coloured(explanation.map, explanation.pixels)).resize(size, Image.Resampling.BICUBIC)
    if explanation.region is not None:
        _frame(seen, [scale * side for side in explanation.region.pixels])
    sheet = Image.new("RGB", (2 * size[0] + _GAP, size[1]), _WHITE)
    sheet.paste(seen, (0, 0))
    sheet.paste(heat, (size[0] + _GAP, 0))
    return sheet


def coloured(values: NDArray[np.float32], pixels: Colours) -> Colours:
    """Return the picture (H, W, 3) in grey, tinted by a map (H, W): red above 0 and blue below."""
    strongest = float(np.abs(values).max()) or 1.0
    share = (values / strongest)[..., None]
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)[..., None]
    tint = np.where(share > 0, np.array(_FOR), np.array(_AGAINST))
    hidden = _STRONGEST * np.abs(share)
    return np.asarray(np.rint(grey * (1 - hidden) + tint * hidden), np.uint8)


def _frame(picture: Image.Image, box: list[int]) -> None:
    """Draw a white frame between two black ones just inside a box, so that it shows on every ground."""
    left, top, right, bottom = box
    for inset, ink in enumerate((_BLACK, _WHITE, _BLACK)):
        if right - left > 2 * inset + 1 and bottom - top > 2 * inset + 1:
            ImageDraw.Draw(picture).rectangle(
                (left + inset, top + inset, right - inset - 1, bottom - inset - 1), outline=ink
            )
