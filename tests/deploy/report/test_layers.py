"""Where the time goes and what an image takes in energy, on the page."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.records.layers import LayerReport, NodeTime, power_sentence
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.report.layers import icicle, parts_of
from edgedistill_deploy.report.page import render_report
from reference.html_page import Page
from reference.report_bundles import POWER, add_record, latency_record, models_only, with_layers

HOSTILE = "</div><script>alert('x')</script>\"&"


def row(name: str, module: str, ms: float) -> NodeTime:
    return NodeTime(node=name, op_type="Conv", module=module or None, mean_ms=ms, share=ms / 10, provider="cpu")


def layers_of(*nodes: NodeTime, outside_ms: float | None = 1.0) -> LayerReport:
    return LayerReport(layers=nodes, source="a profiler", runs=5, mean_ms=10.0, outside_ms=outside_ms)


def bars(layers: LayerReport) -> dict[str, tuple[float, float, int, int | None]]:
    """Return {path: (left %, width %, row, colour)} of the parts by what their tool tips name."""
    return {
        each.tip.split(": ")[0]: (round(100 * each.left, 3), round(100 * each.width, 3), each.row, each.colour)
        for each in parts_of(layers)
    }


def test_parts_are_as_wide_as_their_time_and_lie_below_what_holds_them() -> None:
    layers = layers_of(
        row("a", "layer1.0.conv1", 4.0), row("b", "layer1.1", 2.0), row("c", "fc", 2.0), row("d", "", 1.0)
    )
    found = bars(layers)
    assert {path: place[:3] for path, place in found.items()} == {
        "a run": (0.0, 100.0, 0),
        "layer1": (0.0, 60.0, 1),
        "layer1.0": (0.0, 40.0, 2),
        "layer1.0.conv1": (0.0, 40.0, 3),
        "layer1.1": (40.0, 20.0, 2),
        "fc": (60.0, 20.0, 1),
        "added by the runtime": (80.0, 10.0, 1),
        "in no node": (90.0, 10.0, 1),
    }
    assert found["layer1"][3] == found["layer1.0.conv1"][3] != found["fc"][3]
    assert {found[each][3] for each in ("a run", "added by the runtime", "in no node")} == {None}


def test_the_drawn_parts_lie_where_they_were_placed_and_name_themselves() -> None:
    svg = ElementTree.fromstring(icicle("title", layers_of(row("a", "one", 6.0), row("b", "two", 3.0))))
    drawn = {}
    for part in svg.iter("g"):
        title, path = part.find("title"), part.find("path")
        if title is not None and path is not None:
            numbers = [float(text) for text in re.findall(r"[\d.]+", path.attrib["d"])]
            drawn[(title.text or "").split(":")[0]] = min(numbers[::2]), max(numbers[::2]), min(numbers[1::2])
    assert drawn == {
        "a run": (0, 640, 0), "one": (0, 384, 26), "two": (384, 576, 26), "in no node": (576, 640, 26),
    }  # fmt: skip
    assert {each.text for each in svg.iter("text")} >= {"one", "two", "a run, 10.0 ms"}


def test_names_cannot_break_out_of_the_chart_or_make_it_deep_without_end() -> None:
    layers = layers_of(row(HOSTILE, f"{HOSTILE}.a", 5.0), row("deep", ".".join("x" * 500), 4.0))
    assert "<script" not in icicle(HOSTILE, layers)
    assert max(place[2] for place in bars(layers).values()) <= 12


def test_a_run_that_took_no_time_is_drawn() -> None:
    assert "in no node" not in icicle("t", layers_of(row("a", "fc", 0.0), outside_ms=None))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return models_only(tmp_path / "bundle")


def test_the_page_has_the_ten_slowest_the_rest_and_what_is_in_no_node(bundle: Bundle) -> None:
    add_record(bundle, with_layers(bundle))
    page = Page(render_report(bundle))
    table = page.rows("latency", 1)
    assert [cells[0] for cells in table[1:]] == [f"n{i}" for i in range(11, 1, -1)] + ["2 other nodes", "in no node"]
    assert table[1][2:5] == ["layer11", "120 µs", "12.0 %"]
    assert table[-2][3:5] == ["30.0 µs", "3.0 %"]
    assert table[-1][3:5] == ["220 µs", "22.0 %"]


def test_a_page_without_node_times_has_no_such_heading(bundle: Bundle) -> None:
    add_record(bundle, latency_record(bundle, "fp32"))
    assert "Where the time of" not in render_report(bundle)


def test_hostile_names_of_nodes_are_text_on_the_page(bundle: Bundle) -> None:
    record = with_layers(bundle)
    record["layers"][3].update(node=HOSTILE, module=HOSTILE, op_type=HOSTILE)
    add_record(bundle, record)
    assert "<script>alert" not in render_report(bundle)


@pytest.mark.parametrize("field", ["node", "mean_ms", "share", "module"])
def test_damaged_node_times_leave_the_record_out_with_a_reason(bundle: Bundle, field: str) -> None:
    record = with_layers(bundle)
    del record["layers"][0][field]
    add_record(bundle, record)
    records = read_records(bundle)
    assert records.latency == ()
    assert records.problems[0].endswith(f"is left out: it has no {field}.")


def test_energy_is_said_with_what_was_subtracted(bundle: Bundle) -> None:
    add_record(bundle, latency_record(bundle, "fp32", power=POWER))
    assert (
        "9.5 W under load less 4 W at rest (whole module, by ina3221): 5.5 W, [5.25, 5.75]; an image takes 11 mJ, 19 "
        "mJ with what the board takes at rest." in render_report(bundle)
    )


def test_absent_sensors_are_not_zero() -> None:
    nothing = {**dict.fromkeys(POWER, None), "reason": "not available: this machine shows no power sensor to this user"}
    assert (
        power_sentence({"power": nothing}) == "Energy not available: this machine shows no power sensor to this user."
    )
    unclear = {
        **POWER,
        "energy_per_image_mj": None,
        "reason": "the power under load is not distinguishable from that at rest",
    }
    assert power_sentence({"power": unclear}).endswith(
        "; no energy is stated, as the power under load is not distinguishable from that at rest."
    )
    assert power_sentence({}) == ""
