"""What an expert says about pictures, as a table, a line, and a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words

_MOST_CLASSES = 8  # counted by name in the sentence


def show_predictions(record: Mapping[str, Any], console: Console) -> None:
    """Print a row for each picture of a prediction set; columns that no picture needs are left out."""
    rows: Sequence[Mapping[str, Any]] = [row for row in record["predictions"] if row["error"] is None]
    if not rows:
        return
    has_domain = any(row["in_domain"] is not None for row in rows)
    has_more = any(len(row["top"]) > 1 for row in rows)
    has_why = any(row.get("why") for row in rows)
    columns = ["image", "class", "probability", *(["one of them"] if has_domain else []), "time"]
    after = [*(["most for it"] if has_why else []), *(["then"] if has_more else [])]
    console.table(
        f"{record['bundle']}: {record['precision']} with {record['runtime']} on {record['provider']}",
        [*columns, *after],
        [
            [
                row["image"],
                _class_of(row),
                words.percent(row["probability"]),
                *([_domain_of(row)] if has_domain else []),
                words.milliseconds(row["milliseconds"]),
                *([_reason_of(row)] if has_why else []),
                *([_others_of(row)] if has_more else []),
            ]
            for row in rows
        ],
    )


def show_prediction(row: Mapping[str, Any], console: Console) -> None:
    """Print one picture's answer on one line."""
    if row["error"] is not None:
        return
    outside = ", none of its classes" if row["in_domain"] is False else ""
    others = f"; then {_others_of(row)}" if len(row["top"]) > 1 else ""
    share, time = words.percent(row["probability"]), words.milliseconds(row["milliseconds"])
    console.result(f"{row['image']}: {_class_of(row)} {share}{outside}, {time}{others}")


def describe_counts(record: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """Return how many pictures got which class, the most frequent first, and how many got none."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    parts = [f"{words.whole(count)} {name}" for name, count in ordered[:_MOST_CLASSES]]
    if len(ordered) > _MOST_CLASSES:
        rest = sum(count for _, count in ordered[_MOST_CLASSES:])
        parts.append(f"{words.whole(rest)} of {len(ordered) - _MOST_CLASSES} other classes")
    if record["unsure_count"]:
        parts.append(f"{words.whole(record['unsure_count'])} not sure")
    sentence = f"{words.whole(record['image_count'])} images: {', '.join(parts) or 'no answer'}."
    if record["outside_count"]:
        sentence += f" {words.whole(record['outside_count'])} are none of its classes, it says."
    if record["bad_count"]:
        reasons = "; ".join(f"{count} {reason}" for reason, count in record["bad"].items())
        sentence += f" {words.whole(record['bad_count'])} cannot be used: {reasons}."
    return sentence


def _class_of(row: Mapping[str, Any]) -> str:
    return str(row["class"]) if row["sure"] else f"not sure ({row['top'][0]['class']})"


def _domain_of(row: Mapping[str, Any]) -> str:
    return words.MISSING if row["in_domain"] is None else "yes" if row["in_domain"] else "no"


def _reason_of(row: Mapping[str, Any]) -> str:
    """Return the part of the picture that counts most, and how the probability falls without it."""
    why = row.get("why")
    if not why:
        return words.MISSING
    if why["place"] is None:
        return "no single part"
    return f"{why['place']}: {words.less_probable(row['probability'], why['probability_without'], why['fall'])}"


def _others_of(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{each['class']} {words.percent(each['probability'])}" for each in row["top"][1:])
