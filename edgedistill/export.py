"""From a trained student to a bundle: the ONNX files of student and teacher, golden outputs, the teacher's answers."""

import contextlib
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgedistill.config import ExportConfig
from edgedistill.cost import count_cost
from edgedistill.modes import evaluating
from edgedistill.normalise import Normalise
from edgedistill.subtask import Subtask
from edgedistill.teacher import Teacher
from edgedistill_deploy import __version__
from edgedistill_deploy.bundle import Bundle, create_bundle, model_role, open_bundle
from edgedistill_deploy.checks import GOLDEN_IMAGES
from edgedistill_deploy.errors import DataError, EdgeDistillError
from edgedistill_deploy.files import written_whole
from edgedistill_deploy.golden_images import make_golden_images, write_golden_images
from edgedistill_deploy.images import ImageSet, batches
from edgedistill_deploy.preprocess import Preprocess
from edgedistill_deploy.reference import Reference, write_golden, write_reference
from edgedistill_deploy.session import logits_of, open_model

BATCH = 64
GOLDEN_COUNT = 16
# Largest difference between ONNX Runtime and torch that is rounding, relative to the largest logit.
TOLERANCE = 1e-3


class Deployed(nn.Module):
    """A classifier as it runs on a device: uint8 images (N, H, W, 3) in, logits (N, C) of the subtask out."""

    chosen: Tensor | None

    def __init__(
        self, model: nn.Module, normalise: Normalise, class_indices: tuple[int, ...] | None = None
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.model = model
        chosen = None if class_indices is None else torch.tensor(class_indices)
        self.register_buffer("chosen", chosen, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Classify; with `class_indices`, only those logits are given, in that order."""
        logits: Tensor = self.model(self.normalise(image))
        return logits if self.chosen is None else logits.index_select(1, self.chosen)


def export_onnx(
    student: nn.Module,
    teacher: Teacher,
    subtask: Subtask,
    images: ImageSet,
    folder: Path | str,
    config: ExportConfig | None = None,
    *,
    student_name: str = "student",
    progress: Callable[[int, int], None] | None = None,
) -> Bundle:
    """Write everything a device needs to run the student and to judge it against its teacher.

    The folder becomes a bundle with `model.fp32.onnx`, `teacher.fp32.onnx` (the teacher restricted to the subtask, with the
    same interface), `golden.npz`, `golden-images.npz`, `reference.npz` and `manifest.json`.

    Args:
        student: trained; C outputs in the order of the subtask.
        teacher: gives preprocessing, normalisation and reference answers.
        subtask: the classes.
        images: evaluation images (test, or validation where there is no test split), labelled in the subtask's order.
        folder: an existing bundle there is extended; other files in it stay.
        config: settings.
        student_name: recorded in the manifest.
        progress: called with (done, total) images while the teacher answers.

    Raises:
        EdgeDistillError: the exported graph computes something else than the student, or is not the opset asked for.
    """
    config, folder = config or ExportConfig(), Path(folder)
    student = student.cpu().eval()
    bundle = begin_bundle(student, teacher, subtask, folder, student_name)
    samples = np.concatenate(
        list(batches(images.select(_spread(len(images), GOLDEN_COUNT)), teacher.preprocess, BATCH))
    )
    expert = Deployed(student, teacher.normalise())
    restricted = Deployed(teacher.model.cpu(), teacher.normalise(), subtask.class_indices)
    metadata = _metadata(subtask, teacher)
    for role, model in ((model_role("fp32"), expert), (model_role("teacher"), restricted)):
        path = folder / f"{role}.onnx"
        write_onnx(model, teacher.preprocess.size, path, opset=config.opset, metadata=metadata)
        _check_against_torch(path, model, samples)
        bundle = bundle.with_file(role, path)
    write_golden(folder / "golden.npz", samples, _outputs(expert, samples))
    bundle = bundle.with_file("golden", folder / "golden.npz")
    write_golden_images(folder / "golden-images.npz", make_golden_images(teacher.preprocess))
    bundle = bundle.with_file(GOLDEN_IMAGES, folder / "golden-images.npz")
    write_reference(
        folder / "reference.npz", _ask_teacher(restricted, teacher.preprocess, images, config, progress)
    )
    return bundle.with_file("reference", folder / "reference.npz")


def write_student(student: nn.Module, path: Path) -> None:
    """Write the student's weights as safetensors, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()}
    with written_whole(path) as temporary:
        save_file(tensors, temporary)


def read_student(student: nn.Module, path: Path) -> nn.Module:
    """Fill an untrained student with weights that `write_student` wrote.

    Raises:
        DataError: the weights are of another architecture, width or number of classes.
    """
    try:
        student.load_state_dict(load_file(path), strict=True)
    except (RuntimeError, SafetensorError) as error:
        raise DataError(
            f"The weights in {path} do not fit the student; distil again with --restart."
        ) from error
    return student


def describe_model(name: str, model: nn.Module, image_size: tuple[int, int]) -> dict[str, object]:
    """Return the manifest's record of a model: its name and what it costs."""
    return {"name": name, **count_cost(model, image_size).to_json()}


def begin_bundle(
    student: nn.Module, teacher: Teacher, subtask: Subtask, folder: Path, student_name: str
) -> Bundle:
    """Create a bundle's manifest from what is known before training, or bring that of an existing bundle up to date."""
    size = teacher.preprocess.size
    record = {**describe_model(teacher.name, teacher.model, size), "weights_sha256": teacher.weights_sha256}
    fields: dict[str, Any] = {
        "subtask": subtask.to_json(),
        "teacher": record,
        "student": describe_model(student_name, student, size),
        "provenance": {"edgedistill": __version__, "torch": torch.__version__, "onnx": onnx.__version__},
    }
    if (folder / "manifest.json").is_file():
        preprocess = {**teacher.preprocess.to_json(), "digest": teacher.preprocess.digest}
        return open_bundle(folder, verify=False).with_fields(**fields, preprocess=preprocess)
    return create_bundle(folder, preprocess=teacher.preprocess, **fields)


def _spread(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """Return up to `wanted` positions spread evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


def _metadata(subtask: Subtask, teacher: Teacher) -> dict[str, str]:
    return {
        "edgedistill.version": __version__,
        "edgedistill.subtask": subtask.name,
        "edgedistill.class_names": json.dumps(list(subtask.class_names), ensure_ascii=False),
        "edgedistill.preprocess": teacher.preprocess.digest,
        "edgedistill.pixel_range": json.dumps(_pixel_range(teacher.normalise())),
    }


def _pixel_range(normalise: Normalise) -> dict[str, list[float]]:
    """Return what black and white pixels become, by channel, so that a device can tell a wrong normalisation."""
    ends = torch.tensor([[[[0, 0, 0]]], [[[255, 255, 255]]]], dtype=torch.uint8)
    black, white = normalise(ends)[..., 0, 0].tolist()
    return {"black": black, "white": white}


def write_onnx(
    model: nn.Module, image_size: tuple[int, int], path: Path, *, opset: int, metadata: Mapping[str, str]
) -> None:
    """Export a `Deployed` model with input `image` uint8 (batch, H, W, 3) and output `logits` float32 (batch, C).

    One self-contained file. Source lines and paths that the exporter notes in the graph are removed, so that the same
    weights give the same bytes.

    Raises:
        EdgeDistillError: the exporter failed, or gave another opset than was asked for.
    """
    example = torch.zeros(2, *image_size, 3, dtype=torch.uint8)
    with evaluating(model), _quiet_exporter(), written_whole(path) as temporary:
        try:
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=opset,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes=({0: "batch"},),
            )
        except Exception as error:  # the exporter's own errors have no common class
            reason = str(error).strip().splitlines()
            raise EdgeDistillError(
                f"The model cannot be exported to ONNX: {reason[0] if reason else type(error).__name__}."
            ) from error
        assert program is not None
        program.save(str(temporary), external_data=False)
        graph = onnx.load(temporary)
        _check_opset(graph, opset)
        _without_traces(graph)
        onnx.helper.set_model_props(graph, dict(metadata))
        onnx.save(graph, temporary)
        onnx.checker.check_model(str(temporary), full_check=True)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's own progress notes and deprecation warnings off the user's terminal."""
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter_log.setLevel(level)


def _check_opset(graph: onnx.ModelProto, opset: int) -> None:
    written = {entry.domain: entry.version for entry in graph.opset_import}.get("", 0)
    if written != opset:
        raise EdgeDistillError(
            f"The exporter wrote ONNX opset {written}, and {opset} was asked for; ask for another with --opset."
        )


def _without_traces(graph: onnx.ModelProto) -> None:
    """Drop the metadata that the exporter puts on nodes and values: source lines, absolute paths."""
    del graph.graph.metadata_props[:]
    for each in (*graph.graph.node, *graph.graph.value_info, *graph.graph.initializer):
        del each.metadata_props[:]
    for each in (*graph.graph.input, *graph.graph.output):
        del each.metadata_props[:]
    graph.graph.doc_string = ""


def _outputs(model: nn.Module, samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    with evaluating(model), torch.no_grad():
        logits: npt.NDArray[np.float32] = model(torch.from_numpy(samples)).numpy()
    return logits


def _check_against_torch(path: Path, model: nn.Module, samples: npt.NDArray[np.uint8]) -> None:
    """Compare ONNX Runtime with torch on real images, one at a time and all at once.

    Raises:
        EdgeDistillError: they differ by more than rounding; the worst output is named.
    """
    expected = _outputs(model, samples)
    scale = max(1.0, float(np.abs(expected).max()))
    with open_model(path, precision="fp32") as session:
        for size in (1, len(samples)):
            given = logits_of(session, samples[:size])
            difference = np.abs(given - expected[:size])
            worst = np.unravel_index(int(difference.argmax()), difference.shape)
            if not math.isfinite(float(difference.max())) or difference[worst] > TOLERANCE * scale:
                raise EdgeDistillError(
                    f"The exported {path.name} differs from the torch model: with a batch of {size}, logit {worst[1]} of image"
                    f" {worst[0]} is {given[worst]:.5g} instead of {expected[worst]:.5g}."
                )


def _ask_teacher(
    restricted: nn.Module,
    preprocess: Preprocess,
    images: ImageSet,
    config: ExportConfig,
    progress: Callable[[int, int], None] | None,
) -> Reference:
    """Record the teacher's subtask logits on the evaluation images, and the prepared images that fit the budget."""
    image_bytes = preprocess.size[0] * preprocess.size[1] * 3
    room = int(config.reference_megabytes * 1e6 // image_bytes)
    stored = np.arange(len(images))
    if room < len(images):
        stored = np.sort(np.random.default_rng(config.seed).choice(len(images), room, replace=False))
    keep = np.zeros(len(images), dtype=bool)
    keep[stored] = True
    logits: list[npt.NDArray[np.float32]] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    done = 0
    for batch in batches(images, preprocess, BATCH):
        logits.append(_outputs(restricted, batch))
        pixels.append(batch[keep[done : done + len(batch)]])
        done += len(batch)
        if progress is not None:
            progress(done, len(images))
    return Reference(
        logits=np.concatenate(logits),
        labels=images.labels,
        digests=np.array([images.digest(index) for index in range(len(images))]),
        images=np.concatenate(pixels) if room else None,
        image_index=stored,
    )
