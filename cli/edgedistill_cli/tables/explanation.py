"""An explanation as tables: how far teacher and student look at the same parts of the images."""

from collections.abc import Mapping
from typing import Any

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words

Document = Mapping[str, Any]

_MEASURES = {"cosine": "cosine", "spearman": "ranks", "top_decile": "top tenth"}
_FLOORS = {
    "other_class": "floor: the teacher's reasons for another class",
    "random_student": "floor: students of random weights",
    "labels": "a student trained on labels alone",
}
_UNDER_NOISE = {
    "teacher": "for comparison: the teacher with itself, under slight noise",
    "student": "for comparison: the expert with itself, under slight noise",
}
_ORDERS = {"teacher_order": "teacher's map", "student_order": "expert's map", "random_order": "at random"}
_MODELS = {"teacher_model": "teacher", "student_model": "expert"}


def show_explanation(record: Document, console: Console) -> None:
    """Print the agreement beside its floors, by class, what taking out patches costs, and the answer in words."""
    noise = record.get("checks", {}).get("noise", {})  # records of earlier versions lack it
    rows = (
        {"expert and teacher": record["agreement"]}
        | {_FLOORS.get(name, name): found for name, found in record["floors"].items()}
        | {said: noise[network] for network, said in _UNDER_NOISE.items() if network in noise}
    )
    console.table(
        f"Agreement of reasons by {record['method']}, on {record['images']} {record['split']} images",
        ["", *_MEASURES.values()],
        [[name, *(_interval(found[key]) for key in _MEASURES)] for name, found in rows.items()],
    )
    console.table(
        "By the class that the teacher sees",
        ["class", "images", *_MEASURES.values()],
        [
            [name, words.whole(found["images"]), *(_interval(found[key]) for key in _MEASURES)]
            for name, found in record["per_class"].items()
        ],
    )
    _show_flipping(record["flipping"], console)
    for sentence in (*record["left_out"], *record["sentences"]):
        console.result(sentence)


def _show_flipping(flipping: Document, console: Console) -> None:
    models = {name: flipping[name] for name in _MODELS if name in flipping}
    if models:
        console.table(
            "Evidence left while patches are taken out: area under the curve, low where the map finds what counts",
            ["evidence of", *_ORDERS.values()],
            [[_MODELS[name], *(words.decimals(areas[key], 2) for key in _ORDERS)] for name, areas in models.items()],
        )


def _interval(found: Document) -> str:
    low, high = found["interval"]
    return f"{words.decimals(found['mean'], 2)} ({words.decimals(low, 2)} to {words.decimals(high, 2)})"
