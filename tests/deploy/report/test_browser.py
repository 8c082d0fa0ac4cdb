"""The report in a real browser: nothing is asked for, nothing is cut off, and it is used by mouse, keyboard and ear."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.report.page import write_report
from reference.report_bundles import add_record, full_bundle, latency_record, models_only, parity_record, with_layers
from reference.study_records import add_explanation, explanation_record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(os.environ.get("EDGEDISTILL_NODE_MODULES", "")) / "axe-core" / "axe.min.js"
HOSTILE = "<script>alert(1)</script><img src=http://evil.example onerror=alert(1)>\"'&{{7*7}}" + "W" * 90
PHONE, DESK = 390, 1200
REPORTS = ("full", "hostile", "one class", "1000 classes", "50 devices", "no parity")

pytestmark = pytest.mark.browser


class Shown(TypedDict, total=False):
    """How a page is shown, as far as a test cares."""

    width: int
    scheme: Literal["dark", "light"]
    script: bool


@dataclass(slots=True)
class Seen:
    """An open page, and what it said and asked for."""

    page: "Page"
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)


Open = Callable[..., AbstractContextManager[Seen]]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if CHROMIUM is None:
        reason = "needs a browser: apt-get install chromium"
        if os.environ.get("EDGEDISTILL_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with playwright.sync_playwright() as driver:
        # Chromium's own sandbox does not work for root, as which CI may run; it opens our page alone.
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=300_000)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports' files by name."""
    folder = tmp_path_factory.mktemp("reports")
    makers = (_full, _hostile, _one_class, _many_classes, _many_devices, models_only)
    return {name: write_report(make(folder / name)) for name, make in zip(REPORTS, makers, strict=True)}


def _full(folder: Path) -> Bundle:
    bundle = full_bundle(folder)
    add_record(bundle, {**with_layers(bundle), **latency_record(bundle, "fp32", median_ms=0.182)})
    add_explanation(bundle.path, explanation_record(pictures=12))
    return bundle


def _hostile(folder: Path) -> Bundle:
    bundle = full_bundle(folder, (HOSTILE, "</table></style>", "b" * 200), name=HOSTILE)
    layers = [{**each, "node": HOSTILE, "module": HOSTILE} for each in with_layers(bundle)["layers"]]
    record = with_layers(bundle)
    told = {"sentences": [HOSTILE], "left_out": [HOSTILE], "split": HOSTILE}
    add_explanation(bundle.path, {**explanation_record(classes=(HOSTILE, "b" * 200), pictures=0), **told})
    add_record(bundle, {**record, "layers": layers, "device": {**record["device"], "name": "d", "cpu": HOSTILE}})
    return bundle.with_fields(teacher={"name": HOSTILE}, student={"name": HOSTILE}, provenance={HOSTILE: HOSTILE})


def _one_class(folder: Path) -> Bundle:
    return full_bundle(folder, ("owl",), name="")


def _many_classes(folder: Path) -> Bundle:
    bundle = models_only(folder, [f"class number {number}" for number in range(1000)], name="many")
    for precision in ("teacher", "fp32", "int8"):
        add_record(bundle, parity_record(bundle, precision, count=20_000))
    return bundle


def _many_devices(folder: Path) -> Bundle:
    bundle = models_only(folder)
    for number in range(50):
        timed, name = latency_record(bundle, "int8", median_ms=0.1 * 1.08**number), f"board-{number}"
        device = {**timed["device"], "name": name}
        add_record(bundle, {**timed, "device": device, "samples_ms": timed["samples_ms"][:300], "runs": 300})
        if number < 12:
            add_record(bundle, {**parity_record(bundle, "int8", lost=20 + number % 5), "device": name})
    return bundle


@pytest.fixture
def show(browser: "Browser", reports: dict[str, Path]) -> Open:
    """Open a report: `with show("full", width=390) as seen`."""

    @contextmanager
    def opened(
        name: str, width: int = DESK, scheme: Literal["dark", "light"] = "light", script: bool = True
    ) -> Iterator[Seen]:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        context.set_default_timeout(300_000)  # a busy machine is slow, not wrong
        seen = Seen(page=context.new_page())
        seen.page.on("console", lambda message: seen.console.append(message.text))
        seen.page.on("pageerror", lambda error: seen.console.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("dialog", lambda dialog: _dismiss(dialog, seen))
        seen.page.goto(reports[name].as_uri())
        yield seen
        context.close()

    return opened


def _dismiss(dialog: "Dialog", seen: Seen) -> None:
    seen.dialogs.append(dialog.message)
    dialog.dismiss()


# What sticks out of the window and cannot be scrolled to, or is cut by a box that hides it.
CUT_OFF = """width => [...document.querySelectorAll("main *")].filter(each => {
    const box = each.getBoundingClientRect();
    if (!box.width || each.closest(".scroll, pre, figure:has(.wide)") !== null) return false;
    return box.left < -1 || box.right > width + 1;
}).map(each => each.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_quiet_whole_and_nowhere_cut_off(
    name: str, width: int, show: Open, reports: dict[str, Path]
) -> None:
    with show(name, width) as seen:
        assert seen.page.evaluate(CUT_OFF, width) == []
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        for section in ("Summary", "Parity with the teacher", "Accuracy by class", "Latency", "Provenance"):
            assert seen.page.get_by_role("heading", name=section, exact=True).first.is_visible()
        assert (seen.console, seen.dialogs) == ([], [])
        assert seen.requests == [reports[name].as_uri()]
    assert reports[name].stat().st_size < 3_000_000


def test_hostile_names_are_shown_as_they_are(show: Open) -> None:
    with show("hostile") as seen:
        assert seen.page.get_by_role("heading", level=1).inner_text() == f"An expert for {HOSTILE}"
        assert seen.page.locator("main :is(script, img, b)").count() == 0
        assert HOSTILE in seen.page.locator("#classes tbody tr").first.inner_text()


def test_the_policy_stops_what_is_not_the_pages_own(show: Open) -> None:
    with show("full") as seen:
        stopped = seen.page.evaluate("""async () => {
            const stopped = [];
            document.addEventListener("securitypolicyviolation", event => stopped.push(event.effectiveDirective));
            const add = (tag, given) => document.body.append(Object.assign(document.createElement(tag), given));
            add("script", {textContent: "window.intruded = true"});
            add("style", {textContent: "h1 { display: none }"});
            add("img", {src: "file:///nowhere.png"});
            await fetch("file:///nowhere.json").catch(() => {});
            document.querySelector("h1").setAttribute("style", "display: none");
            const end = performance.now() + 300000;
            const wait = () => new Promise(done => setTimeout(done, 10));
            while (new Set(stopped).size < 5 && performance.now() < end) await wait();
            return [...new Set(stopped)].sort();
        }""")
        assert stopped == ["connect-src", "img-src", "script-src-elem", "style-src-attr", "style-src-elem"]
        assert seen.page.evaluate("window.intruded") is None
        assert seen.page.get_by_role("heading", level=1).is_visible()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("full", Shown(width=DESK, scheme="light")),
        ("full", Shown(width=PHONE, scheme="dark")),
        ("hostile", Shown(width=PHONE, scheme="light")),
    ],
)
def test_axe_finds_nothing_serious(name: str, shown: Shown, show: Open) -> None:
    if not AXE.is_file():
        pytest.skip("EDGEDISTILL_NODE_MODULES names no node_modules with axe-core")
    with show(name, **shown) as seen:
        _wait_for_script(seen.page)
        seen.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = seen.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        told = [
            (
                each["id"],
                each["impact"],
                [node["html"][:150] for node in each["nodes"][:3]],
                each["nodes"][0]["failureSummary"],
            )
            for each in found
        ]
        assert [each for each in told if each[1] in ("serious", "critical")] == []


def _wait_for_script(page: "Page") -> None:
    """Wait until the script has seen how wide everything is."""
    _wait(
        page,
        """[...document.querySelectorAll(".scroll")].every(
        each => !each.clientWidth || (each.scrollWidth > each.clientWidth + 1) === (each.tabIndex === 0)
    )""",
    )


def _wait(page: "Page", condition: str) -> None:
    """Wait for a condition. Playwright's own waiting evaluates text in the page, which the page's policy forbids."""
    held = page.evaluate(f"""async () => {{
        const end = performance.now() + 300000;
        while (!({condition}) && performance.now() < end) await new Promise(done => setTimeout(done, 10));
        return {condition};
    }}""")
    assert held, condition


def _column(page: "Page", section: str, number: int) -> list[str]:
    cells = page.locator(f"#{section} table").first.locator(f"tbody tr:visible > :nth-child({number})")
    return [re.split(r"\n", text)[0].strip() for text in cells.all_inner_texts()]


def _sort_state(page: "Page", section: str, name: str) -> str | None:
    return (
        page.locator(f"#{section}").get_by_role("columnheader", name=name, exact=True).first.get_attribute("aria-sort")
    )


def test_a_column_sorts_up_then_down_then_as_it_was(show: Open) -> None:
    with show("full") as seen:
        button = seen.page.locator("#latency").get_by_role("button", name="p50", exact=True)
        first = _column(seen.page, "latency", 2)
        assert first == ["1.31 ms", "182 µs", "94.4 µs"]
        button.click()
        assert _column(seen.page, "latency", 2) == ["94.4 µs", "182 µs", "1.31 ms"]
        assert _sort_state(seen.page, "latency", "p50") == "ascending"
        button.click()
        assert _column(seen.page, "latency", 2) == first
        assert _sort_state(seen.page, "latency", "p50") == "descending"
        button.click()
        assert _column(seen.page, "latency", 1) == ["teacher fp32", "expert fp32", "expert int8"]
        assert _sort_state(seen.page, "latency", "p50") is None


def test_a_column_of_shares_sorts_below_a_heading_of_two_columns(show: Open) -> None:
    with show("full") as seen:
        seen.page.locator("#classes").get_by_role("button", name="expert int8").click()
        shares = [float(text.removesuffix(" %")) for text in _column(seen.page, "classes", 7)]
        assert shares == sorted(shares)
        assert len(set(shares)) > 3


def test_the_keyboard_reaches_sorts_and_opens(show: Open) -> None:
    with show("1000 classes") as seen:
        page = seen.page
        page.locator("#classes").get_by_role("button", name="class", exact=True).first.focus()
        page.keyboard.press("Enter")
        names = _column(page, "classes", 1)
        assert names == sorted(names, key=lambda name: int(name.split()[-1]))
        assert _sort_state(page, "classes", "class") == "ascending"
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert _sort_state(page, "classes", "images") == "ascending"
        assert _sort_state(page, "classes", "class") is None
        page.get_by_text("All 1000 classes").focus()
        page.keyboard.press("Enter")
        field = page.get_by_role("searchbox", name="Filter the rows of: All 1000 classes")
        field.wait_for()
        field.focus()
        page.keyboard.insert_text("NUMBER 99")
        assert page.locator("#classes details tbody tr:not([hidden])").count() == 11
        assert not page.locator("#classes details tbody tr").nth(12).is_visible()
        assert page.locator("#classes details").get_by_role("status").inner_text() == "11 of 1000 rows"
        field.fill("")
        assert page.locator("#classes details tbody tr:not([hidden])").count() == 1000
        page.emulate_media(media="print")
        assert not field.is_visible()


def test_what_is_wider_than_a_phone_scrolls_by_keyboard_beside_its_first_column(show: Open) -> None:
    with show("full", PHONE) as seen:
        _wait_for_script(seen.page)
        box = seen.page.locator("#summary .scroll")
        assert box.get_attribute("tabindex") == "0"
        assert (box.get_attribute("aria-label") or "").endswith(": scrolls sideways")
        model, verdict = (box.locator(f"tbody tr:last-child > :{place}-child") for place in ("first", "last"))
        box.focus()
        seen.page.keyboard.press("ArrowRight")
        _wait(seen.page, "document.querySelector('#summary .scroll').scrollLeft > 0")
        box.evaluate("each => { each.scrollLeft = each.scrollWidth }")
        for cell in (model, verdict):
            place = cell.bounding_box()
            assert place
            assert place["x"] >= 0
            assert place["x"] + place["width"] <= PHONE
    with show("full") as seen:
        _wait_for_script(seen.page)
        assert seen.page.locator("#summary .scroll").get_attribute("tabindex") is None


OVERPRINTED = """() => [...document.querySelectorAll("svg")].flatMap(svg => {
    const texts = [...svg.querySelectorAll("text")].map(each => [each.textContent, each.getBoundingClientRect()]);
    const shared = (a, b) => [
        Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)
    ];
    const meet = (a, b) => shared(a, b)[0] > 1 && shared(a, b)[1] > 3;
    return texts.flatMap(([one, a], index) =>
        texts.slice(index + 1).filter(([, b]) => meet(a, b)).map(([other]) => `${one} / ${other}`)
    );
})"""


# The texts that reach out of their chart, where they are cut off.
OUTSIDE_ITS_CHART = """() => [...document.querySelectorAll("svg")].flatMap((chart) => {
  const whole = chart.getBoundingClientRect();
  return [...chart.querySelectorAll("text")].filter((text) => {
    const own = text.getBoundingClientRect();
    const outside = own.left < whole.left - 1 || own.right > whole.right + 1;
    return own.width && (outside || own.top < whole.top - 1 || own.bottom > whole.bottom + 1);
  }).map((text) => text.textContent);
})"""


@pytest.mark.parametrize("name", ["full", "50 devices"])
def test_no_text_of_a_chart_covers_another_or_is_cut_off(name: str, show: Open) -> None:
    with show(name, PHONE) as seen:
        assert seen.page.locator("svg text").count() > 50
        assert seen.page.evaluate(OVERPRINTED) == []
        assert seen.page.evaluate(OUTSIDE_ITS_CHART) == []


def test_every_chart_has_a_name_that_tells_its_figures(show: Open) -> None:
    with show("full") as seen:
        charts = seen.page.get_by_role("img").and_(seen.page.locator("svg"))
        names = [each.get_attribute("aria-label") or "" for each in charts.all()]
        assert len(names) == seen.page.locator("svg").count() >= 11
        assert all(names)
        assert all(each.get_attribute("alt") for each in seen.page.locator("img").all())
        assert any("p50 94.4 µs; p99" in name for name in names)
        assert any("limit 2" in name and "pass" in name for name in names)


def _lightness(page: "Page", selector: str, what: str) -> float:
    colour: Any = page.evaluate(f"getComputedStyle(document.querySelector({selector!r})).{what}")
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 765


def test_a_dark_screen_gets_a_dark_page_and_light_charts(show: Open) -> None:
    found = {}
    for scheme in ("light", "dark"):
        with show("full", scheme=scheme) as seen:
            page = seen.page
            found[scheme] = _lightness(page, "section", "backgroundColor"), _lightness(page, "svg .f-soft", "fill")
    (light_page, dark_text), (dark_page, light_text) = found["light"], found["dark"]
    assert light_page > 0.9
    assert dark_text < 0.5
    assert dark_page < 0.2
    assert light_text > 0.5


def test_it_prints_whole_and_without_what_only_a_screen_needs(show: Open) -> None:
    with show("full", scheme="dark") as seen:
        page = seen.page
        assert page.get_by_role("navigation").is_visible()
        page.emulate_media(media="print")
        assert not page.get_by_role("navigation").is_visible()
        assert _lightness(page, "section", "backgroundColor") > 0.9
        # 186 mm between A4's margins.
        page.set_viewport_size({"width": 703, "height": 1000})
        assert page.evaluate(CUT_OFF, 703) == []
        printed = page.pdf(format="A4", prefer_css_page_size=True)
        assert printed.startswith(b"%PDF-")
        assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 14


def test_without_its_script_the_page_says_the_same(show: Open) -> None:
    with show("full", script=False) as seen:
        assert seen.page.get_by_role("heading", name="Latency").is_visible()
        assert seen.page.locator("#latency tbody tr > :first-child").first.inner_text() == "teacher fp32"
        assert seen.page.get_by_role("button").count() == 0
