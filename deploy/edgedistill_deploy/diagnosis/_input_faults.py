"""Images that reach the network otherwise than it was trained on: in another range, curve, place or colour.

Normalisation is inside the graph, so the best evidence is what the first layer reads. The right values for a black and
for a white pixel are in the file's metadata, or else in the teacher's file, which has the same normalisation. With
them, what is read becomes pixels again (`_read_pixels`), and these are compared with the image. This needs no accuracy
and is exact in every precision, because it looks before the first quantisation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.diagnosis._judged_model import Images, JudgedModel, read_values
from edgedistill_deploy.diagnosis._read_pixels import describe_alteration
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
_LAYERS = 2
_STRAIGHT = 1.5  # steps of a pixel that values lie from a straight line if they are only scaled and shifted
_MOST = 0.8  # share of the values that must lie there
_RANGE_TOLERANCE = 0.05  # share of the teacher's range from black to white; the error of INT8 is below 0.01

SENTENCES = {
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

    def to_pixels(self, values: Values) -> Values:
        """Return the pixels (0 to 255) for which the first layer should read these values (N, H, W, 3)."""
        return 255 * (values - self.black) / (self.white - self.black)

    def to_json(self) -> dict[str, list[float]]:
        """Return both ends as JSON values."""
        return {"black": self.black.tolist(), "white": self.white.tolist()}


def find_input_fault(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield what differs in the pixels that the first layer reads; nothing if they cannot be read."""
    images = judged.evaluation.images(judged.evaluation.spread(_IMAGES))
    wanted = _find_trained_range(judged, images)
    readings = _read_first_layers(judged.session.model_path, images)
    if wanted is None or not readings:
        return
    ranges = [_fit_pixel_range(images, each) for each in readings]
    if any(each is not None and each.is_near(wanted) for each in ranges):
        return
    if ranges[-1] is not None:
        yield _describe_range(ranges[-1], wanted)
    elif altered := describe_alteration(images, wanted.to_pixels(readings[-1])):
        detail = f"The first layer does not read the image as it was trained to: {altered.clause}."
        yield Diagnosis(name=altered.name, detail=detail, evidence=altered.figures)


def _describe_range(given: PixelRange, wanted: PixelRange) -> Diagnosis:
    name = _name_of(given, wanted)
    detail = (
        f"{SENTENCES[name]}. For a black pixel the first layer reads {_numbers(given.black)} and for a white one "
        f"{_numbers(given.white)}, where {_numbers(wanted.black)} and {_numbers(wanted.white)} were trained on; export "
        "the model again."
    )
    return Diagnosis(
        name=name, detail=detail, evidence={"first_layer": given.to_json(), "trained_on": wanted.to_json()}
    )


def read_pixel_range(path: Path, images: Images) -> PixelRange | None:
    """Return the range that the first layer of a model file reads; None if it does not read scaled pixels."""
    readings = _read_first_layers(path, images)
    return _fit_pixel_range(images, readings[0]) if readings else None


def _read_first_layers(path: Path, images: Images) -> list[Values]:
    """Return what the first layers that read an image of the given size read, each (N, H, W, 3).

    The last is the network's own. One before it may belong to the preparation: a product makes an image grey.
    """
    try:
        values = _first_layer_inputs(path)
        read = read_values(path, values, images) if values else {}
    except EdgeDistillError:
        return []
    shaped = [_as_images(read[value], images) for value in values]
    return [each for each in shaped if each is not None and np.isfinite(each).all()]


def _as_images(values: NDArray[np.float32] | NDArray[np.float16], images: Images) -> Values | None:
    if values.shape == (len(images), 3, *images.shape[1:3]):
        values = values.transpose(0, 2, 3, 1)
    return values.astype(np.float64) if values.shape == images.shape else None


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


def _first_layer_inputs(path: Path) -> list[str]:
    """Return the values made from the image that the first products read, before any quantisation."""
    graph = read_graph(path)
    from_image, found = set(graph.inputs), []
    for node in graph.nodes:
        if not from_image.intersection(node.inputs):
            continue
        from_image.update(node.outputs)
        if node.operator in _FIRST_LAYERS and node.inputs[0] in from_image:
            found.append(_before_quantisers(graph, node.inputs[0]))
            if len(found) == _LAYERS:
                break
    return list(dict.fromkeys(found))


def _before_quantisers(graph: Graph, value: str) -> str:
    """Go back through Q/DQ nodes, at most as many as the graph has: a damaged graph may have a cycle."""
    for _ in graph.nodes:
        maker = graph.makers.get(value)
        if maker is None or maker.operator not in _QUANTISERS or not maker.inputs:
            break
        value = maker.inputs[0]
    return value


def _fit_pixel_range(images: Images, values: Values) -> PixelRange | None:
    """Fit a straight line through pixel and value for each channel; None if one channel does not fit."""
    black, white = [], []
    for channel in range(3):
        pixels, read = (each[..., channel].astype(np.float64).ravel() for each in (images, values))
        if pixels.std() == 0 or read.std() == 0:
            return None
        slope, at_zero = np.polyfit(pixels, read, 1)
        if np.mean(np.abs(read - at_zero - slope * pixels) <= _STRAIGHT * abs(slope)) < _MOST:
            return None
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


def _numbers(values: Values) -> str:
    spread = float(np.ptp(values))
    same = spread <= 1e-3 * max(1.0, float(np.abs(values).max()))
    written = [f"{round(float(value), 4):.3g}" for value in values]
    return written[0] if same else f"({', '.join(written)})"
