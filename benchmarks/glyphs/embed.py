"""Make the embedded default: the ten digits of a glyph set, and its teacher in half precision.

    python -m benchmarks.glyphs.embed GLYPHS.npz TEACHER_FOLDER

writes `digits.npz` and `glyphs100/` under edgedistill/embedded, refuses to exceed 6,000,000 bytes in all, and prints
the teacher's accuracy on the test digits before and after rounding.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.glyphs.glyphset import TEST, GlyphSet, read_glyphs, write_npz
from benchmarks.glyphs.teacher import class_names_of, load_teacher, measure_accuracy, write_teacher
from edgedistill_deploy.errors import DataError

DIGITS = "0123456789"
BUDGET_BYTES = 6_000_000
EMBEDDED = Path(__file__).resolve().parents[2] / "edgedistill" / "embedded"


def write_digits(path: Path, glyphs: GlyphSet) -> None:
    """Write the digit images of all three splits, in the order and with the split of the source."""
    digits = glyphs.only(DIGITS)
    write_npz(
        path,
        {
            "images": digits.images,
            "labels": digits.labels.astype(np.uint8),
            "class_names": np.array(digits.class_names),
            "split": digits.split.astype(np.uint8),
        },
    )


def embed(glyphs_path: Path, teacher_folder: Path, out: Path) -> dict[str, float]:
    """Write the embedded files below `out`; return the teacher's accuracy on the test digits, full and half.

    Raises:
        DataError: the teacher's classes are not the set's, or the files exceed the budget.
    """
    glyphs = read_glyphs(glyphs_path)
    teacher = load_teacher(teacher_folder)
    labels = class_names_of(teacher)
    if labels != glyphs.class_names:
        raise DataError(f"The teacher in {teacher_folder} was not trained on the classes of {glyphs_path}, in order.")
    write_digits(out / "digits.npz", glyphs)
    write_teacher(out / "glyphs100", teacher, labels, half=True)
    _check_budget(out)
    return {
        "full": measure_accuracy(teacher, glyphs, TEST, DIGITS),
        "half": measure_accuracy(load_teacher(out / "glyphs100"), glyphs, TEST, DIGITS),
    }


def embedded_bytes(out: Path) -> int:
    """Return the size of the embedded data and teacher, in bytes."""
    files = (out / "digits.npz", out / "glyphs100" / "config.json", out / "glyphs100" / "model.safetensors")
    return sum(file.stat().st_size for file in files)


def _check_budget(out: Path) -> None:
    size = embedded_bytes(out)
    if size > BUDGET_BYTES:
        raise DataError(f"The embedded files take {size:,} bytes, and {BUDGET_BYTES:,} are allowed.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the embedded digits and teacher.")
    parser.add_argument("glyphs", type=Path, help="a glyph set that benchmarks.glyphs.render wrote")
    parser.add_argument("teacher", type=Path, help="a folder that benchmarks.glyphs.train_teacher wrote")
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="where the files go (default: %(default)s)")
    options = parser.parse_args()
    accuracies = embed(options.glyphs, options.teacher, options.out)
    print(f"{embedded_bytes(options.out):,} of {BUDGET_BYTES:,} bytes in {options.out}")
    for precision, accuracy in accuracies.items():
        print(f"teacher on the test digits, {precision} precision: {accuracy:.2%}")


if __name__ == "__main__":
    main()
