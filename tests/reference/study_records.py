"""Records from outside a bundle, and of its reasons, as the commands write them: `explain`, `compare`, `plan`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgedistill_deploy.files.writing import write_json

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


def measured(mean: float, reach: float = 0.1) -> dict[str, Any]:
    return {"mean": mean, "interval": [max(-1.0, mean - reach), min(1.0, mean + reach)]}


def agreement(mean: float) -> dict[str, Any]:
    return {"cosine": measured(mean), "spearman": measured(0.8 * mean), "top_decile": measured(0.6 * mean)}


def area(values: Sequence[float]) -> float:
    """Return the area under a curve over `SHARES`, by the trapezoidal rule."""
    steps = zip(SHARES, SHARES[1:], values, values[1:], strict=False)
    return sum((right - left) * (one + other) / 2 for left, right, one, other in steps)


def explanation_record(
    method: str = "integrated-gradients", classes: Sequence[str] = ("0", "1", "2"), pictures: int = 2
) -> dict[str, Any]:
    """Return what `explain` records of an expert that looks at the same things as its teacher."""
    curve = [1 - share for share in SHARES]
    orders = {"teacher_order": [value**3 for value in curve], "student_order": [value**2 for value in curve]}
    curves = {**orders, "random_order": curve}
    areas = {name: area(values) for name, values in curves.items()}
    flipped = {**areas, "gap": 0.1, "gap_interval": [0.05, 0.15], "random_gap": 0.2, "random_gap_interval": None}
    return {
        "kind": "explanation",
        "schema": 1,
        "method": method,
        "settings": {"steps": 32},
        "evidence": "teacher's class",
        "images": 64,
        "split": "validation",
        "confidence": 0.95,
        "agreement": agreement(0.7),
        "floors": {"other_class": agreement(-0.2), "random_student": agreement(0.1), "labels": agreement(0.5)},
        "above": {"other_class": agreement(0.9), "random_student": agreement(0.6)},
        "per_class": {
            name: {**agreement(0.9 - 0.1 * place), "images": 8 + place} for place, name in enumerate(classes)
        },
        "flipping": {
            "shares": list(SHARES),
            "curves": {"teacher_model": curves, "student_model": curves},
            "teacher_model": flipped,
            "student_model": flipped,
        },
        "checks": {
            "completeness": {"teacher": 0.01, "student": 0.02},
            "randomised": {"student": measured(0.2)},
            "noise": {
                "levels": 4,
                "teacher": {**agreement(0.89), "change": {"mean": 0.2, "interval": [0.1, 0.3]}},
                "student": {**agreement(0.85), "change": {"mean": 0.3, "interval": None}},
            },
        },
        "pictures": [
            {"file": f"explain/{method}/image-{place:02}.png", "class": classes[place % len(classes)], "cosine": 0.71}
            for place in range(pictures)
        ],
        "left_out": ["labels: no rival trained on labels was kept"],
        "same_reasons": "yes",
        "sentences": ["expert and teacher look at the same thing: yes"],
    }


def add_explanation(folder: Path, record: dict[str, Any]) -> None:
    """Write the record into a bundle, with its pictures of three tiles."""
    write_json(folder / "explain" / f"{record['method']}.json", record)
    random = np.random.default_rng(0)
    for each in record["pictures"]:
        path = folder / each["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (192, 584, 3), dtype=np.uint8)).save(path)


def comparison_record(classes: Sequence[Any], student: str = "timm:resnet18", **changes: Any) -> dict[str, Any]:
    """Return what `compare` records of two methods on one task, by the fields that docs/compare.md names."""
    task = {"name": "task", "classes": list(classes), "student": student, "student_width": 1.0, "judged_by": "labels"}
    common = {"task": "task", "deviation": 0.01, "missing": 0, "runs": [{}] * 3}
    rows = [
        {**common, "train_size": size, "method": name, "mean": mean}
        for name, mean in (("subdistill", 0.94), ("labels", 0.9))
        for size in (100, 500)
    ]
    return {"kind": "comparison", "schema": 1, "reference": "subdistill", "tasks": [task], "rows": rows, **changes}


def plan_record(rows: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """Return what `plan` records of some rows."""
    return {
        "kind": "student-plan", "schema": 1, "device": "board", "budget_ms": 5.0, "percentile": 99.0,
        "verdict": "pass", "rows": list(rows), **changes,
    }  # fmt: skip
