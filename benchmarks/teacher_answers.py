"""How long torch takes for a teacher's answers, beside ONNX Runtime with the teacher's file, in one run on a processor.

    python -m benchmarks.teacher_answers [MODEL ...]

Both answer the same batch of `edgedistill.export`, in turns, torch in parts as everywhere.
"""

import argparse
import functools
import tempfile
from pathlib import Path

import numpy as np
import timm

from benchmarks.alternating import alternate
from edgedistill.export.bundle import BATCH
from edgedistill.export.config import ExportConfig
from edgedistill.export.deployed import Deployed, logits_in_torch
from edgedistill.export.onnx_writing import write_onnx
from edgedistill.models.normalise import Normalise
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model

MODELS = ("tf_efficientnet_lite2", "resnet50")
SIZE = 224
ROUNDS = 8


def compare(name: str) -> tuple[float, float]:
    """Return the times in ms of torch and of ONNX Runtime for a batch."""
    teacher = Deployed(timm.create_model(name).eval(), Normalise([0.5] * 3, [0.5] * 3)).eval()
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "teacher.onnx"
        write_onnx(teacher, (SIZE, SIZE), path, opset=ExportConfig().written_opset, metadata={})
        with open_model(path, precision="teacher") as session:
            runs = {
                "torch": functools.partial(logits_in_torch, teacher, images),
                "ONNX Runtime": functools.partial(logits_of, session, images),
            }
            found = alternate(runs, ROUNDS, 50)
    return found["torch"], found["ONNX Runtime"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    for name in parser.parse_args().models:
        torch_ms, runtime_ms = compare(name)
        print(
            f"{name}: {BATCH} answers take {torch_ms:.0f} ms in torch, {runtime_ms:.0f} in ONNX Runtime: "
            f"{runtime_ms / torch_ms:.2f}"
        )


if __name__ == "__main__":
    main()
