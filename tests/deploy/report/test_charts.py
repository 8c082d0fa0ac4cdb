"""Charts: values land where the axis says, text cannot break out, and a strict page can hold them."""

import math
import re
import sys
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_deploy.report.charts import bars, frame, lines, plane
from edgedistill_deploy.report.charts import svg as drawing

HOSTILE = "</text><script>alert('x')</script>\"&$\\frac{$ 猫 \x00\ud800"
finite = st.floats(-1e6, 1e6, allow_nan=False)
positive = st.floats(1e-6, 1e9, allow_nan=False)
UNIT_X = frame.Axis(title="epoch", low=0, high=10, ticks=[(0, "0"), (10, "10")])
UNIT_Y = frame.Axis(title="", low=0, high=1, ticks=[(0, "0"), (1, "1")])
Path = list[tuple[float, float]]


def elements(svg: str, css: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(svg).iter() if css in each.attrib.get("class", "").split()]


def points_of(path: ElementTree.Element) -> Path:
    """Return the corners of a path where it stands, in the chart's units from the top left."""
    moved = re.fullmatch(r"translate\((\S+) (\S+)\)", path.attrib.get("transform", ""))
    right, down = (float(moved[1]), float(moved[2])) if moved else (0.0, 0.0)
    numbers = [float(text) for text in re.findall(r"-?\d+(?:\.\d+)?", path.attrib["d"])]
    return [(right + x, down + y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]


def middle_of(path: ElementTree.Element) -> tuple[float, float]:
    xs, ys = zip(*points_of(path), strict=True)
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def paths(svg: str, css: str) -> list[ElementTree.Element]:
    """Return the paths with a class, or inside a group with it."""
    return [path for each in elements(svg, css) for path in each.iter("path")]


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter("text")]


def boxes(svg: str) -> Iterator[tuple[str, float, float, float, float]]:
    """Yield each text with the box that it takes, at most 0.62 of its size a letter."""
    for each in ElementTree.fromstring(svg).iter("text"):
        words, x, y = each.text or "", float(each.attrib["x"]), float(each.attrib["y"])
        width = 0.62 * 12 * len(words)
        start = {"middle": 0.5, "end": 1.0}.get(each.attrib.get("text-anchor", "start"), 0.0)
        yield words, x - start * width, y - 9, x + (1 - start) * width, y + 2


def overlaps(svg: str) -> list[tuple[str, str]]:
    found = list(boxes(svg))
    return [
        (one[0], other[0])
        for index, one in enumerate(found)
        for other in found[index + 1 :]
        if one[1] < other[3] and other[1] < one[3] and one[2] < other[4] and other[2] < one[4]
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(finite, min_size=1, max_size=10))
def test_a_linear_axis_covers_its_values_with_few_even_ticks(values: list[float]) -> None:
    axis = frame.linear_axis("", values, str)
    ticks = [value for value, _ in axis.ticks]
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= min(values)
    assert max(values) <= axis.high + slack
    assert 2 <= len(ticks) <= 8
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-6)
    mantissa = (ticks[1] - ticks[0]) / 10 ** math.floor(math.log10((ticks[1] - ticks[0]) * 1.0000001))
    assert any(math.isclose(mantissa, nice, rel_tol=1e-6) for nice in (1, 2, 5, 10))


@settings(max_examples=100, deadline=None)
@given(st.lists(positive, min_size=1, max_size=10))
def test_a_logarithmic_axis_covers_its_values(values: list[float]) -> None:
    axis = frame.log_axis("", values, lambda value: f"{value:g}")
    assert axis.low <= min(values)
    assert axis.high >= max(values)
    assert axis.ticks
    assert all(axis.low <= value <= axis.high for value, _ in axis.ticks)


def test_places_are_linear_or_logarithmic_and_clipped() -> None:
    linear = frame.Axis(title="", low=0, high=10, ticks=())
    log = frame.Axis(title="", low=0.1, high=10, ticks=(), log=True)
    assert [linear.place(value) for value in (-5, 0, 2.5, 10, 99)] == [0, 0, 0.25, 1, 1]
    np.testing.assert_allclose([log.place(value) for value in (0, 0.1, 1, 10, 100)], [0, 0, 0.5, 1, 1])


def test_a_line_runs_through_its_points_and_a_level_lies_at_its_value() -> None:
    line = frame.Series(name="a", points=[(0, 0), (5, 0.5), (10, 1)], colour=2, marks=[(5, 0.5)])
    svg = lines.line_chart("t", [line], UNIT_X, UNIT_Y, levels=[(0.5, "half")])
    # A straight line needs no middle.
    corners = points_of(paths(svg, "series3")[0])
    (left, bottom), (right, top) = corners[0], corners[-1]
    assert left < right
    assert bottom > top
    half = points_of(paths(svg, "level")[0])[0][1]
    assert half == pytest.approx((top + bottom) / 2, abs=0.2)
    assert middle_of(paths(svg, "mark3")[0]) == pytest.approx(((left + right) / 2, half), abs=0.3)
    assert {"epoch", "half", "0", "10", "1"} <= set(texts(svg))
    assert ElementTree.fromstring(svg).attrib["aria-label"] == "t. half"


def test_lines_differ_without_their_colours() -> None:
    series = [frame.Series(name=f"{n}", points=[(0, n / 10), (10, n / 10)], colour=n) for n in range(6)]
    svg = lines.line_chart("t", series, UNIT_X, UNIT_Y)
    dashes = [paths(svg, f"series{n + 1}")[0].attrib.get("stroke-dasharray") for n in range(6)]
    assert len(set(dashes[1:])) == 5
    shapes = [
        paths(lines.line_chart("t", [frame.Series(name="", points=(), colour=n, marks=[(5, 0.5)])], UNIT_X, UNIT_Y),
              f"mark{n + 1}")[0].attrib["d"]
        for n in range(6)
    ]  # fmt: skip
    assert len(set(shapes)) == 6


def test_an_interval_crosses_the_limit_only_when_its_end_is_above() -> None:
    rows = [("a", 0.01, -0.002, 0.018, "pass"), ("b", 0.015, 0.005, 0.03, "inconclusive")]
    svg = bars.interval_chart("t", rows, 0.02, lambda value: f"{100 * value:g}", "points")
    (limit, _), (zero, _) = (points_of(paths(svg, css)[0])[0] for css in ("limit", "zero"))
    drawn = [points_of(path) for path in paths(svg, "interval") if "transform" not in path.attrib]
    (passed_low, passed_high), (open_low, open_high) = ((bar[0][0], bar[-1][0]) for bar in drawn)
    assert passed_low < zero < passed_high < limit
    assert zero < open_low < limit < open_high
    assert min(x for x, _ in points_of(paths(svg, "beyond")[0])) == pytest.approx(limit, abs=0.2)
    passed, undecided = paths(svg, "estimate")
    assert (middle_of(passed)[0] - zero) / (limit - zero) == pytest.approx(0.5, abs=0.02)
    assert passed.attrib["d"] != undecided.attrib["d"]
    assert {"a", "b", "limit 2"} <= set(texts(svg))
    label = ElementTree.fromstring(svg).attrib["aria-label"]
    assert label == "t. a, -0.2 to 1.8, pass; b, 0.5 to 3, inconclusive; limit 2"


def test_intervals_without_a_limit_have_none() -> None:
    rows = [("ours", 0.7, 0.6, 0.8, bars.EXPERT), ("floor", -0.2, -0.3, -0.1, "to compare")]
    svg = bars.interval_chart("t", rows, None, lambda value: f"{value:g}", "cosine")
    assert paths(svg, "limit") == paths(svg, "beyond") == []
    zero = points_of(paths(svg, "zero")[0])[0][0]
    ours, floor = (middle_of(each)[0] for each in paths(svg, "estimate"))
    assert floor < zero < ours
    assert ElementTree.fromstring(svg).attrib["aria-label"].endswith("floor, -0.3 to -0.1, to compare")


def test_a_histogram_counts_every_run_once() -> None:
    samples = np.concatenate([np.full(50, 1.0), np.full(100, 1.5), [40.0, 50.0]])
    svg = bars.histogram("t", samples, [(1.5, "p50"), (2.0, "p99")], lambda value: f"{value:g}", 1)
    floor = max(y for _, y in points_of(paths(svg, "axis")[0]))
    heights = {round(floor - y) for path in paths(svg, "f-s2") for _, y in points_of(path)} - {0}
    assert len(heights) == 2
    assert min(heights) / max(heights) == pytest.approx(0.5, abs=0.02)
    assert "2 of 152 runs were slower still" in texts(svg)


@pytest.mark.parametrize("p99", [1.0, 1.001, 1.01, 1.1, 2.0, 40.0])
def test_the_labels_of_a_histogram_never_cover_each_other(p99: float) -> None:
    samples = np.linspace(0.9, 1.1, 500)
    marks = [(1.0, "p50 1.00 ms"), (p99, f"p99 {p99:.2f} ms")]
    svg = bars.histogram("t", samples, marks, lambda value: f"{value:.3g} ms", 1)
    assert overlaps(svg) == []
    assert {"p50 1.00 ms", f"p99 {p99:.2f} ms"} <= set(texts(svg))
    assert all(left > -1 and right < frame.WIDTH + 1 for _, left, _, right, _ in boxes(svg))


def test_a_histogram_of_one_value_is_drawn() -> None:
    svg = bars.histogram("t", np.full(7, 3.0), [(3.0, "p50"), (3.0, "p99")], str, 0)
    assert "7 runs" in texts(svg)
    assert len(paths(svg, "f-s1")) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(positive, min_size=1, max_size=500))
def test_the_cumulative_curve_is_the_empirical_distribution(values: list[float]) -> None:
    samples = np.array(values)
    points = lines.cumulative_points(samples, count=40)
    assert len(points) <= 40
    assert points[-1] == (samples.max(), 1.0)
    for value, share in points:
        assert np.mean(samples < value) < share <= np.mean(samples <= value) + 1e-12


def test_the_spectrum_colours_what_is_kept() -> None:
    svg = bars.spectrum("t", np.array([4.0, 2.0, 1.0, -0.5]), 2)
    kept, rest = (points_of(paths(svg, css)[0]) for css in ("f-s2", "f-line"))
    assert {x for x, _ in kept} == {0.0, 30.0, 60.0}
    assert {x for x, _ in rest} == {60.0, 90.0, 120.0}
    assert {28 - y for _, y in kept} == {0.0, 28.0, 14.0}
    assert {28 - y for _, y in rest} == {0.0, 7.0}


def plane_point(label: str, accuracy: float, p50_ms: float, **others: object) -> plane.PlanePoint:
    given: dict[str, object] = {"interval": (accuracy - 0.01, accuracy + 0.01), "file_bytes": 100, "colour": 1}
    return plane.PlanePoint(label=label, accuracy=accuracy, p50_ms=p50_ms, **{**given, **others})  # type: ignore[arg-type]


def test_the_plane_shows_faster_to_the_left_better_above_and_larger_files_larger() -> None:
    points = [
        plane_point("teacher", 0.95, 1.3, file_bytes=5_000_000, colour=0),
        plane_point("int8", 0.94, 0.1, file_bytes=120_000, chosen=True),
        plane_point("unknown size", 0.91, 0.4, file_bytes=None, interval=None),
    ]
    svg = plane.accuracy_latency_plane("t", points, lambda share: f"{100 * share:g} %")
    teacher, int8, third = paths(svg, "artefact")
    assert middle_of(int8)[0] < middle_of(third)[0] < middle_of(teacher)[0]
    assert middle_of(teacher)[1] < middle_of(int8)[1] < middle_of(third)[1]
    sizes = [max(x for x, _ in points_of(each)) - min(x for x, _ in points_of(each)) for each in (third, int8, teacher)]
    assert sizes == sorted(sizes)
    assert sizes[0] > 3
    assert middle_of(paths(svg, "chosen")[0]) == pytest.approx(middle_of(int8), abs=0.3)
    assert {"teacher", "int8", "unknown size"} <= set(texts(svg))
    assert "int8: 94 %, 0.1 ms" in ElementTree.fromstring(svg).attrib["aria-label"]


def test_what_is_not_trained_is_a_mark_on_the_axis_of_the_plane() -> None:
    points = [plane_point("a", 0.9, 1.0), plane_point("b", 0.8, 4.0)]
    svg = plane.accuracy_latency_plane("t", points, str, untrained=[("small", 0.1), ("middle", 2.0)])
    small, middle = (points_of(each) for each in paths(svg, "untrained"))
    first, second = (middle_of(each)[0] for each in paths(svg, "artefact"))
    assert small[0][0] < first < middle[0][0] < second
    floor = max(y for _, y in points_of(paths(svg, "axis")[0]))
    assert small[0][1] == pytest.approx(floor, abs=0.2)
    assert "middle, not trained: 2 ms" in ElementTree.fromstring(svg).attrib["aria-label"]


def test_labels_of_the_plane_never_cover_each_other() -> None:
    points = [plane_point(f"expert number {n}", 0.9 + 0.0001 * (n % 7), 1 + 0.01 * n) for n in range(60)]
    svg = plane.accuracy_latency_plane("t", points, lambda share: f"{100 * share:.1f}")
    assert overlaps(svg) == []
    assert len(paths(svg, "artefact")) == 60
    assert sum(text.startswith("expert") for text in texts(svg)) >= 2


def test_a_reject_curve_and_a_reliability_curve_run_through_their_points() -> None:
    reject = lines.reject_curve(
        "t",
        [("int8", 1, [lines.RejectPoint(answered=0.5, accuracy=1.0), lines.RejectPoint(answered=1.0, accuracy=0.9)])],
        lambda share: f"{100 * share:.4g} %",
    )
    (left, top), (right, bottom) = points_of(paths(reject, "series2")[0])
    assert left < right
    assert top < bottom
    bins = [
        lines.ReliabilityBin(probability=0.5, accuracy=0.5, count=7),
        lines.ReliabilityBin(probability=0.9, accuracy=0.6, count=9),
        lines.ReliabilityBin(probability=0.1, accuracy=0.0, count=0),
    ]
    svg = lines.reliability("t", [("int8", 1, bins)], lambda share: f"{100 * share:g} %")
    (x0, y0), (x1, y1) = points_of(paths(svg, "level")[0])
    marks = [middle_of(each) for each in paths(svg, "mark2")]
    assert len(marks) == 2
    assert marks[0] == pytest.approx(((x0 + x1) / 2, (y0 + y1) / 2), abs=0.3)
    assert marks[1][1] > y0 + 0.9 * (y1 - y0)


@pytest.mark.parametrize(("counts", "drawn"), [((7, 4, 5), 2), ((1, 4, 2), 3), ((7, 0, 0), 1)])
def test_groups_of_a_few_images_are_not_drawn_unless_all_are_so_small(counts: tuple[int, ...], drawn: int) -> None:
    bins = [lines.ReliabilityBin(probability=0.3 * n, accuracy=0.2, count=count) for n, count in enumerate(counts)]
    svg = lines.reliability("t", [("int8", 1, bins)], lambda share: f"{100 * share:g} %")
    assert len(paths(svg, "mark2")) == drawn


def hostile_charts() -> list[str]:
    x = frame.linear_axis(HOSTILE, [0, 1], lambda _: HOSTILE)
    line = frame.Series(name=HOSTILE, points=[(0, 0), (1, 1)], colour=0)
    block = bars.Block(label=HOSTILE, tip=HOSTILE, left=0, width=1, row=0, colour=None)
    return [
        lines.line_chart(HOSTILE, [line], x, x, levels=[(0.5, HOSTILE)]),
        bars.interval_chart(HOSTILE, [(HOSTILE, 0.1, 0.0, 0.2, HOSTILE)], 0.2, lambda _: HOSTILE, HOSTILE),
        bars.histogram(HOSTILE, np.ones(3), [(1.0, HOSTILE), (1.0, "b")], lambda _: HOSTILE, 0),
        bars.spectrum(HOSTILE, np.ones(3), 1),
        plane.accuracy_latency_plane(HOSTILE, [plane_point(HOSTILE, 0.9, 1.0)], lambda _: HOSTILE),
        bars.blocks(HOSTILE, [block]),
    ]


def test_text_cannot_leave_its_place() -> None:
    for svg in hostile_charts():
        root = ElementTree.fromstring(svg)
        assert {each.tag for each in root.iter()} <= {"svg", "g", "title", "text", "path"}
        assert root.attrib["aria-label"].startswith("</text><script>alert('x')</script>\"&$\\frac{$ 猫 \\x00\\ud800")


def test_a_chart_asks_for_nothing_and_repeats_itself() -> None:
    first = hostile_charts()
    assert first == hostile_charts()
    for svg in first:
        assert not re.search(r"style=|\bid=|href|url\(|http|xmlns|<style|clip-path", svg)
        assert set(ElementTree.fromstring(svg).attrib) == {"class", "viewBox", "role", "aria-label"}


def test_without_matplotlib_there_is_no_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    drawing.can_draw.cache_clear()
    try:
        assert not drawing.can_draw()
        assert bars.spectrum("t", np.ones(3), 1) == ""
    finally:
        drawing.can_draw.cache_clear()
