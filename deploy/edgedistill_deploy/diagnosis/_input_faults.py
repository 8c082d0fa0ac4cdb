"""Pixels that reach the network in another range than it was trained on.

Normalisation is inside the graph, so the best evidence is what the first layer reads for a black and for a white pixel.
The right values are in the file's metadata, or else in the teacher's file, which has the same normalisation. Without
both, the model gets images that undo the suspected fault, as far as eight bits can. That undoes a second normalisation
coarsely, and a missing one only for pixels whose normalised value lies between 0 and 1. It cannot undo a missing or
repeated division by 255, which shows as constant answers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.diagnosis._judged_model import Change, Images, JudgedModel, percentages, read_values, repair_by
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.onnx_files.content import read_metadata
from edgedistill_deploy.onnx_files.graph import Graph, read_graph
from edgedistill_deploy.records.parity import Diagnosis

Values = NDArray[np.float64]

PIXEL_RANGE = "edgedistill.pixel_range"  # metadata of a model: the first layer's right input for black and for white
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
_FIRST_LAYERS = ("Conv", "Gemm", "MatMul", "ConvInteger", "MatMulInteger")
_IMAGES = 16
_LARGEST_TEACHER = 512 << 20  # bytes; a larger file takes a device too long to load
_STRAIGHT = 0.99  # share of the variance that a straight line explains when pixels are only scaled and shifted
_RANGE_TOLERANCE = 0.05  # share of the teacher's range from black to white; the error of INT8 is below 0.01
_LEAST_RECOVERED = 0.5

# Usual means and standard deviations of pixels from 0 to 1.
_CUSTOMARY: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    "0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_SENTENCES = {
    "double_normalisation": "The pixels are normalised twice",
    "missing_normalisation": "Mean and standard deviation are missing",
    "pixels_not_scaled": "The pixels are not divided by 255",
    "pixels_scaled_twice": "The pixels are divided by 255 twice",
    "inverted_pixels": "Black and white are inverted",
    "wrong_normalisation": "The first layer reads the pixels in another range",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelRange:
    """The first layer's input for a black and for a white pixel, by channel (3,)."""

    black: Values
    white: Values

    def is_near(self, other: "PixelRange") -> bool:
        """Say whether both ends equal those of another range, up to a few percent of it."""
        allowed = _RANGE_TOLERANCE * np.abs(other.white - other.black)
        return bool(
            (np.abs(self.black - other.black) <= allowed).all() and (np.abs(self.white - other.white) <= allowed).all()
        )

    def to_json(self) -> dict[str, list[float]]:
        """Return both ends as JSON values."""
        return {"black": self.black.tolist(), "white": self.white.tolist()}


def find_normalisation_fault(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield a fault of the range in which the first layer reads the pixels; nothing if the range cannot be read."""
    images = judged.evaluation.images(judged.evaluation.spread(_IMAGES))
    given = read_pixel_range(judged.session.model_path, images)
    wanted = _find_trained_range(judged, images)
    if given is None or wanted is None or given.is_near(wanted):
        return
    name = _name_of(given, wanted)
    detail = (
        f"{_SENTENCES[name]}. For a black pixel the first layer reads {_numbers(given.black)} and for a white one "
        f"{_numbers(given.white)}, where {_numbers(wanted.black)} and {_numbers(wanted.white)} were trained on; export "
        "the model again."
    )
    evidence = {"first_layer": given.to_json(), "trained_on": wanted.to_json()}
    yield Diagnosis(name=name, detail=detail, evidence=evidence)


def find_undoable_normalisation_fault(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield the normalisation fault whose undoing in the images recovers most; for models with an unreadable graph."""
    repairs = {key: repair_by(judged, judged.session, change) for key, change in _changes().items()}
    (name, usual), best = max(repairs.items(), key=lambda item: item[1].recovered)
    if best.convinces(judged.confidence, _LEAST_RECOVERED):
        with_usual = f" (with the figures of {usual})" if usual else ""
        detail = (
            f"{_SENTENCES[name]}{with_usual}, it seems. With images that undo this, as far as eight bits can, "
            f"{percentages(best)}; export the model again."
        )
        yield Diagnosis(name=name, detail=detail, evidence={**best.evidence, "figures": usual})


def read_pixel_range(path: Path, images: Images) -> PixelRange | None:
    """Return the range that the first layer of a model file reads; None if it does not read scaled pixels."""
    try:
        value = _first_layer_input(path)
        return None if value is None else _fit_pixel_range(images, read_values(path, [value], images)[value])
    except EdgeDistillError:
        return None


def _find_trained_range(judged: JudgedModel, images: Images) -> PixelRange | None:
    text = read_metadata(judged.session.model_path).get(PIXEL_RANGE)
    if text is not None:
        return _range_from(text)
    role = model_role("teacher")
    entry = judged.bundle.manifest["files"].get(role)
    if entry is None or entry["bytes"] > _LARGEST_TEACHER or not (judged.bundle.path / entry["path"]).exists():
        return None
    return read_pixel_range(judged.bundle.file(role), images)


def _range_from(text: str) -> PixelRange | None:
    """Read {"black": [r, g, b], "white": [r, g, b]}; None for anything else."""
    try:
        record = parse_json(text)
        black, white = (np.array(record[end], dtype=np.float64) for end in ("black", "white"))
    except (ValueError, TypeError, KeyError):
        return None
    sound = black.shape == white.shape == (3,) and bool(np.isfinite([black, white]).all())
    return PixelRange(black=black, white=white) if sound else None


def _first_layer_input(path: Path) -> str | None:
    """Return the value made from the image that the first convolution or product reads, before any quantisation."""
    graph = read_graph(path)
    from_image = set(graph.inputs)
    for node in graph.nodes:
        if node.operator in _FIRST_LAYERS and node.inputs and node.inputs[0] in from_image:
            return _before_quantisers(graph, node.inputs[0])
        if from_image.intersection(node.inputs):
            from_image.update(node.outputs)
    return None


def _before_quantisers(graph: Graph, value: str) -> str:
    """Go back through Q/DQ nodes, at most as many as the graph has: a damaged graph may have a cycle."""
    for _ in graph.nodes:
        maker = graph.makers.get(value)
        if maker is None or maker.operator not in _QUANTISERS or not maker.inputs:
            break
        value = maker.inputs[0]
    return value


def _fit_pixel_range(images: Images, values: NDArray[np.float32] | NDArray[np.float16]) -> PixelRange | None:
    """Fit a straight line through pixel and value for each channel; None if one channel does not fit."""
    if values.shape == (len(images), 3, *images.shape[1:3]):
        values = values.transpose(0, 2, 3, 1)
    if values.shape != images.shape or not np.isfinite(values).all():
        return None
    black, white = [], []
    for channel in range(3):
        pixels, read = (each[..., channel].astype(np.float64).ravel() for each in (images, values))
        if pixels.std() == 0 or read.std() == 0 or np.corrcoef(pixels, read)[0, 1] ** 2 < _STRAIGHT:
            return None
        slope, at_zero = np.polyfit(pixels, read, 1)
        black.append(at_zero)
        white.append(at_zero + 255 * slope)
    return PixelRange(black=np.array(black), white=np.array(white))


def _name_of(given: PixelRange, wanted: PixelRange) -> str:
    faulty_ranges = _faulty_ranges(wanted).items()
    return next((name for name, faulty in faulty_ranges if given.is_near(faulty)), "wrong_normalisation")


def _faulty_ranges(sound: PixelRange) -> Mapping[str, PixelRange]:
    """Return the range of each known fault; the sound one is -mean / std at black, (1 - mean) / std at white."""
    std = 1 / (sound.white - sound.black)
    mean = -sound.black * std

    def normalise(black: Values, white: Values) -> PixelRange:
        return PixelRange(black=(black - mean) / std, white=(white - mean) / std)

    zero, one = np.zeros(3), np.ones(3)
    return {
        "double_normalisation": normalise(sound.black, sound.white),
        "missing_normalisation": PixelRange(black=zero, white=one),
        "pixels_not_scaled": normalise(zero, 255 * one),
        "pixels_scaled_twice": normalise(zero, one / 255),
        "inverted_pixels": PixelRange(black=sound.white, white=sound.black),
    }


def _changes() -> dict[tuple[str, str], Change]:
    """Return the changes that undo a fault in the images, by the fault's name and its usual mean and std."""
    changes: dict[tuple[str, str], Change] = {("inverted_pixels", ""): lambda images: 255 - images}
    for usual, (mean, std) in _CUSTOMARY.items():
        centre, spread = 255 * np.asarray(mean), np.asarray(std)
        changes["double_normalisation", usual] = _affine(spread, centre)
        changes["missing_normalisation", usual] = _affine(1 / spread, -centre / spread)
    return changes


def _affine(factor: Values, shift: Values) -> Change:
    return lambda images: np.clip(np.rint(images * factor + shift), 0, 255).astype(np.uint8)


def _numbers(values: Values) -> str:
    spread = float(np.ptp(values))
    same = spread <= 1e-3 * max(1.0, float(np.abs(values).max()))
    written = [f"{round(float(value), 4):.3g}" for value in values]
    return written[0] if same else f"({', '.join(written)})"
