"""From the figures of each image to the record of an explanation, and to a plain answer."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.explanation.agreement import COSINE, MEASURES
from edgedistill.explanation.flipping import SHARES, area_under
from edgedistill.explanation.noise import CHANGE, LEVELS
from edgedistill_deploy.records.writing import SCHEMA

Row = Mapping[str, Any]
Record = dict[str, Any]
Interval = tuple[float, float]

TEACHER, STUDENT = "teacher", "student"
OTHER_CLASS, RANDOM_STUDENT, LABELS = "other_class", "random_student", "labels"
# What agreement means nothing below; a student that was trained on labels is a rival, and no floor.
FLOORS = (OTHER_CLASS, RANDOM_STUDENT)
TEACHER_ORDER, STUDENT_ORDER, RANDOM_ORDER = "teacher_order", "student_order", "random_order"
YES, PARTLY, NO = "yes", "partly", "no"
# What an interval that reaches a floor says; more images may say more.
_WORDS = {NO: "not shown"}

_CONFIDENCE = 0.95
_HALFWAY = 0.5  # of the way from the floor to full agreement, from which on the answer is yes
_LARGE_ERROR = 0.1
_HARDLY_CHANGED = 0.9
# How the sentences name the networks of a record.
_NAMES = {TEACHER: "teacher", STUDENT: "expert"}


def summarise(
    rows: Sequence[Row],
    *,
    method: str,
    class_names: Sequence[str],
    pictures: Sequence[Record] = (),
    left_out: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Record:
    """Return the record of an explanation, kind "explanation".

    Args:
        rows: the figures of each image; one or more.
        method: of attribution.
        class_names: of the subtask; `per_class` has those that the teacher sees in an image.
        pictures: that were drawn.
        left_out: sentences on comparisons that were not made.
        settings: of the method.
    """
    floors = {name: [row["floors"][name] for row in rows] for name in rows[0]["floors"]}
    own = [row["agreement"] for row in rows]
    above = {name: _summarise([_minus(one, floor) for one, floor in zip(own, found, strict=True)], bounds=(-2, 2))
             for name, found in floors.items()}  # fmt: skip
    flipping, unread = _flipping(rows)
    record = {
        "kind": "explanation",
        "schema": SCHEMA,
        "method": method,
        "settings": dict(settings or {}),
        "evidence": "teacher's class",
        "evidence_meaning": "the logit of the class that the teacher sees, minus the mean logit of the other classes",
        "images": len(rows),
        "split": "validation",
        "confidence": _CONFIDENCE,
        "agreement": _summarise(own),
        "floors": {name: _summarise(found) for name, found in floors.items()},
        "above": above,
        "per_class": _per_class(rows, class_names),
        "flipping": flipping,
        "checks": _checks(rows),
        "pictures": list(pictures),
        "left_out": [*left_out, *unread],
    }
    answer = judge_agreement(record)
    return {**record, "same_reasons": answer, "sentences": list(_say(record, answer))}


def mean_interval(values: Sequence[float], bounds: Interval = (-1.0, 1.0)) -> Record:
    """Return the mean of some images' values, and its interval: Student's t with 95 % confidence, within the bounds.

    One image says nothing about others: the interval is all that is possible.
    """
    from scipy.stats import t

    mean, count = math.fsum(values) / len(values), len(values)
    if count == 1:
        return {"mean": mean, "interval": [float(bounds[0]), float(bounds[1])]}
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)
    reach = float(t.ppf((1 + _CONFIDENCE) / 2, count - 1)) * error
    return {"mean": mean, "interval": [max(bounds[0], mean - reach), min(bounds[1], mean + reach)]}


def judge_agreement(record: Mapping[str, Any]) -> str:
    """Return whether expert and teacher look at the same thing: yes, partly or no.

    No: the cosine is not above every floor, with the interval of the difference. Partly: it is. Yes: it is also at
    least halfway from the highest floor to full agreement, with the lower end of the interval.
    """
    floors = [name for name in FLOORS if name in record["floors"]]
    if not all(record["above"][name][COSINE]["interval"][0] > 0 for name in floors):
        return NO
    highest = max(floors, key=lambda name: record["floors"][name][COSINE]["mean"])
    room = 1 - record["floors"][highest][COSINE]["mean"]
    reached = record["above"][highest][COSINE]["interval"][0]
    return YES if reached >= _HALFWAY * room else PARTLY


def _summarise(found: Sequence[Mapping[str, float]], bounds: Interval = (-1.0, 1.0)) -> Record:
    return {name: mean_interval([each[name] for each in found], bounds) for name in MEASURES}


def _minus(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: one[name] - other[name] for name in MEASURES}


def _per_class(rows: Sequence[Row], class_names: Sequence[str]) -> Record:
    members = {name: [row["agreement"] for row in rows if row["class"] == name] for name in class_names}
    return {name: {**_summarise(found), "images": len(found)} for name, found in members.items() if found}


def _flipping(rows: Sequence[Row]) -> tuple[Record, list[str]]:
    """Return the areas between the curves, and sentences on what could not be read."""
    record: Record = {"shares": list(SHARES), "curves": {}}
    unread = []
    own = {TEACHER: TEACHER_ORDER, STUDENT: STUDENT_ORDER}
    for network, order in own.items():
        curves = {
            name: np.array([row["flipping"][network][name] for row in rows]) for name in rows[0]["flipping"][network]
        }
        start = float(curves[order][:, 0].mean())
        if start <= 0:
            unread.append(
                f"flipping of the {_NAMES[network]}: on average it has no evidence for the teacher's class that could "
                "be lost"
            )
            continue
        other = next(each for each in own.values() if each != order)
        areas = {name: area_under(values / start) for name, values in curves.items()}
        record[f"{network}_model"] = _areas(areas, order, other)
        record["curves"][f"{network}_model"] = {
            name: (values.mean(axis=0) / start).tolist() for name, values in curves.items()
        }
    return record, unread


def _areas(areas: Mapping[str, NDArray[np.float64]], own: str, other: str) -> Record:
    """Return the mean area of each order; `gap`: how much worse the other's order is; `random_gap`: a random one."""
    wide = (-math.inf, math.inf)
    gap = mean_interval((areas[other] - areas[own]).tolist(), wide)
    random = mean_interval((areas[RANDOM_ORDER] - areas[own]).tolist(), wide)
    return {
        **{name: float(values.mean()) for name, values in areas.items()},
        "gap": gap["mean"],
        "gap_interval": _finite(gap["interval"]),
        "random_gap": random["mean"],
        "random_gap_interval": _finite(random["interval"]),
    }


def _finite(interval: Sequence[float]) -> list[float] | None:
    return list(interval) if all(map(math.isfinite, interval)) else None


def _checks(rows: Sequence[Row]) -> Record:
    """Return the largest doubts about the maps: their sums, whether the weights matter, and whether noise does."""
    complete = {network: _sum_error([row["sums"][network] for row in rows]) for network in rows[0]["sums"]}
    return {
        **({"completeness": complete} if complete else {}),
        "randomised": {STUDENT: mean_interval([row["randomised"] for row in rows])},
        "noise": {
            "levels": LEVELS,
            **{network: _under_noise([row["noise"][network] for row in rows]) for network in rows[0]["noise"]},
        },
    }


def _under_noise(found: Sequence[Mapping[str, float]]) -> Record:
    change = mean_interval([each[CHANGE] for each in found], (0.0, math.inf))
    return {**_summarise(found), CHANGE: {"mean": change["mean"], "interval": _finite(change["interval"])}}


def _sum_error(sums: Sequence[Sequence[float]]) -> float:
    """Return the mean error of the maps' sums, in parts of the mean size of what they should be."""
    wanted = math.fsum(abs(each[1]) for each in sums)
    return math.fsum(abs(each[0] - each[1]) for each in sums) / wanted if wanted else 0.0


def _say(record: Mapping[str, Any], answer: str) -> Iterable[str]:
    cosine = record["agreement"][COSINE]
    highest = max((record["floors"][name][COSINE]["mean"] for name in FLOORS if name in record["floors"]), default=0.0)
    yield (
        f"expert and teacher look at the same thing: {_WORDS.get(answer, answer)} "
        f"(cosine {_number(cosine)} on {record['images']} images; "
        f"{highest:.2f} would mean nothing, 1 is full agreement)"
    )
    if LABELS in record["above"]:
        low, high = record["above"][LABELS][COSINE]["interval"]
        which = "closer to" if low > 0 else "farther from" if high < 0 else "neither closer to nor farther from"
        than = "than" if low > 0 or high < 0 else "as far as these images tell, than"
        yield (
            f"its reasons are {which} the teacher's, {than} those of a student trained on labels alone (cosine "
            f"{record['above'][LABELS][COSINE]['mean']:+.2f}, {low:+.2f} to {high:+.2f})"
        )
    for network, error in record["checks"].get("completeness", {}).items():
        if error > _LARGE_ERROR:
            yield _say_sum(record["method"], network, error)
    same = record["checks"]["randomised"][STUDENT]["mean"]
    if same > _HARDLY_CHANGED:
        yield (
            f"random weights hardly change the expert's maps (cosine {same:.2f}), so this method shows the image here "
            "and not the reasons; take another --method"
        )
    yield _say_noise(record["checks"]["noise"])


def _say_noise(noise: Mapping[str, Any]) -> str:
    cosines = {name: noise[network][COSINE]["mean"] for network, name in _NAMES.items()}
    listed = " and ".join(f"{cosine:.2f} ({name})" for name, cosine in cosines.items())
    if min(cosines.values()) > _HARDLY_CHANGED:
        return f"the maps stay nearly the same under noise that is hardly visible: cosine with themselves {listed}"
    return (
        f"noise that is hardly visible already changes the maps: cosine with themselves {listed}; so an agreement "
        "near 1 cannot be expected, and single pixels mean little"
    )


def _say_sum(method: str, network: str, error: float) -> str:
    whose = f"the {_NAMES[network]}'s maps"
    if method == "lrp":
        return (
            f"{whose} leave {error:.0%} of the evidence to the biases of its layers, which no pixel has; so they show "
            "which pixels count beside others, not how much of the answer they make"
        )
    return f"{whose} miss their sum by {error:.0%}; more --steps make them more exact"


def _number(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['mean']:.2f}, {low:.2f} to {high:.2f}"
