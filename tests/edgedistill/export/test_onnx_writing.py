"""Both exporters, what is written when one or both fail, and models too large for one file."""

import itertools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.export.bundle import export_onnx
from edgedistill.export.config import ExportConfig
from edgedistill.export.deployed import Deployed, logits_in_torch
from edgedistill.export.onnx_writing import write_onnx
from edgedistill.models.normalise import Normalise
from edgedistill.models.student import build_student
from edgedistill.models.teacher import load_teacher
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.errors import BundleError, EdgeDistillError
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model, open_session

SIZE = (32, 32)


def deployed(model: nn.Module) -> Deployed:
    return Deployed(model.eval(), Normalise((0.5,) * 3, (0.5,) * 3))


@pytest.fixture
def samples() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)


@torch.library.custom_op("edgedistill_tests::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    return x * 2


@doubled.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class WithKernelOfItsOwn(nn.Module):
    """Calls an operator for which only the older exporter has been told what to write."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = doubled(self.conv(x))
        return value.mean((2, 3))


class Wavering(nn.Module):
    """Computes something else for dark images than for light ones."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if bool(x.sum() > 0) else x.amax((2, 3))


class OfTwoImages(nn.Module):
    """Takes every batch for one of two images, which a trace does not show."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).reshape(int(x.shape[0]), 3)


class Activated(nn.Module):
    """Writes over what the convolution gave, or not, and reads the activation's answer, or what it was given."""

    def __init__(self, *, inplace: bool, reads_input: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.activation = nn.ReLU6(inplace=inplace)
        self._reads_input = reads_input

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv(x)
        active = self.activation(made)
        read: Tensor = made if self._reads_input else active
        return read.mean((2, 3))


def test_activations_that_write_over_their_input_are_exported_as_if_they_did_not(tmp_path: Path) -> None:
    writing, plain = Activated(inplace=True), Activated(inplace=False)
    for name, network in (("writing", writing), ("plain", plain)):
        write_onnx(deployed(network), SIZE, tmp_path / f"{name}.onnx", opset=20, metadata={})
    assert (tmp_path / "writing.onnx").read_bytes() == (tmp_path / "plain.onnx").read_bytes()
    assert writing.activation.inplace
    assert not plain.activation.inplace


@pytest.mark.parametrize("opset", [20, 17])
def test_a_network_that_reads_what_was_written_over_keeps_its_meaning(
    samples: npt.NDArray[np.uint8], tmp_path: Path, opset: int
) -> None:
    model = deployed(Activated(inplace=True, reads_input=True))
    write_onnx(model, SIZE, tmp_path / "m.onnx", opset=opset, metadata={}, samples=samples)
    wanted = logits_in_torch(model, samples)
    assert (wanted >= 0).all()  # as the activation left them
    with open_model(tmp_path / "m.onnx", precision="fp32") as session:
        np.testing.assert_allclose(logits_of(session, samples), wanted, atol=1e-5)


class Normalised(nn.Module):
    """A normalisation after a convolution, used as `way` says."""

    def __init__(self, way: Callable[["Normalised", Tensor], Tensor] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.norm.running_mean = torch.linspace(-1, 1, 4)
        nn.init.uniform_(self.norm.weight, 2, 3)
        self.kept: Tensor | None = None
        self._way = way

    def forward(self, x: Tensor) -> Tensor:
        if self._way is not None:
            return self._way(self, x)
        answer: Tensor = self.norm(self.conv(x)).relu().mean((2, 3))
        return answer


def weight_again(net: Normalised, x: Tensor) -> Tensor:
    answer: Tensor = net.norm(net.conv(x)).relu().mean((2, 3))
    return answer + (x.mean((1, 2, 3)) - 0.9).relu()[:, None] * 100 * net.conv.weight.mean()


def parts_again(net: Normalised, x: Tensor) -> Tensor:
    made: Tensor = net.conv(x)
    answer: Tensor = net.norm(made).relu().mean((2, 3))
    return answer + ((made.chunk(2, 1)[0].mean((1, 2, 3)) - 0.4).relu() * 10)[:, None]


def beside_a_large_logit(net: Normalised, x: Tensor) -> Tensor:
    made: Tensor = net.conv(x)
    one, other = made.chunk(2, 1)
    answer: Tensor = (net.norm(made) * torch.cat([other, one], 1)).mean((2, 3))
    return torch.cat([answer[:, :3], torch.full_like(answer[:, :1], -1e6)], 1)


def kept_by_number(net: Normalised, x: Tensor) -> Tensor:
    if net.kept is None or net.kept.shape[0] != x.shape[0]:
        net.kept = torch.ones(x.shape[0], 1)
    answer: Tensor = net.norm(net.conv(x)).relu().mean((2, 3))
    return answer * net.kept


def sometimes_normalised(net: Normalised, x: Tensor) -> Tensor:
    made: Tensor = net.conv(x)
    if bool(x.mean() > -0.5):
        made = net.norm(made)
    return made.relu().mean((2, 3))


@pytest.mark.parametrize("opset", [20, 17])
def test_normalisations_are_in_the_weights_of_the_convolutions_and_the_network_keeps_them(
    samples: npt.NDArray[np.uint8], tmp_path: Path, opset: int
) -> None:
    model = deployed(Normalised())
    before = {name: values.clone() for name, values in model.state_dict().items()}
    write_onnx(model, SIZE, tmp_path / "m.onnx", opset=opset, metadata={}, samples=samples)
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert [list(node.input[1:]) for node in graph.node if node.op_type == "Conv"] == [
        ["model.conv.weight", "model.conv.bias"]
    ]
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())


@pytest.mark.parametrize(
    ("opset", "way"),
    [
        *itertools.product((20, 17), (weight_again, parts_again, beside_a_large_logit)),
        (20, kept_by_number),  # a trace always makes it a part of the graph
    ],
)
def test_what_else_reads_weights_or_values_keeps_its_meaning_on_every_image(
    samples: npt.NDArray[np.uint8], tmp_path: Path, opset: int, way: Callable[[Normalised, Tensor], Tensor]
) -> None:
    model = deployed(Normalised(way))
    write_onnx(model, SIZE, tmp_path / "m.onnx", opset=opset, metadata={}, samples=samples)
    extremes = np.stack([np.full_like(samples[0], level) for level in (0, 255)])
    with open_model(tmp_path / "m.onnx", precision="fp32") as session:
        for images in (samples, extremes, extremes[:1]):
            np.testing.assert_allclose(logits_of(session, images), logits_in_torch(model, images), atol=1e-4)


def test_a_normalisation_that_some_images_skip_is_refused(samples: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    with pytest.raises(EdgeDistillError, match="which path is taken depends on the image"):
        write_onnx(deployed(Normalised(sometimes_normalised)), SIZE, tmp_path / "m.onnx", opset=20, metadata={})


def test_what_a_network_warns_of_is_not_repeated_for_every_pass(tmp_path: Path) -> None:
    def warning(net: Normalised, x: Tensor) -> Tensor:
        warnings.warn("once", UserWarning, stacklevel=1)
        answer: Tensor = net.norm(net.conv(x)).mean((2, 3))
        return answer

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        write_onnx(deployed(Normalised(warning)), SIZE, tmp_path / "m.onnx", opset=20, metadata={})
    assert not [each for each in seen if str(each.message) == "once"]


def test_the_other_exporter_takes_over_and_the_record_says_why(samples: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    older: Any = torch.onnx
    older.register_custom_op_symbolic("edgedistill_tests::doubled", lambda g, x: g.op("Add", x, x), 13)
    model = deployed(WithKernelOfItsOwn())
    record = write_onnx(model, SIZE, tmp_path / "m.onnx", opset=20, metadata={"a": "ü"}, samples=samples)
    assert (record.exporter, record.opset, record.ir_version) == ("torchscript", 20, 9)
    assert "No ONNX function found" in str(record.fell_back_because)
    assert "doubled" in str(record.fell_back_because)
    with torch.no_grad():
        expected = model(torch.from_numpy(samples)).numpy()
    with open_model(tmp_path / "m.onnx", precision="fp32") as session:
        for count in (1, 3):
            assert np.allclose(logits_of(session, samples[:count]), expected[:count], atol=1e-5)


def test_when_both_fail_both_reasons_are_given(tmp_path: Path) -> None:
    with pytest.raises(EdgeDistillError) as caught:
        write_onnx(deployed(Wavering()), SIZE, tmp_path / "m.onnx", opset=20, metadata={})
    said = str(caught.value)
    assert said.startswith(
        "The model cannot be exported to ONNX opset 20. torch's dynamo exporter: Could not guard on data-"
    )
    assert (
        "torch's torchscript exporter: it records one path through the model, and which path is taken depends on"
        in said
    )
    assert list(tmp_path.iterdir()) == []


class WithNewOperator(nn.Module):
    """Folds patches back into an image, for which ONNX has an operator from opset 18 on."""

    def forward(self, x: Tensor) -> Tensor:
        patches = nn.functional.unfold(x, 4, stride=4)
        return nn.functional.fold(patches, SIZE, 4, stride=4).mean((2, 3))


def test_an_operator_too_new_for_the_opset_is_a_sentence_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        EdgeDistillError, match=r"'aten::col2im' to ONNX opset version 17 is not supported.* Try another --opset"
    ):
        write_onnx(deployed(WithNewOperator()), SIZE, tmp_path / "m.onnx", opset=17, metadata={})
    assert capfd.readouterr() == ("", "")


def test_an_opset_that_neither_exporter_writes_is_a_sentence(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("out of order")

    with pytest.raises(
        EdgeDistillError, match=r"out of order\. torch's torchscript exporter: it writes opset 20 and older"
    ):
        write_onnx(deployed(Broken()), SIZE, tmp_path / "m.onnx", opset=21, metadata={})


@pytest.mark.parametrize("opset", [13, 17])
def test_opsets_below_what_dynamo_writes_come_from_the_other_exporter(
    opset: int, samples: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    # Asked for opset 17, the dynamo exporter writes 18 and does not say so.
    record = write_onnx(
        deployed(build_student("plain:16-8", 3)), SIZE, tmp_path / "m.onnx", opset=opset, metadata={}, samples=samples
    )
    assert (record.exporter, record.fell_back_because) == ("torchscript", "it writes opset 18 and newer")
    written = onnx.load(tmp_path / "m.onnx")
    assert [(each.domain, each.version) for each in written.opset_import] == [("", opset)]
    assert written.ir_version == record.ir_version


def test_the_traced_file_is_as_clean_as_the_other(samples: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    model, path = deployed(build_student("timm:resnet10t", 3, width=0.125)), tmp_path / "m.onnx"
    write_onnx(model, SIZE, path, opset=17, metadata={"class": "ü"}, samples=samples)
    first = path.read_bytes()
    assert b".py" not in first
    assert str(Path.cwd()).encode() not in first
    write_onnx(model, SIZE, path, opset=17, metadata={"class": "ü"})
    assert path.read_bytes() == first
    graph = onnx.load(path).graph
    weights = {each.name for each in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == sum(isinstance(each, nn.Conv2d) for each in model.modules())
    assert all(set(node.input[1:]) <= weights for node in convolutions)
    assert {"model.conv1.0.weight", "model.layer1.0.conv1.weight", "model.layer1.0.conv1.bias"} <= weights
    assert [
        dim.dim_param for value in (graph.input[0], graph.output[0]) for dim in value.type.tensor_type.shape.dim[:1]
    ] == ["batch", "batch"]
    assert {entry.key: entry.value for entry in onnx.load(path).metadata_props} == {"class": "ü"}


def test_a_file_that_fails_its_check_does_not_replace_an_older_one(
    samples: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"older")
    with pytest.raises(EdgeDistillError, match=r"m\.onnx failed on ONNX Runtime"):
        write_onnx(deployed(OfTwoImages()), SIZE, path, opset=17, metadata={}, samples=samples)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("m.onnx", b"older")]


def test_weights_beside_the_file_are_named_by_their_content(samples: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    path, data = tmp_path / "m.onnx", tmp_path / "m.onnx.data"
    hashes = []
    model = deployed(build_student("plain:16-8", 3))
    for seed in (0, 1, 0):
        model = deployed(build_student("plain:16-8", 3, seed=seed))
        record = write_onnx(model, SIZE, path, opset=17, metadata={"a": "b"}, samples=samples, single_file_bytes=2000)
        assert record.data == data
        metadata = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
        assert metadata == {"a": "b", "edgedistill.data_sha256": sha256_of_file(data)}
        hashes.append(sha256_of_file(path))
        assert sorted(each.name for each in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert hashes[0] == hashes[2] != hashes[1]
    with pytest.raises(BundleError, match=r"keeps weights in another file, 'm\.onnx\.data', which its sha256 does not"):
        open_model(path, precision="fp32")
    with open_model(path, precision="fp32", data=data) as session:
        given = logits_of(session, samples)
    with torch.no_grad():
        assert np.allclose(given, model(torch.from_numpy(samples)), atol=1e-5)


@pytest.fixture(scope="module")
def split_bundle(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_digits(tiny_digits, tmp_path_factory.mktemp("split"), single_file_megabytes=0.01)


def export_digits(digits: Path, folder: Path, **settings: Any) -> Bundle:
    teacher = load_teacher("embedded:glyphs100")
    images = split_for_subtask(open_source(f"npz:{digits}"), ["3", "0", "2"])
    student = build_student("plain:16-8", 3)
    config = ExportConfig(opset=17, reference_megabytes=0, **settings)
    return export_onnx(student, teacher, teacher.subtask(["3", "0", "2"]), images.evaluation, folder, config)


def test_a_bundle_lists_the_weights_beside_its_models_and_runs(
    split_bundle: Bundle, samples: npt.NDArray[np.uint8]
) -> None:
    bundle = open_bundle(split_bundle.path)
    images = np.repeat(np.repeat(samples, 2, 1), 2, 2)
    for precision, role in (("fp32", "model.fp32"), ("teacher", "teacher.fp32")):
        data = bundle.file(f"{role}.data")
        assert data == bundle.path / f"{role}.onnx.data"
        assert data.stat().st_size > 1000
        with open_session(bundle, precision=precision) as session:
            expected = logits_of(session, images)
        with open_model(bundle.file(role), precision=precision) as session:
            assert np.array_equal(logits_of(session, images), expected)
    record = json.loads((bundle.path / "manifest.json").read_text())["export"]
    made = {
        "opset": 17, "ir_version": 8, "exporter": "torchscript", "fell_back_because": "it writes opset 18 and newer",
    }  # fmt: skip
    assert record == {"target": "", **made, "teacher": made}


def test_weights_that_were_changed_or_never_listed_are_refused(split_bundle: Bundle, tmp_path: Path) -> None:
    for each in split_bundle.path.iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    bundle = open_bundle(tmp_path)
    (tmp_path / "other.data").write_bytes((tmp_path / "model.fp32.onnx.data").read_bytes())
    model = onnx.load(tmp_path / "model.fp32.onnx", load_external_data=False)
    for location in (
        "other.data",
        str(tmp_path / "model.fp32.onnx.data"),
        "../model.fp32.onnx.data",
        "./model.fp32.onnx.data",
    ):
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        (tmp_path / "model.fp32.onnx").write_bytes(model.SerializeToString())
        lied_to = bundle.with_file("model.fp32", tmp_path / "model.fp32.onnx")
        with pytest.raises(BundleError) as caught:
            open_session(lied_to)
        assert f"keeps weights in another file, {location!r}, which" in str(caught.value)
        with pytest.raises(BundleError, match="keeps weights in another file"):
            open_model(tmp_path / "model.fp32.onnx", precision="fp32")
    (tmp_path / "teacher.fp32.onnx.data").write_bytes(bytes(10))
    with pytest.raises(BundleError, match=r"teacher\.fp32\.onnx\.data has 10 bytes, but"):
        open_session(bundle, precision="teacher")


def test_an_export_in_one_file_lets_go_of_the_weights_beside_it(
    split_bundle: Bundle, tiny_digits: Path, tmp_path: Path
) -> None:
    for each in split_bundle.path.iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    bundle = export_digits(tiny_digits, tmp_path, target="jetpack-6")
    assert not [role for role in bundle.manifest["files"] if role.endswith(".data")]
    assert not list(tmp_path.glob("*.data"))
    assert bundle.manifest["export"]["target"] == "jetpack-6"
    with open_session(open_bundle(tmp_path)) as session:
        assert session.inputs[0].name == "image"
