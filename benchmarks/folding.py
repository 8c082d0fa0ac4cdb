"""What folding batch normalisations saves: writing a network's ONNX file, and the answers of the network in torch.

    python -m benchmarks.folding [--model tf_efficientnet_lite2 ...] [--size 224]

Both forms take turns; the ratios are of medians. `edgedistill.networks.folding` says what is folded.
"""

import argparse
import contextlib
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
import timm

from benchmarks.alternating import alternate
from edgedistill.export import onnx_writing
from edgedistill.export.deployed import Deployed, harmless_folds, logits_in_torch
from edgedistill.models.normalise import Normalise
from edgedistill.networks.folding import Fold, folded

ROUNDS = 5
BATCH = 64
OPSET = 20


def write(model: Deployed, size: int, path: Path, *, fold: bool) -> None:
    """Write the ONNX file, with the normalisations folded before the export or by the exporter."""
    with contextlib.nullcontext() if fold else mock.patch.object(onnx_writing, "harmless_folds", return_value=[]):
        onnx_writing.write_onnx(model, (size, size), path, opset=OPSET, metadata={})


def answer(model: Deployed, images: npt.NDArray[np.uint8], folds: Sequence[Fold]) -> None:
    """Answer with these normalisations folded."""
    with folded(model, folds):
        logits_in_torch(model, images)


def main() -> None:
    """Print the ratios of every network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["tf_efficientnet_lite2"])
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (BATCH, given.size, given.size, 3), dtype=np.uint8)
    for name in given.model:
        model = Deployed(timm.create_model(name).eval(), Normalise(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
        folds = harmless_folds(model, images[:2])
        with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
            written = functools.partial(write, model, given.size, Path(folder) / "model.onnx")
            taken = alternate({fold: functools.partial(written, fold=fold) for fold in (False, True)}, ROUNDS, 50)
            answered = functools.partial(answer, model, images)
            asked = alternate(
                {fold: functools.partial(answered, folds if fold else ()) for fold in (False, True)}, ROUNDS, 50
            )
        for what, times in (("writing", taken), (f"{BATCH} answers", asked)):
            ratio = times[True] / times[False]
            print(f"{name}, {what}: {times[False]:.0f} ms as it is, {times[True]:.0f} ms folded: {ratio:.2f}")


if __name__ == "__main__":
    main()
