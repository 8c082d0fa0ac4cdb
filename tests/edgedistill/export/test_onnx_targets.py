import re
from pathlib import Path

import onnx
import pytest

from edgedistill.export.config import ExportConfig
from edgedistill.export.onnx_targets import IR_VERSIONS, TARGETS
from edgedistill_deploy.errors import UsageError

DOCS = Path(__file__).resolve().parents[3] / "docs" / "export.md"


def test_each_opset_has_the_ir_version_it_came_with() -> None:
    first: dict[int, int] = {}
    for _, ir_version, opset, *_ in onnx.helper.VERSION_TABLE:
        first[opset] = min(ir_version, first.get(opset, ir_version))
    assert dict(IR_VERSIONS) == {opset: first[opset] for opset in IR_VERSIONS}


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_reads_the_format_of_every_opset_that_it_reads(name: str) -> None:
    target = TARGETS[name]
    read = [opset for opset in IR_VERSIONS if opset <= target.newest_opset]
    assert max(IR_VERSIONS[opset] for opset in read) <= target.newest_ir_version
    assert ExportConfig(target=name).written_opset == target.opset <= 20
    for opset in read:
        assert ExportConfig(target=name, opset=opset).written_opset == opset


@pytest.mark.parametrize(
    ("target", "opset", "written"),
    [
        ("", None, 20),
        ("", 23, 23),
        ("jetpack-6", None, 20),
        ("jetpack-6", 17, 17),
        ("onnxruntime-1.15", None, 18),
        ("onnxruntime-1.16", None, 19),
        ("tensorrt-11", 24, 24),
    ],
)
def test_the_opset_asked_for_wins_over_the_targets(target: str, opset: int | None, written: int) -> None:
    assert ExportConfig(target=target, opset=opset).written_opset == written


@pytest.mark.parametrize(
    ("target", "opset", "message"),
    [
        ("jetpak-6", None, "There is no export target 'jetpak-6'. Did you mean jetpack-6?"),
        ("", 12, "opset must be a whole number from 13 to 25, and 12 was given."),
        (
            "jetpack-6",
            21,
            (
                "JetPack 6.1 and 6.2 (TensorRT 10.3) reads ONNX opset 20 at most, and opset 21 was asked for; ask for "
                "--opset 20,"
            ),
        ),
        (
            "tensorrt-10",
            22,
            (
                "or choose a target that reads it, such as tensorrt-11, onnxruntime-1.21, onnxruntime-1.22, "
                "onnxruntime-1.23."
            ),
        ),
        (
            "tensorrt-11",
            25,
            "TensorRT 11.0 and newer reads ONNX opset 24 at most, and opset 25 was asked for; ask for --opset 20.",
        ),
    ],
)
def test_what_a_target_cannot_read_is_refused(target: str, opset: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        ExportConfig(target=target, opset=opset)


def test_a_file_cannot_be_larger_than_its_format_allows() -> None:
    with pytest.raises(UsageError, match=r"single_file_megabytes can be 2000 at most, .* and 4000 was given"):
        ExportConfig(single_file_megabytes=4000)


def test_the_documented_table_is_the_one_in_use() -> None:
    rows = re.findall(r"^\| (`.*?) \|.*?\| (\d+) \| (\d+) \| (\d+), (\d+) \|$", DOCS.read_text(), re.MULTILINE)
    documented = {}
    for names, *figures in rows:
        first, *others = re.findall(r"`(.*?)`", names)
        for name in (first, *(f"{first.rpartition('-')[0]}{each}" for each in others)):
            documented[name] = tuple(map(int, figures))
    assert documented == {
        name: (each.newest_opset, each.newest_ir_version, each.opset, IR_VERSIONS[each.opset])
        for name, each in TARGETS.items()
    }
