"""matplotlib's drawings as SVG text that stands inside the page.

matplotlib writes a whole document: with style attributes, which the page's Content-Security-Policy forbids, with ids,
which would occur once a chart, and with colours, which could not follow the reader's dark screen. So colours become CSS
classes, styles become attributes, references are resolved, and everything else is dropped.
"""

import copy
import io
import re
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from edgedistill_deploy.files.names import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT = 12  # units; the page scales a chart as a whole
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
# The page's colours. matplotlib is given a number for each, which becomes the class again.
_NAMES = (
    *("s1", "s2", "s3", "s4", "s5", "s6"),
    *("ink", "soft", "line", "faint", "card", "pass", "fail", "inconclusive", "fail-back"),
)
_CODES = {name: f"#0a00{index + 1:02x}" for index, name in enumerate(_NAMES)}
_CLASSES = {code: name for name, code in _CODES.items()}
_SETTINGS: Any = {  # matplotlib's types list the keys, which differ between its releases
    "svg.fonttype": "none",
    "svg.hashsalt": "edgedistill",
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "text.parse_math": False,
    "text.usetex": False,
    "path.simplify": True,
    "lines.solid_capstyle": "butt",
    "axes.unicode_minus": True,
}
_DRAWING = threading.Lock()
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_KEPT = frozenset(
    (
        *("stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap"),
        *("stroke-opacity", "fill-opacity", "text-anchor"),
    )
)
_NUMBER = re.compile(r"-?\d+\.\d+")
_UNTURNED = re.compile(r"rotate\(-?0(\.0)? [^)]*\)")


@dataclass(slots=True)
class Marked:
    """What a drawing tells the page about its artists: CSS classes and tool tips by the gid of the artist."""

    classes: dict[str, str] = field(default_factory=dict)
    tips: dict[str, str] = field(default_factory=dict)

    def name(self, css: str = "", tip: str = "") -> str:
        """Return a new gid with this class and tool tip."""
        gid = f"marked{len(self.classes)}"
        self.classes[gid], self.tips[gid] = css, tip
        return gid


def colour(name: str) -> str:
    """Return what stands for a colour of the page while matplotlib draws; a name of no colour is grey."""
    return _CODES.get(name, _CODES["soft"])


@lru_cache(maxsize=1)
def can_draw() -> bool:
    """Return whether matplotlib can be imported; a page without charts is still a page."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def drawn(
    title: str,
    told: str,
    size: tuple[int, int],
    paint: Callable[["Axes", Marked], None],
    *,
    css: str = "chart",
    margins: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> str:
    """Return the SVG of what `paint` draws on axes that run from 0 to 1 both ways; "" without matplotlib.

    `size` (width, height) and `margins` (left, right, top, bottom of the axes) are in the chart's units. `title` and
    `told` are what a reader hears who does not see the chart.
    """
    if not can_draw():
        return ""
    from matplotlib import rc_context

    (width, height), (left, right, top, bottom) = size, margins
    marked, file = Marked(), io.StringIO()
    with _DRAWING, rc_context(_SETTINGS), warnings.catch_warnings():
        # The reader's browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure, axes = _sheet()
        figure.set_size_inches(width / 72, height / 72)
        axes.set_position(
            (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
        )
        paint(axes, marked)
        try:
            figure.savefig(file, format="svg", metadata=_NO_METADATA)
        finally:
            for artist in (*axes.lines, *axes.patches, *axes.texts):
                artist.remove()
    return _inline(file.getvalue(), f"{title}. {told}" if told else title, css, marked)


@lru_cache(maxsize=1)
def _sheet() -> tuple["Figure", "Axes"]:
    """Return empty axes from 0 to 1 both ways. One pair serves all charts: it takes longer to make than a chart."""
    from matplotlib.figure import Figure

    figure = Figure(dpi=72, frameon=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()
    return figure, axes


def _inline(document: str, label: str, css: str, marked: Marked) -> str:
    root = ElementTree.fromstring(document)
    targets = {each.attrib["id"]: each for each in root.iter() if "id" in each.attrib}
    view = {"class": css, "viewBox": _rounded(root.attrib["viewBox"]), "role": "img", "aria-label": printable(label)}
    svg = ElementTree.Element("svg", view)
    for child in root:
        svg.extend(_clean(child, targets, marked))
    return ElementTree.tostring(svg, encoding="unicode", short_empty_elements=True)


def _clean(
    node: ElementTree.Element, targets: Mapping[str, ElementTree.Element], marked: Marked
) -> list[ElementTree.Element]:
    """Return what the page shows of a node: nothing of definitions, and the children alone of a bare group."""
    tag = node.tag.removeprefix(_SVG)
    if tag not in ("g", "path", "text", "use"):
        return []
    if tag == "use":
        return _resolve(node, targets, marked)
    gid = node.attrib.get("id", "")
    clean = ElementTree.Element(tag, _attributes(node))
    clean.text = node.text if tag == "text" else None
    for child in node:
        clean.extend(_clean(child, targets, marked))
    if gid in marked.classes:
        _mark(clean, marked.classes[gid], marked.tips[gid])
    if tag == "g" and not clean.attrib and clean.find("title") is None:
        return list(clean)
    return [clean] if len(clean) or clean.text or tag == "path" else []


def _resolve(
    use: ElementTree.Element, targets: Mapping[str, ElementTree.Element], marked: Marked
) -> list[ElementTree.Element]:
    """Return a copy of what a `use` refers to, at its place and in its colours."""
    target = targets.get(use.attrib.get(_LINK, "").removeprefix("#"))
    if target is None:
        return []
    placed = copy.deepcopy(target)
    placed.attrib["style"] = f"{placed.attrib.get('style', '')}; {use.attrib.get('style', '')}"
    placed.attrib["transform"] = f"translate({use.attrib.get('x', '0')} {use.attrib.get('y', '0')})"
    return _clean(placed, targets, marked)


def _mark(node: ElementTree.Element, css: str, tip: str) -> None:
    if css:
        node.attrib["class"] = f"{css} {node.attrib.get('class', '')}".strip()
    if tip:
        title = ElementTree.Element("title")
        title.text = printable(tip)
        node.insert(0, title)


def _attributes(node: ElementTree.Element) -> dict[str, str]:
    found: dict[str, str] = {
        name: _rounded(node.attrib[name]) for name in ("d", "x", "y", "transform") if name in node.attrib
    }
    if _UNTURNED.fullmatch(found.get("transform", "")):
        del found["transform"]
    declared = [part.split(":", 1) for part in node.attrib.get("style", "").split(";") if ":" in part]
    classes = []
    for name, value in ((name.strip(), value.strip()) for name, value in declared):
        if name in ("fill", "stroke") and value in _CLASSES:
            classes.append(f"{name[0]}-{_CLASSES[value]}")
        elif name in ("fill", "stroke") or name in _KEPT:
            found[name] = _rounded(value)
    return {**found, "class": " ".join(classes)} if classes else found


def _rounded(text: str) -> str:
    """Return text with each number to a tenth of a unit, which is finer than any screen."""
    return " ".join(_NUMBER.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), text).split())
