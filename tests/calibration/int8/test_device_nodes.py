"""The division of nodes into INT8 and float: never worse than any other, which is found here by trying all."""

import itertools
import random

import onnx
import pytest
from onnx import helper

from edgedistill_calibration.int8.device_nodes import MARGIN, NodeTimes, Seam, conversion_ms, divide


def cost_of(int8: frozenset[str], times: dict[str, NodeTimes], seams: list[Seam], margin: float = 0.0) -> float:
    """What a division takes, written out: each node in its type, each seam where the types differ."""
    total = 0.0
    for name, each in times.items():
        total += each.int8_ms * (1 + margin) if name in int8 else each.fp32_ms
    for seam in seams:
        if seam.maker in int8 and seam.reader not in int8:
            total += seam.dequantise_ms
        if seam.maker not in int8 and seam.reader in int8:
            total += seam.quantise_ms
    return total


@pytest.mark.parametrize("seed", range(30))
def test_no_other_division_takes_less(seed: int) -> None:
    chance = random.Random(seed)
    names = [f"node_{place}" for place in range(chance.randint(1, 8))]
    times = {name: NodeTimes(fp32_ms=chance.random(), int8_ms=chance.random()) for name in names}
    seams = [
        Seam(
            maker=chance.choice([None, *names]),
            reader=chance.choice([None, *names]),
            quantise_ms=chance.random() / 4,
            dequantise_ms=chance.random() / 4,
        )
        for _ in range(chance.randint(0, 14))
    ]
    found = divide(times, seams)
    ways = [frozenset(way) for count in range(len(names) + 1) for way in itertools.combinations(names, count)]
    least = min(cost_of(way, times, seams, MARGIN) for way in ways)
    assert cost_of(found.int8, times, seams, MARGIN) == pytest.approx(least)
    assert found.mixed_ms == pytest.approx(cost_of(found.int8, times, seams))
    assert found.fp32_ms == pytest.approx(cost_of(frozenset(), times, seams))
    assert found.int8_ms == pytest.approx(cost_of(frozenset(names), times, seams))


def test_a_fast_node_stays_float_where_its_seams_take_more_than_it_saves() -> None:
    times = {"before": NodeTimes(fp32_ms=1.0, int8_ms=3.0), "fast": NodeTimes(fp32_ms=1.0, int8_ms=0.5)}
    cheap, dear = ([Seam(maker="before", reader="fast", quantise_ms=ms, dequantise_ms=ms)] for ms in (0.1, 0.9))
    assert divide(times, cheap).int8 == {"fast"}
    assert divide(times, dear).int8 == frozenset()


def test_a_gain_within_what_measurements_vary_by_is_none() -> None:
    assert divide({"node": NodeTimes(fp32_ms=1.0, int8_ms=0.98)}, []).int8 == frozenset()
    assert divide({"node": NodeTimes(fp32_ms=1.0, int8_ms=0.9)}, []).int8 == {"node"}


def graph_of(*nodes: tuple[str, str, str]) -> onnx.GraphProto:
    """A graph of nodes by (operator, value read, value made), each named after what it makes."""
    made = [helper.make_node(operator, [given], [value], name=value) for operator, given, value in nodes]
    return helper.make_graph(made, "times", [], [])


IMAGE, SMALL = 150_000, 1280
SIZES = {"image": IMAGE, "scaled": IMAGE, "pooled": SMALL}
FLOATS = graph_of(("Mul", "image", "scaled"), ("GlobalAveragePool", "scaled", "pooled"))
INT8 = graph_of(
    ("Mul", "image_rows", "scaled"), ("QuantizeLinear", "scaled", "image_q"), ("QuantizeLinear", "pooled", "pooled_q")
)


def test_a_conversion_takes_what_one_of_many_numbers_took() -> None:
    """What a small value takes is mostly what any node takes."""
    times = {"scaled": 0.03, "image_q": 0.02, "pooled_q": 0.005}
    assert conversion_ms((INT8, FLOATS), times, SIZES, "QuantizeLinear") == pytest.approx(0.02 / IMAGE)


def test_without_one_it_takes_what_another_pass_over_many_numbers_took() -> None:
    """ONNX Runtime gives a quantiser that it moves another name, so that its time is not known."""
    times = {"scaled": 0.03, "pooled_q": 0.005}
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        assert conversion_ms((INT8, FLOATS), times, SIZES, operator) == pytest.approx(0.03 / IMAGE)
    assert 0 < conversion_ms((INT8, FLOATS), {"pooled_q": 0.005}, SIZES, "QuantizeLinear") < 0.005 / SMALL
