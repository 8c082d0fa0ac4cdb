"""How much larger a model's values are on many images than on the few that show what FP16 can hold.

    python -m benchmarks.float16_images RUN [RUN ...] --source IMAGES

`IMAGES` are training images, as for `benchmarks.calibration`. For every value of `model.fp32.onnx` that depends on the
image, its largest magnitude on 256 images is divided by that on fewer. FP16 has room for 4 times what was measured
(`float16._range.SAFE`).
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edgedistill_calibration.config import CalibrationConfig
from edgedistill_calibration.graphs.reading import ActivationReader
from edgedistill_calibration.quantize import select_sample
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images

MANY, FEWER = 256, (16, 32, 64)


def largest_values(bundle: Bundle, images: ImageSet) -> NDArray[np.float64]:
    """Return the largest magnitude of every float value on each image (images, values)."""
    model = onnx.shape_inference.infer_shapes(onnx.load(bundle.file("model.fp32")))
    names = [
        each.name
        for each in (*model.graph.value_info, *model.graph.output)
        if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and _is_batched(each)
    ]
    sample = select_sample(bundle, images, CalibrationConfig()).images
    pixels = np.stack([bundle.preprocess.apply(sample.read(row)) for row in range(min(MANY, len(sample)))])
    rows = [
        [np.abs(value).reshape(len(value), -1).max(axis=1) for value in values]
        for values in ActivationReader(model, names).read(pixels)
    ]
    return np.concatenate([np.stack(row, axis=1) for row in rows]).astype(np.float64)


def _is_batched(value: onnx.ValueInfoProto) -> bool:
    axes = value.type.tensor_type.shape.dim
    return len(axes) > 1 and axes[0].HasField("dim_param")


def main() -> None:
    """Print the ratios of every bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--source", required=True)
    given = parser.parse_args()
    images = open_images(given.source).train
    for run in given.runs:
        found = largest_values(open_bundle(run, verify=False), images)
        whole = found.max(axis=0)
        for count in FEWER:
            part = found[:count].max(axis=0)
            ratios = whole[part > 0] / part[part > 0]
            print(f"{run}: {len(found)} images against {count}: at most {ratios.max():.2f} times as large")


if __name__ == "__main__":
    main()
