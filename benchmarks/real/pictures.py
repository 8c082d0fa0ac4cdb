"""The photographs in Debian's packages: which are used, and how they are divided.

Wallpapers are the backgrounds. Every photograph belongs to one split, so that no background of a test image was in
training. Rendered and painted wallpapers, and those with an animal, are left out.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from benchmarks.real.packages import CUT_OUTS, PHOTOGRAPHS, FetchError, fetch_debian

SPLITS = ("train", "val", "test")
# The part of a file's path that names each photograph; the landscapes first.
LANDSCAPES = (
    "Bridge_by",
    "aitzgorri_by",
    "life_by",
    "picosdeeuropa_by",
    "seeding_by",
    "sunset_by",
    "mate/nature/Dune",
    "mate/nature/Storm",
    "wallpapers/BytheWater/",
    "wallpapers/ColdRipple/",
    "wallpapers/DarkestHour/",
    "wallpapers/EveningGlow/",
    "wallpapers/Path/",
    "wallpapers/Volna/",
    "wallpapers/summer_1am/",
)
OTHERS = (
    "Dragonfly_by",
    "Picture_0B_by",
    "Picture_1A_by",
    "Wine_by",
    "greentock_by",
    "mate/nature/Aqua",
    "mate/nature/Blinds",
    "mate/nature/FreshFlower",
    "mate/nature/Garden",
    "mate/nature/GreenMeadow",
    "mate/nature/LadyBird",
    "mate/nature/RainDrops",
    "mate/nature/TwoWings",
    "mate/nature/Wood",
    "mate/nature/YellowFlower",
    "wallpapers/ColorfulCups/",
    "wallpapers/FallenLeaf/",
    "wallpapers/Grey/",
    "wallpapers/Kite/",
    "wallpapers/OneStandsOut/",
)
# The longer side of a background, in pixels.
LARGEST = 1200


def find_photographs(packages: Path) -> dict[str, Path]:
    """Return {name: file} of every photograph, the largest file of each that is at most 20 MB."""
    files = [
        path
        for name in PHOTOGRAPHS
        for path in sorted(fetch_debian(name, packages).rglob("*"))
        if path.suffix.lower() in (".jpg", ".jpeg", ".png") and path.is_file() and "screenshot" not in path.name
    ]
    found: dict[str, Path] = {}
    for name in (*LANDSCAPES, *OTHERS):
        own = [path for path in files if name in path.as_posix() and path.stat().st_size < 20 << 20]
        if not own:
            raise FetchError(f"No photograph {name!r} is in Debian's packages; another release may have left it out.")
        found[name] = max(own, key=lambda path: path.stat().st_size)
    return found


def open_photograph(path: Path) -> Image.Image:
    """Return a photograph, RGB, at most `LARGEST` pixels long."""
    with Image.open(path) as opened:
        opened.draft("RGB", (LARGEST, LARGEST))
        image = opened.convert("RGB")
    image.thumbnail((LARGEST, LARGEST))
    return image


def divide(names: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Divide names of photographs into training, validation and test, 60 : 20 : 20, by a hash of their names."""
    order = sorted(names, key=lambda name: hashlib.sha256(f"division|{name}".encode()).digest())
    first, second = round(0.6 * len(order)), round(0.8 * len(order))
    return dict(zip(SPLITS, (tuple(order[:first]), tuple(order[first:second]), tuple(order[second:])), strict=True))


def open_cut_out(name: str, packages: Path) -> Image.Image:
    """Return a cut-out photograph (RGBA) of Tux Paint's stamps, such as `mammals/zebra`."""
    stamps = fetch_debian(CUT_OUTS, packages) / "usr/share/tuxpaint/stamps/animals"
    with Image.open(stamps / f"{name}.png") as opened:
        return opened.convert("RGBA")
