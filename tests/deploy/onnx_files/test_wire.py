"""The table of fields against the onnx library's own description of its messages."""

import functools
from pathlib import Path
from typing import Any

import onnx

from edgedistill_deploy.onnx_files.wire import FIELDS, encode_field, open_message
from reference.measured_models import write_model


def description(kind: str) -> Any:
    return functools.reduce(getattr, kind.split("."), onnx).DESCRIPTOR


def kind_inside(field: Any) -> str | None:
    return None if field.message_type is None else str(field.message_type.full_name).removeprefix("onnx.")


def leads_to_tensors(kind: str | None, passed: frozenset[str] = frozenset()) -> bool:
    if kind is None or kind in passed or not hasattr(onnx, kind):
        return False
    inner = (kind_inside(field) for field in description(kind).fields)
    return kind == "TensorProto" or any(leads_to_tensors(each, passed | {kind}) for each in inner)


def test_each_field_has_the_name_and_the_message_that_onnx_gives_it() -> None:
    for kind, fields in FIELDS.items():
        for number, (name, inner) in fields.items():
            field = description(kind).fields_by_number[number]
            assert (field.name, kind_inside(field)) == (name, inner), (kind, number)


def test_no_field_that_leads_to_a_tensor_is_missing() -> None:
    missing = [
        (kind, field.name)
        for kind in FIELDS
        for field in description(kind).fields
        if field.number not in FIELDS[kind] and leads_to_tensors(kind_inside(field))
    ]
    assert missing == []


def test_the_walk_tells_which_fields_lead_to_each_message(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    graph = onnx.load(path).graph
    with open_message(path) as model:
        places = [place for place, _ in model.walk()]
    assert places[0] == ()
    assert places.count(("graph", "node")) == len(graph.node)
    assert places.count(("graph", "initializer")) == len(graph.initializer)


def test_a_long_field_is_read_back(tmp_path: Path) -> None:
    text = "wert_\u00fc" * 50
    (tmp_path / "m.onnx").write_bytes(
        encode_field(
            "ModelProto",
            "graph",
            encode_field("GraphProto", "output", encode_field("ValueInfoProto", "name", text.encode())),
        )
    )
    with open_message(tmp_path / "m.onnx") as model:
        (*_, (place, message)) = model.walk()
        assert (place, list(message.texts("name"))) == (("graph", "output"), [text])
