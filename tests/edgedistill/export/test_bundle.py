from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.export.bundle import Deployed, export_onnx, write_onnx
from edgedistill.export.config import ExportConfig
from edgedistill.models.normalise import Normalise
from edgedistill.models.student import build_student, read_student, write_student
from edgedistill.models.teacher import load_teacher
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.bundle.reference import read_golden, read_reference
from edgedistill_deploy.errors import DataError, EdgeDistillError
from edgedistill_deploy.images.golden import limit_images
from edgedistill_deploy.parity.check import check_parity
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model, open_session

CLASSES = ["3", "0", "2"]


@pytest.fixture(scope="module")
def exported(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, torch.nn.Module]:
    teacher = load_teacher("embedded:glyphs100")
    subtask = teacher.subtask(CLASSES)
    images = split_for_subtask(open_source(f"npz:{tiny_digits}"), CLASSES)
    student = build_student("timm:resnet10t", 3, width=0.125)
    folder = tmp_path_factory.mktemp("exported")
    config = ExportConfig(reference_megabytes=0.2)
    return export_onnx(student, teacher, subtask, images.evaluation, folder, config, student_name="s"), student


def test_the_graph_is_the_contracts(exported: tuple[Bundle, torch.nn.Module]) -> None:
    bundle, _ = exported
    for role in ("model.fp32", "teacher.fp32"):
        model = onnx.load(bundle.file(role))
        onnx.checker.check_model(model, full_check=True)
        image, logits = model.graph.input[0], model.graph.output[0]
        assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
        assert [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim] == ["batch", 64, 64, 3]
        assert [dim.dim_param or dim.dim_value for dim in logits.type.tensor_type.shape.dim] == ["batch", 3]
        assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain == ""] == [("", 20)]
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert metadata["edgedistill.class_names"] == '["3", "0", "2"]'
        assert metadata["edgedistill.preprocess"] == bundle.preprocess.digest


def test_no_path_or_source_line_of_this_machine_is_in_the_file(exported: tuple[Bundle, torch.nn.Module]) -> None:
    content = exported[0].file("model.fp32").read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content
    assert str(Path(__file__).parents[1]).encode() not in content


def test_the_same_weights_give_the_same_bytes(exported: tuple[Bundle, torch.nn.Module], tmp_path: Path) -> None:
    bundle, student = exported
    teacher = load_teacher("embedded:glyphs100")
    metadata = {entry.key: entry.value for entry in onnx.load(bundle.file("model.fp32")).metadata_props}
    write_onnx(Deployed(student, teacher.normalise()), (64, 64), tmp_path / "again.onnx", opset=20, metadata=metadata)
    assert (tmp_path / "again.onnx").read_bytes() == bundle.file("model.fp32").read_bytes()


def test_the_reference_is_the_teachers_answer_to_each_image(
    exported: tuple[Bundle, torch.nn.Module], tiny_digits: Path
) -> None:
    bundle, _ = exported
    reference = read_reference(bundle.file("reference"))
    images = split_for_subtask(open_source(f"npz:{tiny_digits}"), CLASSES).evaluation
    teacher = load_teacher("embedded:glyphs100")
    assert reference.digests.tolist() == [images.digest(index) for index in range(len(images))]
    assert reference.labels.tolist() == images.labels.tolist()
    indices = [int(name) for name in CLASSES]
    for index in (0, 17, 59):
        pixels = torch.tensor(teacher.preprocess.apply(images.read(index)))[None]
        with torch.no_grad():
            expected = teacher.model(teacher.normalise()(pixels))[0, indices].numpy()
        assert np.allclose(reference.logits[index], expected, atol=1e-4)
    assert reference.images is not None
    assert len(reference.images) == 200_000 // (64 * 64 * 3) == len(reference.image_index)
    for pixels, row in zip(reference.images[:3], reference.image_index[:3], strict=True):
        assert np.array_equal(pixels, teacher.preprocess.apply(images.read(int(row))))


def test_the_reference_names_its_classes_and_knows_the_golden_images(
    exported: tuple[Bundle, torch.nn.Module], tiny_digits: Path
) -> None:
    bundle, _ = exported
    reference = read_reference(bundle.file("reference"))
    images = split_for_subtask(open_source(f"npz:{tiny_digits}"), CLASSES).evaluation
    assert reference.class_names is not None
    assert reference.class_names.tolist() == CLASSES
    inputs, _ = read_golden(bundle.file("golden"))
    assert reference.golden_index is not None
    assert np.array_equal(inputs[16:], limit_images(bundle.preprocess.size))  # the teacher did not answer these
    for pixels, row in zip(inputs[:16], reference.golden_index, strict=True):
        assert np.array_equal(pixels, bundle.preprocess.apply(images.read(int(row))))
    with open_session(bundle, threads=1) as session:
        checks = {each.name: each for each in check_parity(bundle, session).soundness.checks}
    assert "on 16 golden images and 16 of 16 recorded images" in checks["teacher_reference"].detail
    assert checks["teacher_reference"].passed
    assert checks["reference_names"].passed


def test_golden_outputs_are_the_students(exported: tuple[Bundle, torch.nn.Module]) -> None:
    bundle, _ = exported
    inputs, outputs = read_golden(bundle.file("golden"))
    with open_model(bundle.file("model.fp32"), precision="fp32") as session:
        assert np.allclose(logits_of(session, inputs), outputs, atol=1e-4)


def test_the_manifest_says_what_both_models_cost(exported: tuple[Bundle, torch.nn.Module]) -> None:
    manifest = open_bundle(exported[0].path).manifest
    assert manifest["student"]["name"] == "s"
    assert manifest["teacher"]["parameters"] == 1272036
    assert manifest["student"]["multiply_adds"] * 8 < manifest["teacher"]["multiply_adds"]


def test_weights_go_out_and_come_back(tmp_path: Path) -> None:
    student = build_student("timm:resnet10t", 3, width=0.125)
    write_student(student, tmp_path / "s.safetensors")
    other = read_student(build_student("timm:resnet10t", 3, width=0.125, seed=9), tmp_path / "s.safetensors")
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in other.state_dict().items())
    with pytest.raises(DataError, match="do not fit the student"):
        read_student(build_student("timm:resnet10t", 4, width=0.125), tmp_path / "s.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="do not fit the student"):
        read_student(student, tmp_path / "x.safetensors")


class _Unexportable(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if bool(x.sum() > 0) else x.amax((2, 3))


def test_a_model_that_cannot_be_exported_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    deployed = Deployed(_Unexportable(), Normalise((0.5,) * 3, (0.5,) * 3))
    with pytest.raises(EdgeDistillError, match="cannot be exported to ONNX"):
        write_onnx(deployed, (8, 8), tmp_path / "m.onnx", opset=20, metadata={})
    assert list(tmp_path.iterdir()) == []
