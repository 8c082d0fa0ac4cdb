"""From a trained student to a bundle: the ONNX files of student and teacher, golden outputs, the teacher's answers."""

import contextlib
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
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
from edgedistill.reject import Rejection, Rejector
from edgedistill.subtask import Subtask
from edgedistill.teacher import Teacher
from edgedistill_deploy import __version__
from edgedistill_deploy.bundle import Bundle, create_bundle, model_role, open_bundle
from edgedistill_deploy.checks import GOLDEN_IMAGES
from edgedistill_deploy.errors import DataError, EdgeDistillError, UsageError
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
    """A classifier as it runs on a device: uint8 images (N, H, W, 3) in, logits (N, C) of the subtask out.

    With a rejector there is a second output: whether each image is one of the subtask's at all, bool (N,).
    """

    chosen: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        normalise: Normalise,
        class_indices: tuple[int, ...] | None = None,
        rejector: Rejector | None = None,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.model = model
        self.rejector = rejector
        chosen = None if class_indices is None else torch.tensor(class_indices)
        self.register_buffer("chosen", chosen, persistent=False)

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the outputs are called in the ONNX file."""
        return ("logits",) if self.rejector is None else ("logits", "in_domain")

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Classify; with `class_indices`, only those logits are given, in that order."""
        logits: Tensor = self.model(self.normalise(image))
        if self.chosen is not None:
            logits = logits.index_select(1, self.chosen)
        return logits if self.rejector is None else (logits, self.rejector.accepts(logits))


def export_onnx(
    student: nn.Module,
    teacher: Teacher,
    subtask: Subtask,
    images: ImageSet,
    folder: Path | str,
    config: ExportConfig | None = None,
    *,
    student_name: str = "student",
    rejection: Rejection | None = None,
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
        rejection: of this student (`reject.fit_rejection`); its `model.fp32.onnx` then has the output `in_domain` too.
        progress: called with (done, total) images while the teacher answers.

    Raises:
        UsageError: the settings ask for a reject score and no rejection is given.
        EdgeDistillError: the exported graph computes something else than the student, or is not the opset asked for.
    """
    config, folder = config or ExportConfig(), Path(folder)
    if config.reject and rejection is None:
        raise UsageError(
            f"reject is {config.reject} and no rejection was given; make one with fit_rejection and hand it to export_onnx."
        )
    student = student.cpu().eval()
    bundle = begin_bundle(student, teacher, subtask, folder, student_name)
    samples = np.concatenate(
        list(batches(images.select(_spread(len(images), GOLDEN_COUNT)), teacher.preprocess, BATCH))
    )
    rejector = rejection.rejector if rejection is not None else None
    expert = Deployed(student, teacher.normalise(), rejector=rejector)
    restricted = Deployed(teacher.model.cpu(), teacher.normalise(), subtask.class_indices)
    for role, model in ((model_role("fp32"), expert), (model_role("teacher"), restricted)):
        path = folder / f"{role}.onnx"
        metadata = _metadata(subtask, teacher, model.rejector)
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
    bundle = bundle.with_file("reference", folder / "reference.npz")
    return _with_reject_record(bundle, rejection)


def _with_reject_record(bundle: Bundle, rejection: Rejection | None) -> Bundle:
    """Record the rejection; without one, empty the record that an earlier export left."""
    if rejection is None and "reject" not in bundle.manifest:
        return bundle
    return bundle.with_fields(reject={} if rejection is None else rejection.to_json())


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


def _metadata(subtask: Subtask, teacher: Teacher, rejector: Rejector | None) -> dict[str, str]:
    reject = {} if rejector is None else {"edgedistill.reject": json.dumps(asdict(rejector))}
    return {
        **reject,
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
    model: Deployed, image_size: tuple[int, int], path: Path, *, opset: int, metadata: Mapping[str, str]
) -> None:
    """Export with input `image` uint8 (batch, H, W, 3), output `logits` float32 (batch, C), `in_domain` bool (batch,) if any.

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
                output_names=list(model.output_names),
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


def _outputs(model: Deployed, samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    with evaluating(model), torch.no_grad():
        given = model(torch.from_numpy(samples))
    logits: npt.NDArray[np.float32] = (given if isinstance(given, Tensor) else given[0]).numpy()
    return logits


def _check_against_torch(path: Path, model: Deployed, samples: npt.NDArray[np.uint8]) -> None:
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
    restricted: Deployed,
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
