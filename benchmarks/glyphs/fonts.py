"""Find the installed fonts, say which family each belongs to, and which of our characters it truly draws."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SYSTEM_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".local/share/fonts")
SUFFIXES = {".ttf", ".otf", ".ttc", ".otc"}
PROBE_SIZE = 40
UNASSIGNED = "\U0010fffe"  # a noncharacter: whatever a font draws for it is its .notdef

# Fonts that put pictures, bars or dots in the places of letters.
PICTURE_FONT = re.compile(
    r"dingbat|d050000l|symbol|emoji|icon|awesome|barcode|braille|ornament|wingding|webding|pictogram|chess|music|keycap"
    r"|keyboard|blank|last ?resort|fallback",
    re.IGNORECASE,
)
# Words that name a member of a family, not the family.
STYLE_WORD = re.compile(
    r"thin|hairline|light|extralight|ultralight|book|regular|roman|normal|medium|semibold|demibold|demi|bold|extrabold"
    r"|ultrabold|black|heavy|fat|ultra|extra|semi|italic|oblique|slanted|condensed|semicondensed|extracondensed|narrow"
    r"|compressed|expanded|extended|wide|cond|std|pro|lt|ot|tt|otf|ttf|variable|vf"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FontFile:
    """A font file, the key of its family, and the characters it draws, in the order they were asked for."""

    path: Path
    family: str
    characters: str


def load_font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """Load a font at a size in pixels, with the layout that does not depend on an optional library."""
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def draw_ink(font: ImageFont.FreeTypeFont, character: str) -> Image.Image | None:
    """Draw a character white on black, cropped to its ink; None where there is no ink."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(character))
    if right <= left or bottom <= top:
        return None
    image = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), character, font=font, fill=255)
    box = image.getbbox()
    return image.crop(box) if box else None


def family_key(name: str) -> str:
    """Reduce a family name to what its members share: lower case, without words of weight, width and slope."""
    words = re.findall(r"[^\W_]+", name.lower())
    return " ".join(word for word in words if not STYLE_WORD.fullmatch(word)) or name.lower()


def find_font_files(folders: Iterable[Path]) -> list[Path]:
    """List the font files below some folders, sorted, links to the same file counted once."""
    found = (path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted({path.resolve() for path in found if path.is_file()})


def drawn_characters(font: ImageFont.FreeTypeFont, characters: str) -> str:
    """Return those of some characters that a font draws as themselves.

    A character counts as missing when the font draws nothing, its .notdef, or exactly what it drew for another one.
    Capitals are asked first, so a font of capitals alone keeps them and has no lower case.
    """
    missing = _picture(font, UNASSIGNED)
    seen = {missing, None}
    kept = set()
    for character in sorted(characters, key=lambda each: not each.isupper()):
        picture = _picture(font, character)
        if picture not in seen:
            kept.add(character)
        seen.add(picture)
    return "".join(character for character in characters if character in kept)


def _picture(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes] | None:
    ink = draw_ink(font, character)
    return (ink.size, ink.tobytes()) if ink else None


def survey_fonts(paths: Iterable[Path], characters: str, minimum: int = 10) -> list[FontFile]:
    """Read fonts, leave out broken ones, picture fonts and those with fewer than `minimum` characters.

    Families whose members draw the very same pictures (one design under two names) become one, so that no design is
    ever on both sides of a split.
    """
    surveyed = list(_read_fonts(paths, characters, minimum))
    merged = _merge_families([(font.family, signature) for font, signature in surveyed])
    return [FontFile(path=font.path, family=merged[font.family], characters=font.characters) for font, _ in surveyed]


def _read_fonts(paths: Iterable[Path], characters: str, minimum: int) -> Iterator[tuple[FontFile, str]]:
    for path in paths:
        try:
            font = load_font(path, PROBE_SIZE)
            name = font.getname()[0] or path.stem
            drawn = "" if PICTURE_FONT.search(f"{name} {path.stem}") else drawn_characters(font, characters)
            signature = _signature(font, drawn)
        except (OSError, ValueError):  # broken outlines, bitmap fonts without this size, absurd metrics
            continue
        if len(drawn) >= minimum:
            yield FontFile(path=path, family=family_key(name), characters=drawn), signature


def _signature(font: ImageFont.FreeTypeFont, characters: str) -> str:
    """Hash the pictures of the first ten characters a font has, and which those are."""
    probe = characters[:10]
    digest = hashlib.sha256(probe.encode())
    for character in probe:
        digest.update(repr(_picture(font, character)).encode())
    return digest.hexdigest()


def _merge_families(members: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Map each family to the alphabetically first of those it shares a signature with, directly or through others."""
    leader = {family: family for family, _ in members}

    def find(family: str) -> str:
        while leader[family] != family:
            family = leader[family]
        return family

    sharing: dict[str, list[str]] = defaultdict(list)
    for family, signature in members:
        sharing[signature].append(family)
    for families in sharing.values():
        first = min(find(family) for family in families)
        for family in families:
            leader[find(family)] = first
    return {family: find(family) for family in leader}
