"""An HTML page taken apart: its sections' text, their tables, and every tag with its attributes."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "hr", "input"}
BREAKS = {"td", "th", "tr", "li", "p", "span", "dd", "dt", "h1", "h2", "h3", "div"}


@dataclass
class Section:
    text: str = ""
    tables: list[list[list[str]]] = field(default_factory=list)


class Page(HTMLParser):
    """Parse a page; a tag that is closed out of turn or never fails an assertion."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, Section] = {}
        self._open: list[str] = []
        self._section = self.sections.setdefault("", Section())
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    @property
    def text(self) -> str:
        return " ".join(" ".join(each.text.split()) for each in self.sections.values())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.tags.append((tag, names))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "section":
            self._section = self.sections.setdefault(names.get("id") or "", Section())
        elif tag == "table":
            self._section.tables.append([])
        elif tag == "tr":
            self._section.tables[-1].append([])
        elif tag in ("td", "th"):
            self._section.tables[-1][-1].append("")
        elif tag == "span" and ("td" in self._open or "th" in self._open):
            self._add(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>"
        self._open.pop()
        if tag in BREAKS:
            self._section.text += " "

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self._add(data)

    def _add(self, text: str) -> None:
        self._section.text += text
        if ("td" in self._open or "th" in self._open) and "svg" not in self._open:
            self._section.tables[-1][-1][-1] += text

    def rows(self, section: str, table: int = 0) -> list[list[str]]:
        """Return a table's rows, each cell's text with its white space made single."""
        return [[" ".join(cell.split()) for cell in row] for row in self.sections[section].tables[table]]
