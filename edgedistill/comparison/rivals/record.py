"""How far an expert is from its rivals on the same images, with paired intervals and one sentence. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.comparison.methods import LEARNS_FROM
from edgedistill.comparison.statistics import Difference, add_verdicts, say_worth
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.statistics.paired import drop_interval, mcnemar_p, wilson_interval

Correct = NDArray[np.bool_]
Record = dict[str, Any]


def rivals_record(expert: Record, rivals: Sequence[Record], *, confidence: float, tested: str) -> Record:
    """Compare an expert with its rivals.

    Args:
        expert: as `measure_answers` gives it.
        rivals: the same with the `name` of a method and what its training gave, all on the expert's images.
        confidence: of the intervals.
        tested: the split of the images, test or validation.

    Raises:
        DataError: a rival was tested on another number of images.
    """
    own = read_correct(expert)
    raw = [_compare(own, read_correct(each), each["name"], confidence) for each in rivals]
    differences = [found for found in add_verdicts(raw, confidence) if found is not None]
    rows = [_row(each, found, confidence) for each, found in zip(rivals, differences, strict=True)]
    compared = {each["name"]: (each["test_accuracy"], found) for each, found in zip(rivals, differences, strict=True)}
    return {
        "tested": tested,
        "images": len(own),
        "confidence": confidence,
        "expert": _accuracy(own, confidence),
        "rows": rows,
        "sentence": say_worth(compared, "SubDistill", "more images, or several seeds (`edgedistill compare`), would"),
        "covers": _covers(len(own), tested),
    }


def read_correct(tested: Mapping[str, Any]) -> Correct:
    """Return from a record of `measure_answers` whether each image's answer was right (N,)."""
    packed = np.frombuffer(bytes.fromhex(tested["correct_hex"]), dtype=np.uint8)
    return np.unpackbits(packed, count=tested["test_images"]).astype(np.bool_)


def _compare(own: Correct, theirs: Correct, name: str, confidence: float) -> Difference:
    """Return the expert's accuracy minus the rival's: Tango's interval, and McNemar's exact p-value."""
    if len(own) != len(theirs):
        raise DataError(f"The rival {name!r} was tested on {len(theirs)} images and the expert on {len(own)}.")
    won, lost = int((own & ~theirs).sum()), int((theirs & ~own).sum())
    return Difference(
        mean=(won - lost) / len(own),
        pairs=len(own),
        wins=won,
        losses=lost,
        interval=drop_interval(won, lost, len(own), confidence),
        p=mcnemar_p(won, lost),
    )


def _accuracy(correct: Correct, confidence: float) -> Record:
    interval = wilson_interval(int(correct.sum()), len(correct), confidence)
    return {"accuracy": float(correct.mean()), "interval": list(interval)}


def _row(rival: Record, difference: Difference, confidence: float) -> Record:
    kept = ("mean", "wins", "losses", "interval", "p", "p_adjusted", "verdict")
    found = {key: value for key, value in asdict(difference).items() if key in kept}
    return {
        "name": rival["name"],
        "learns_from": LEARNS_FROM[rival["name"]],
        **_accuracy(read_correct(rival), confidence),
        "difference": found,
        "training": rival.get("training"),
    }


def _covers(count: int, tested: str) -> str:
    chose = "" if tested == "test" else " These images also chose the epochs, so all accuracies are a little too high."
    return (
        f"Each student was trained once. Intervals are over the same {count} {tested} images: they cover other images, "
        f"not other seeds. Verdicts are those of McNemar's exact test, after Holm's correction.{chose}"
    )
