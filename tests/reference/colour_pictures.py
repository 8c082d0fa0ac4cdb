"""Pictures in one colour, each with noise of its own, and what the colour bundle's model must say about them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgedistill_deploy.bundle.folder import Bundle

RGB = {"red": (200, 30, 40), "green": (40, 190, 30), "yellow": (190, 200, 30)}


def picture(name: str, size: tuple[int, int] = (60, 40), seed: int = 0) -> Image.Image:
    """Return a noisy RGB picture of (width, height) pixels in a colour of `RGB`."""
    noise = np.random.default_rng(seed).integers(-25, 26, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.array(RGB[name]) + noise, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, names: tuple[str, ...] = tuple(RGB), kind: str = "png") -> list[Path]:
    """Write a picture a name, 0.png and so on; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{place}.{kind}" for place in range(len(names))]
    for place, (name, path) in enumerate(zip(names, paths, strict=True)):
        picture(name, seed=place).save(path)
    return paths


def expected_logits(model: Path, image: Image.Image) -> NDArray[np.float32]:
    """Return the logits (3,) of an RGB picture of 60 x 40 pixels, by Pillow and ONNX Runtime alone.

    The shorter side becomes 8 pixels and the longer one 12, of which the middle 8 stay.
    """
    prepared = np.asarray(image.resize((12, 8), Image.Resampling.BILINEAR))[:, 2:10]
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(["logits"], {"image": prepared[None]})[0][0]
    return logits


def changed(bundle: Bundle, edit: Callable[[onnx.ModelProto], None]) -> Bundle:
    """Change the model and register it anew."""
    path = bundle.path / "model.fp32.onnx"
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)
    return bundle.with_file("model.fp32", path)


def add_decision(model: onnx.ModelProto) -> None:
    """Accept where the largest logit exceeds the smallest by 4 or more."""
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["logits", "axis"], ["largest"], keepdims=0),
            helper.make_node("ReduceMin", ["logits", "axis"], ["smallest"], keepdims=0),
            helper.make_node("Sub", ["largest", "smallest"], ["range"]),
            helper.make_node("GreaterOrEqual", ["range", "least"], ["in_domain"]),
        ]
    )
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array([1]), "axis"), numpy_helper.from_array(np.array(4, np.float32), "least")]
    )
    model.graph.output.append(helper.make_tensor_value_info("in_domain", TensorProto.BOOL, ["N"]))
