"""Bundles made to harm: each is refused in a sentence, without a traceback, a read outside, or memory and time without
bounds."""

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.bundle.reference import read_golden, read_reference
from edgedistill_deploy.errors import BundleError, EdgeDistillError, quote_value
from edgedistill_deploy.files.json_text import MAX_DEPTH, parse_json
from edgedistill_deploy.onnx_files.content import read_weights
from edgedistill_deploy.onnx_files.graph import read_graph
from edgedistill_deploy.onnx_files.safety import read_claims
from edgedistill_deploy.records._subspace_file import read_subspace_rows
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.runtimes.opening import open_session
from reference.hostile_bundles import copy_of, examine, register_anew, write_full_bundle
from reference.mutations import HOSTILE_VALUES, changed_bytes, changed_json


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_full_bundle(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return copy_of(sound, tmp_path / "bundle")


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((folder / "manifest.json").read_text())
    edit(record)
    (folder / "manifest.json").write_text(json.dumps(record))


def test_a_sound_bundle_is_read_whole(folder: Path) -> None:
    assert examine(folder) == []
    assert read_records(open_bundle(folder)).problems == ()


# Fuzzing: a short run for every change; scripts/fuzz.py goes on for as long as one likes


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.randoms())
def test_damaged_bytes_are_refused_or_read_never_crash(sound: Path, tmp_path: Path, random: Random) -> None:
    folder = copy_of(sound, tmp_path / "fuzzed")
    path = random.choice(sorted(each for each in folder.rglob("*") if each.is_file()))
    path.write_bytes(changed_bytes(path.read_bytes(), random))
    register_anew(folder)
    examine(folder)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.randoms())
def test_wrong_values_of_json_are_refused_or_read_never_crash(sound: Path, tmp_path: Path, random: Random) -> None:
    folder = copy_of(sound, tmp_path / "fuzzed")
    path = random.choice(sorted(folder.rglob("*.json")))
    path.write_text(json.dumps(changed_json(json.loads(path.read_text()), random)))
    examine(folder)


# The manifest


@pytest.mark.parametrize("name", ["subtask", "preprocess", "teacher", "student", "provenance", "files", "stages"])
@pytest.mark.parametrize("value", [None, 3, "text", [], True])
def test_every_field_of_the_manifest_has_its_kind(folder: Path, name: str, value: object) -> None:
    edit_manifest(folder, lambda record: record.update({name: value}))
    with pytest.raises(BundleError, match=rf"manifest\.json is damaged: {name} must be a JSON object"):
        open_bundle(folder)


def test_choices_that_are_no_object_are_refused(folder: Path) -> None:
    edit_manifest(folder, lambda record: record.update(choices=[1]))
    with pytest.raises(BundleError, match=r"is damaged: choices must be a JSON object"):
        open_bundle(folder)


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "a/../../secret",
        "/etc/passwd",
        "//host/share",
        "C:/x",
        "c:x",
        "model.onnx:stream",
        "a\\b",
        "a\0b",
        "a\x1b[2Jb",
        "MANIFEST.JSON",
        "./manifest.json",
        "manifest.json.",
        "manifest.json ",
        "a./b",
        "..",
        "",
    ],
)
def test_paths_that_mean_something_else_somewhere_are_refused(folder: Path, path: str) -> None:
    edit_manifest(folder, lambda record: record["files"]["golden"].update(path=path))
    with pytest.raises(BundleError, match=r"of golden leads out of the bundle; it is refused\."):
        open_bundle(folder)


@pytest.mark.parametrize("path", ["x" * 300, "/".join(["y" * 200] * 8)])
def test_paths_that_no_file_system_takes_are_refused(folder: Path, path: str) -> None:
    edit_manifest(folder, lambda record: record["files"]["golden"].update(path=path))
    with pytest.raises(BundleError, match=r"of golden is longer than file systems take") as caught:
        open_bundle(folder)
    assert len(str(caught.value)) < 300 + len(str(folder))


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((folder / "golden.npz").read_bytes())
    (folder / "golden.npz").unlink()
    (folder / "golden.npz").symlink_to(secret)
    with pytest.raises(BundleError, match=r"golden\.npz leads out of the bundle; it is refused"):
        open_bundle(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no name here")
def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / "golden.npz").unlink()
    os.mkfifo(folder / "golden.npz")
    with pytest.raises(BundleError, match=r"golden\.npz, the file for golden, is missing"):
        open_bundle(folder)


def test_sizes_beyond_any_model_are_refused_before_anything_is_hashed(folder: Path) -> None:
    with (folder / "golden.npz").open("r+b") as stream:
        stream.truncate(1 << 35)  # takes no room on the disk
    edit_manifest(folder, lambda record: record["files"]["golden"].update(bytes=1 << 35))
    with pytest.raises(BundleError, match=r"files\.golden\.bytes is 34359738368; it must be a whole number up to"):
        open_bundle(folder)


def test_files_without_number_are_refused(folder: Path) -> None:
    def fill(record: dict[str, Any]) -> None:
        record["files"].update({f"role{index}": record["files"]["golden"] for index in range(1001)})

    edit_manifest(folder, fill)
    with pytest.raises(BundleError, match=r"lists \d+ files; a bundle has at most 1000"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\0"])
def test_names_that_would_steer_a_terminal_are_refused(folder: Path, name: str) -> None:
    edit_manifest(folder, lambda record: record["subtask"].update(class_names=[name, "b", "c"]))
    with pytest.raises(BundleError, match=r"subtask\.class_names must not hold control characters"):
        open_bundle(folder)
    edit_manifest(folder, lambda record: record["subtask"].update(class_names=["a", "b", "c"], name=name))
    with pytest.raises(BundleError, match=r"subtask\.name must be a string without control characters"):
        open_bundle(folder)


def test_a_hash_that_does_not_match_is_refused(folder: Path) -> None:
    content = bytearray((folder / "reference.npz").read_bytes())
    content[-1] ^= 1
    (folder / "reference.npz").write_bytes(content)
    with pytest.raises(BundleError, match=r"reference\.npz was changed after it was registered for reference"):
        open_bundle(folder)


def test_messages_quote_little_of_what_they_are_given() -> None:
    assert all(
        len(quote_value(value)) <= 60 for value in (*HOSTILE_VALUES, "x" * 10**6, list(range(10**5)), {1: "y" * 99})
    )


# JSON


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, f"more than {MAX_DEPTH} levels are nested"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} levels are nested"),
        ('{"a":' * 100 + "1" + "}" * 100, f"more than {MAX_DEPTH} levels are nested"),
        ("9" * 100_000, "999999999999999999999999 does not fit 64 bits"),
        (str(1 << 64), "18446744073709551616 does not fit 64 bits"),
        ("1e400", "1e400 is beyond any number"),
        ("-1e400", "-1e400 is beyond any number"),
        ("NaN", "NaN is not a JSON value"),
        ('"\\ud800"', "surrogates not allowed"),
        ('{"\\uDFFF": 1}', "surrogates not allowed"),
        (b"\xff", "invalid start byte"),
    ],
)
def test_json_that_later_steps_cannot_bear_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


@settings(max_examples=60)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    )
)
def test_other_json_is_parsed_as_usual(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


def test_the_deepest_json_allowed_is_parsed() -> None:
    assert json.dumps(parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)) == "[" * MAX_DEPTH + "]" * MAX_DEPTH


# Arrays


def write_npz(path: Path, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(shape: str, descr: str = "|u1", content: bytes = b"") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (npy("(0, 4611686018427387904, 4, 3)"), r"claims the shape \(0, 4611686018427387904, 4, 3\)"),
        (npy("(-1, -1, 1, 3)", content=b"abc"), r"claims the shape \(-1, -1, 1, 3\)"),
        (npy("(99999999, 64, 64, 3)"), r"inputs claims \d+ bytes, but the file holds 0 for it"),
        (npy("(1,)", "|O"), r"inputs has dtype object and shape \(1,\); it must be uint8"),
        (npy("(1, 1, 1, 3)", "<f4"), r"inputs has dtype float32"),
        (npy("(" * 3000), r"damaged \.npy header"),
    ],
)
def test_arrays_that_claim_what_they_are_not_are_refused(tmp_path: Path, inputs: bytes, message: str) -> None:
    path = write_npz(tmp_path / "golden.npz", inputs=inputs, outputs=npy("(1, 3)", "<f4", bytes(12)))
    with pytest.raises(BundleError, match=message):
        read_golden(path)


def test_an_archive_that_unpacks_to_more_than_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgedistill_deploy.bundle.reference.MAX_GOLDEN_BYTES", 10**6)
    bomb = npy(f"({10**6}, 1, 1, 3)", content=bytes(3 * 10**6))
    path = write_npz(tmp_path / "golden.npz", inputs=bomb, outputs=npy("(1, 3)", "<f4", bytes(12)))
    assert path.stat().st_size < 10**4
    with pytest.raises(BundleError, match=r"The arrays of .*golden\.npz take 3000012 bytes, more than the 1000000"):
        read_golden(path)


def test_an_archive_larger_than_what_is_read_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "golden.npz").open("wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(BundleError, match=r"golden\.npz has 1073741824 bytes, more than the 268435456 that are read"):
        read_golden(tmp_path / "golden.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA])
def test_packings_that_nobody_here_writes_are_refused(tmp_path: Path, method: int) -> None:
    member = npy("(1, 1, 1, 3)", content=b"abc")
    path = write_npz(tmp_path / "golden.npz", method, inputs=member, outputs=npy("(1, 3)", "<f4", bytes(12)))
    with pytest.raises(BundleError, match=rf"cannot be read as \.npz: inputs is packed by method {method}"):
        read_golden(path)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(marker),)

    np.savez(tmp_path / "reference.npz", logits=np.array([Harmful()], dtype=object), allow_pickle=True)
    with pytest.raises(BundleError, match=r"logits has dtype object"):
        read_reference(tmp_path / "reference.npz")
    assert not marker.exists()


# ONNX


def write_graph(path: Path, nodes: list[onnx.NodeProto], initializers: tuple[onnx.TensorProto, ...] = ()) -> Path:
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        initializer=list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def answer(*after: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0),
        *after,
    ]


def tensor(shape: list[int], raw: bytes = b"") -> onnx.TensorProto:
    made = TensorProto(name="weight", data_type=TensorProto.FLOAT, raw_data=raw)
    made.dims.extend(shape)
    return made


def loop() -> onnx.NodeProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["x", "x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    return helper.make_node("Loop", ["count", "", "mean"], ["logits"], body=body)


_FOR_EVER = numpy_helper.from_array(np.array(2**62, np.int64), "count")
_ADD = helper.make_node("Add", ["mean", "weight"], ["logits"])


@pytest.mark.parametrize(
    ("nodes", "initializers", "message"),
    [
        ([loop()], (_FOR_EVER,), r"holds a Loop, which may run for ever; it is refused"),
        ([_ADD], (tensor([10**6, 10**6], bytes(8)),), r"holds a tensor that claims 1000000000000 values in \d+ bytes"),
        ([_ADD], (tensor([2**62] * 40),), r"holds a tensor of 33 axes"),
        (
            [helper.make_node("Constant", [], ["weight"], value=tensor([10**9])), _ADD],
            (),
            r"holds a tensor that claims 1000000000 values",
        ),
    ],
)
def test_graphs_without_bounds_are_refused(
    folder: Path, nodes: list[onnx.NodeProto], initializers: tuple[onnx.TensorProto, ...], message: str
) -> None:
    write_graph(folder / "model.fp32.onnx", answer(*nodes), initializers)
    register_anew(folder)
    with pytest.raises(BundleError, match=message):
        open_session(folder, threads=1)


def test_a_graph_in_a_circle_is_refused(folder: Path) -> None:
    circle = [helper.make_node("Add", ["a", "mean"], ["b"]), helper.make_node("Add", ["b", "mean"], ["a"])]
    write_graph(folder / "model.fp32.onnx", answer(*circle, helper.make_node("Identity", ["a"], ["logits"])))
    register_anew(folder)
    with pytest.raises(EdgeDistillError, match=r"cannot load .*model\.fp32\.onnx: .*not acyclic.* restore the file"):
        open_session(folder, threads=1)


def test_a_graph_that_makes_more_than_any_memory_fails_in_a_sentence(folder: Path) -> None:
    shape = numpy_helper.from_array(np.array([1e5, 1e5, 1e4], np.float32), "sizes")
    nodes = answer(
        helper.make_node("Sqrt", ["sizes"], ["roots"]),  # a size that only a run tells
        helper.make_node("Mul", ["roots", "roots"], ["squares"]),
        helper.make_node("Cast", ["squares"], ["shape"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["mean", "sum"], ["logits"]),
    )
    write_graph(folder / "model.fp32.onnx", nodes, (shape,))
    register_anew(folder)
    with (
        open_session(folder, threads=1) as session,
        pytest.raises(EdgeDistillError, match=r"Failed to allocate memory"),
    ):
        session.run({"image": np.zeros((1, 4, 4, 3), np.uint8)})


def test_a_graph_that_plainly_needs_too_much_memory_is_not_loaded(folder: Path) -> None:
    shape = numpy_helper.from_array(np.array([10**5, 10**5, 10**4], np.int64), "shape")
    nodes = answer(
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["mean", "sum"], ["logits"]),
    )
    write_graph(folder / "model.fp32.onnx", nodes, (shape,))
    register_anew(folder)
    with pytest.raises(BundleError, match=r"makes a value of 1e\+14 numbers out of one image"):
        open_session(folder, threads=1)


@pytest.mark.parametrize("location", ["../../secret", "/etc/passwd", "other.bin", ""])
def test_weights_in_other_files_are_refused(folder: Path, location: str) -> None:
    weight = tensor([3])
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    write_graph(folder / "model.fp32.onnx", answer(_ADD), (weight,))
    register_anew(folder)
    with pytest.raises(BundleError, match=r"keeps weights in another file"):
        open_session(folder, threads=1)


@pytest.mark.parametrize("read", [read_graph, read_claims, lambda path: list(read_weights(path))])
@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x3a\x05\x0a\xff\xff\xff\x7f", b"\x3a\x04\x0a\x02\x22\x05"])
def test_bytes_that_are_no_model_are_refused_by_every_reader(
    tmp_path: Path, read: Callable[[Path], object], content: bytes
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(EdgeDistillError, match=r"m\.onnx cannot be read as an ONNX model: .*; rebuild or restore"):
        read(path)


def test_messages_in_messages_without_end_are_refused(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        length, size = b"", len(content)
        while size > 0x7F:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    graph = b""
    for _ in range(2000):  # a graph in an attribute of a node of a graph
        graph = field(1, field(5, field(6, graph)))
    (tmp_path / "m.onnx").write_bytes(field(7, graph))
    with pytest.raises(EdgeDistillError, match=r"cannot be read as an ONNX model: maximum recursion depth"):
        read_claims(tmp_path / "m.onnx")


# What the report reads


def safetensors(header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 62),
        safetensors([]),
        safetensors({"a/basis": {"shape": [2, 1]}}),
        safetensors({f"{index}/basis": {} for index in range(2000)}),
        safetensors(
            {
                "a/basis": {"shape": [2, 1]},
                "a/eigenvalues": {"dtype": "F64", "shape": [2**40] * 9, "data_offsets": [0, 8]},
            }
        ),
        safetensors(
            {"a/basis": {"shape": [2, 1]}, "a/eigenvalues": {"dtype": "F64", "shape": [2], "data_offsets": [-99, 8]}}
        ),
    ],
)
def test_subspaces_that_claim_too_much_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(BundleError, match=r"s cannot be read as subspaces \(.*\); it is left out of the report"):
        read_subspace_rows(tmp_path / "s")


def test_records_without_number_are_left_out(folder: Path) -> None:
    for index in range(501):
        (folder / "parity" / f"x{index}.json").write_text("{}")
    problems = read_records(open_bundle(folder)).problems
    assert any(each.startswith("parity holds 502 records; 2 of them are left out") for each in problems)


def test_a_folder_of_records_elsewhere_is_not_read(folder: Path, tmp_path: Path) -> None:
    (folder / "parity").rename(tmp_path / "elsewhere")
    (folder / "parity").symlink_to(tmp_path / "elsewhere")
    records = read_records(open_bundle(folder))
    assert records.parity == ()
    assert any("it leads out of the bundle" in each for each in records.problems)
