"""Charts: values land where the axis says, the markup is whole, and text cannot break out of it."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_deploy.report import charts

HOSTILE = "</text><script>alert('x')</script>\"&"
finite = st.floats(-1e6, 1e6, allow_nan=False)
positive = st.floats(1e-6, 1e9, allow_nan=False)


def shapes(svg: str, tag: str, css: str) -> list[dict[str, str]]:
    return [
        dict(each.attrib)
        for each in ElementTree.fromstring(svg).iter(tag)
        if css in each.attrib.get("class", "").split()
    ]


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter("text")]


@settings(max_examples=100, deadline=None)
@given(st.lists(finite, min_size=1, max_size=10))
def test_a_linear_axis_covers_its_values_with_few_even_ticks(values: list[float]) -> None:
    axis = charts.linear_axis("", values, str)
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
    axis = charts.log_axis("", values, lambda value: f"{value:g}")
    assert axis.low <= min(values)
    assert axis.high >= max(values)
    assert axis.ticks
    assert all(axis.low <= value <= axis.high for value, _ in axis.ticks)


def test_places_are_linear_or_logarithmic_and_clipped() -> None:
    linear = charts.Axis(title="", low=0, high=10, ticks=())
    log = charts.Axis(title="", low=0.1, high=10, ticks=(), log=True)
    assert [linear.place(value) for value in (-5, 0, 2.5, 10, 99)] == [0, 0, 0.25, 1, 1]
    np.testing.assert_allclose([log.place(value) for value in (0, 0.1, 1, 10, 100)], [0, 0, 0.5, 1, 1])


def test_a_line_runs_through_its_points_and_a_level_lies_at_its_value() -> None:
    x = charts.Axis(title="epoch", low=0, high=10, ticks=[(0, "0"), (10, "10")])
    y = charts.Axis(title="", low=0, high=1, ticks=[(0, "0"), (1, "1")])
    line = charts.Series(name="a", points=[(0, 0), (5, 0.5), (10, 1)], colour=2, marks=[(5, 0.5)])
    svg = charts.line_chart("t", [line], x, y, levels=[(0.5, "half")])
    points = [tuple(map(float, pair.split(","))) for pair in shapes(svg, "polyline", "s3")[0]["points"].split()]
    (left, bottom), (middle, half), (right, top) = points
    assert left < middle < right
    assert bottom > half > top
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    assert half == pytest.approx((top + bottom) / 2, abs=0.1)
    assert float(shapes(svg, "line", "level")[0]["y1"]) == half
    dot = shapes(svg, "circle", "dot")[0]
    assert (float(dot["cx"]), float(dot["cy"])) == (middle, half)
    assert {"epoch", "half", "0", "10", "1"} <= set(texts(svg))


def test_an_interval_crosses_the_limit_only_when_its_end_is_above() -> None:
    rows = [("a", 0.01, -0.002, 0.018, "pass"), ("b", 0.015, 0.005, 0.03, "inconclusive")]
    svg = charts.interval_chart("t", rows, 0.02, lambda value: f"{100 * value:g}", "points")
    limit = float(shapes(svg, "line", "limit")[0]["x1"])
    zero = float(shapes(svg, "line", "zero")[0]["x1"])
    passed, undecided = (shapes(svg, "line", css)[0] for css in ("pass", "inconclusive"))
    assert float(passed["x1"]) < zero < float(passed["x2"]) < limit
    assert zero < float(undecided["x1"]) < limit < float(undecided["x2"])
    assert float(shapes(svg, "rect", "beyond")[0]["x"]) == limit
    estimate = float(shapes(svg, "circle", "pass")[0]["cx"])
    assert (estimate - zero) / (limit - zero) == pytest.approx(0.5, abs=0.01)
    assert {"a", "b", "limit 2"} <= set(texts(svg))


def test_a_histogram_counts_every_run_once() -> None:
    samples = np.concatenate([np.full(50, 1.0), np.full(100, 1.5), [40.0, 50.0]])
    svg = charts.histogram("t", samples, [(1.5, "p50"), (2.0, "p99")], lambda value: f"{value:g}", 1)
    heights = sorted(float(bar["height"]) for bar in shapes(svg, "rect", "s2"))
    assert len(heights) == 2
    assert heights[0] / heights[1] == pytest.approx(0.5, abs=0.02)
    assert "2 of 152 runs were slower still" in texts(svg)


def test_a_histogram_of_one_value_is_drawn() -> None:
    svg = charts.histogram("t", np.full(7, 3.0), [(3.0, "p50"), (3.0, "p99")], str, 0)
    assert "7 runs" in texts(svg)
    assert len(shapes(svg, "rect", "bar")) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(positive, min_size=1, max_size=500))
def test_the_cumulative_curve_is_the_empirical_distribution(values: list[float]) -> None:
    samples = np.array(values)
    points = charts.cumulative_points(samples, count=40)
    assert len(points) <= 40
    assert points[-1] == (samples.max(), 1.0)
    for value, share in points:
        assert np.mean(samples < value) < share <= np.mean(samples <= value) + 1e-12


def test_the_spectrum_colours_what_is_kept() -> None:
    svg = charts.spectrum("t", np.array([4.0, 2.0, 1.0, -0.5]), 2)
    assert len(shapes(svg, "rect", "s1")) == 2
    heights = [float(each.attrib["height"]) for each in ElementTree.fromstring(svg).iter("rect")]
    assert heights == [28.0, 14.0, 7.0, 0.0]


def test_text_cannot_leave_its_place() -> None:
    x = charts.linear_axis(HOSTILE, [0, 1], lambda _: HOSTILE)
    line = charts.Series(name=HOSTILE, points=[(0, 0), (1, 1)], colour=0)
    drawn = [
        charts.line_chart(HOSTILE, [line], x, x, levels=[(0.5, HOSTILE)]),
        charts.interval_chart(HOSTILE, [(HOSTILE, 0.1, 0.0, 0.2, HOSTILE)], 0.2, lambda _: HOSTILE, HOSTILE),
        charts.histogram(HOSTILE, np.ones(3), [(1.0, HOSTILE), (1.0, "b")], lambda _: HOSTILE, 0),
        charts.spectrum(HOSTILE, np.ones(3), 1),
    ]
    for svg in drawn:
        tags = {each.tag for each in ElementTree.fromstring(svg).iter()}
        assert tags <= {"svg", "title", "line", "text", "polyline", "circle", "rect"}
        assert ElementTree.fromstring(svg).attrib["aria-label"] == HOSTILE
