"""Numbers in words: the right unit, about three digits, a dash where nothing was measured."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_deploy import wording as w


@pytest.mark.parametrize(
    ("given_ms", "told"),
    [
        (0.0944, "94.4 µs"),
        (0.0004, "0.40 µs"),
        (1.306, "1.31 ms"),
        (12.34, "12.3 ms"),
        (456.7, "457 ms"),
        (2500.0, "2.50 s"),
    ],
)
def test_times_take_the_unit_that_suits_them(given_ms: float, told: str) -> None:
    assert w.milliseconds(given_ms) == told


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (118_000, "118 kB"),
        (5_120_000, "5.12 MB"),
        (999_960, "1.00 MB"),
        (10**400, "1000000 TB"),
    ],
)
def test_sizes_are_decimal(count: int, told: str) -> None:
    assert w.size(count) == told


def test_counts_have_a_suffix_or_are_written_in_full() -> None:
    assert [w.quantity(count) for count in (12, 98_410, 1_272_036, 38_400_000)] == ["12", "98.4 k", "1.27 M", "38.4 M"]
    assert w.whole(1_272_036) == "1,272,036"


def test_durations() -> None:
    assert [w.seconds(value) for value in (2.44, 84.2, 7322.0)] == ["2.4 s", "1 min 24 s", "2 h 2 min"]


def test_shares_and_differences() -> None:
    assert w.percent(0.9455) == "94.5 %" or w.percent(0.9455) == "94.6 %"
    assert w.percent_interval((0.9347, 0.9546)) == "93.5 to 95.5 %"
    assert w.points(-0.0045) == "−0.45 points"
    assert w.points_interval((-0.002, 0.018)) == "−0.20 to 1.80"
    assert (w.signed_points(0.005), w.signed_points(-0.02)) == ("+0.5", "−2.0")
    assert (w.decibel(31.24), w.decibel(None)) == ("31.2 dB", "exact")
    assert (w.decimals(0.9998531, 6), w.decimals(None, 6)) == ("0.999853", w.MISSING)
    assert w.significant(3.21e-6) == "3.21e−06"


def test_what_was_not_measured_is_a_dash_and_an_open_interval_is_left_out() -> None:
    told = [w.percent(None), w.points(None), w.milliseconds(None), w.seconds(None), w.size(None), w.quantity(None)]
    assert {*told, w.whole(None), w.significant(None)} == {w.MISSING}
    assert (w.percent_interval((None, 1.0)), w.points_interval((0.0, None))) == ("", "")


def test_ratios_say_which_way() -> None:
    assert w.ratio(2.0, 9.0, "smaller", "larger") == "4.5× smaller"
    assert w.ratio(9.0, 2.0, "smaller", "larger") == "4.5× larger"
    assert w.ratio(1, 250, "fewer", "more") == "250× fewer"
    assert w.ratio(None, 2.0, "a", "b") == w.ratio(1.0, None, "a", "b") == w.ratio(0, 2.0, "a", "b") == ""


def test_lists_are_spoken() -> None:
    assert [w.join_words(items) for items in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-3, 1e12))
def test_a_time_reads_back_within_half_a_per_cent(value: float) -> None:
    number, unit = w.milliseconds(value).split()
    assert float(number) * {"µs": 1e-3, "ms": 1.0, "s": 1e3}[unit] == pytest.approx(value, rel=0.0051)
