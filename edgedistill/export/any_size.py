"""ONNX files that take an image of any size: scaling and cutting are in the graph, so that a program only decodes."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from edgedistill.export._preparing_graph import IMAGE, PREPARED, preparing_nodes
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import ANY_SIZE_PRECISIONS, any_size_role, model_role
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import write_whole
from edgedistill_deploy.images.preprocess import Preprocess, scales_tall_pictures_first
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.runtimes.logits import raw_logits
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.runtimes.session import Session

MOST_LEVELS = 1  # of a pixel value (0 to 255) by which the graph may differ from Pillow
MOST_PROBABILITY = 0.05  # by which a class's probability may differ: one level can move INT8 by a step
SOURCE = "edgedistill.any_size_of"  # metadata: the sha256 of the file that this one was made of

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnySizeRecord:
    """How far a file is from the one that it was made of, which gets the images as Pillow prepares them.

    Attributes:
        source_sha256: of the file that it was made of.
        image_count: images that were compared.
        largest_difference: of a pixel value (0 to 255) that the graph prepares.
        differing_share: share of pixel values that differ at all.
        probability_difference: the largest of a class's probability.
        same_class_count: images that get the same class.
    """

    source_sha256: str
    image_count: int
    largest_difference: int
    differing_share: float
    probability_difference: float
    same_class_count: int


def write_any_size(bundle: Bundle, images: Sequence[Image.Image], progress: Progress = silent) -> Bundle:
    """Write `model.PRECISION-any-size.onnx` beside each of the expert's files for ONNX Runtime, and register it.

    The input is `image`, uint8 (1, H, W, 3), RGB, of any H and W. The outputs are those of the file that it is made of.
    The manifest's `any_size` has an `AnySizeRecord` for each precision. All files are kept or none.

    Args:
        bundle: has `model.fp32`.
        images: RGB, of the sizes that people have; the files are compared with Pillow's preparation on them.
        progress: called with the files compared so far.

    Raises:
        BundleError: there is no model, or one was changed.
        EdgeDistillError: a file differs by more than `MOST_LEVELS` or `MOST_PROBABILITY`.
    """
    sources = {
        each: bundle.file(bundle.role_for(each))
        for each in ANY_SIZE_PRECISIONS
        if each == "fp32" or bundle.has(model_role(each))
    }
    records: dict[str, AnySizeRecord] = {}
    with tempfile.TemporaryDirectory(dir=bundle.path, prefix=".any-size.") as name:
        folder = Path(name)
        pixels = _compare_pixels(bundle.preprocess, folder, images)
        for done, (precision, source) in enumerate(sources.items()):
            staged = folder / f"{any_size_role(precision)}.onnx"
            sha256 = bundle.model_sha256(model_role(precision))
            _write(source, staged, bundle.preprocess, sha256)
            answers = _compare_answers(bundle, precision, staged, images)
            records[precision] = AnySizeRecord(
                source_sha256=sha256, image_count=len(images), **asdict(pixels), **asdict(answers)
            )
            progress(done + 1, len(sources))
        bundle = remove_any_size(bundle)
        for precision in sources:
            bundle = _keep(bundle, precision, folder)
    return bundle.with_fields(any_size={precision: asdict(record) for precision, record in records.items()})


def has_any_size(bundle: Bundle) -> bool:
    """Return whether the bundle has such files."""
    return any(bundle.has(any_size_role(each)) for each in ANY_SIZE_PRECISIONS)


def remove_any_size(bundle: Bundle) -> Bundle:
    """Remove all such files: of an earlier model, or of a precision that there is no more."""
    for role in map(any_size_role, ANY_SIZE_PRECISIONS):
        if bundle.has(role):
            (bundle.path / f"{role}.onnx").unlink(missing_ok=True)
            bundle = bundle.without_file(role)
    return bundle.with_fields(any_size={}) if bundle.manifest.get("any_size") else bundle


def _write(source: Path, staged: Path, preprocess: Preprocess, sha256: str) -> None:
    """Write the file: the model of `source`, whose input comes out of the preparing nodes. Weights beside it stay."""
    model = onnx.load(source, load_external_data=False)
    graph = model.graph
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == IMAGE:
                node.input[place] = PREPARED
    _put_before(graph, preprocess)
    for output in graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    del graph.value_info[:]  # of any batch
    known = {each.key: each.value for each in model.metadata_props}
    helper.set_model_props(model, {**known, SOURCE: sha256})
    staged.write_bytes(model.SerializeToString())


def _put_before(graph: onnx.GraphProto, preprocess: Preprocess) -> None:
    nodes, constants = preparing_nodes(preprocess, tall_first=scales_tall_pictures_first())
    nodes = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [1, "height", "width", 3]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pixels:
    largest_difference: int
    differing_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    probability_difference: float
    same_class_count: int


def _compare_pixels(preprocess: Preprocess, folder: Path, images: Sequence[Image.Image]) -> _Pixels:
    """Compare what the preparing nodes make of images with what Pillow makes of them."""
    path = folder / "preparation.onnx"
    size = (1, *preprocess.size, 3)
    output = helper.make_tensor_value_info(PREPARED, TensorProto.UINT8, size)
    graph = helper.make_graph([], "preparation", [], [output])
    _put_before(graph, preprocess)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    largest, differing = 0, 0.0
    with open_model(path, precision="fp32") as session:
        for image in images:
            given = session.run({IMAGE: np.asarray(image)[None]})[PREPARED][0]
            apart = np.abs(given.astype(np.int16) - preprocess.apply(image))
            largest, differing = max(largest, int(apart.max())), differing + float(np.mean(apart > 0))
    if largest > MOST_LEVELS:
        raise EdgeDistillError(
            f"No file for images of any size is written: in the graph, a pixel of {len(images)} images comes out "
            f"{largest} levels from Pillow, and {MOST_LEVELS} are allowed (filter {preprocess.interpolation}); let "
            "your program scale, as `edgedistill snippet` shows."
        )
    return _Pixels(largest_difference=largest, differing_share=differing / len(images))


def _compare_answers(bundle: Bundle, precision: str, staged: Path, images: Sequence[Image.Image]) -> _Answers:
    role = model_role(precision)
    data = bundle.file(f"{role}.data") if bundle.has(f"{role}.data") else None
    source = bundle.file(role)
    beside = None if data is None else staged.with_name(data.name)
    if data is not None and beside is not None:  # a model finds its weights beside it
        os.link(data, beside)
    with (
        open_model(source, precision=precision, data=data) as one,
        open_model(staged, precision=precision, data=beside) as other,
    ):
        both = [
            (_probabilities(one, bundle.preprocess.apply(image)), _probabilities(other, np.asarray(image)))
            for image in images
        ]
    apart = max(float(np.abs(first - second).max()) for first, second in both)
    if apart > MOST_PROBABILITY:
        raise EdgeDistillError(
            f"No file for images of any size is written: {staged.name} gives a class a probability that is {apart:.3f} "
            f"from that of {source.name}, and {MOST_PROBABILITY} is allowed; let your program scale, as `edgedistill "
            "snippet` shows."
        )
    same = sum(int(first.argmax() == second.argmax()) for first, second in both)
    return _Answers(probability_difference=apart, same_class_count=same)


def _probabilities(session: Session, image: Pixels) -> NDArray[np.float64]:
    logits = raw_logits(session, image[None])[0].astype(np.float64)
    shares = np.exp(logits - logits.max())
    probabilities: NDArray[np.float64] = shares / shares.sum()
    return probabilities


def _keep(bundle: Bundle, precision: str, folder: Path) -> Bundle:
    role = any_size_role(precision)
    path = bundle.path / f"{role}.onnx"
    with write_whole(path, inside=bundle.path) as temporary:
        (folder / path.name).replace(temporary)
    return bundle.with_file(role, path)
