"""One sentence on the data: where it comes from, how many images each split has, and how they were labelled."""

from collections.abc import Mapping
from typing import Any

from edgedistill_deploy.records.reading import Records
from edgedistill_deploy.wording import join_words, whole

_MOST_IMAGES = 1 << 62
_NAMES = (("training", "train"), ("choosing the best epoch", "validation"))
_BY_FOLDER = "the folder of an image is its label"
_BY_SOURCE = "the labels are those of the source"


def describe_data(manifest: Mapping[str, Any], records: Records) -> str:
    """Return the sentence; "" where the bundle records nothing about its data."""
    noted = manifest.get("data")
    data = noted if isinstance(noted, Mapping) else {}
    splits = _splits(manifest)
    tested = max((each.report.images.sample_count for each in records.parity), default=0)
    labelled = max((each.report.accuracy.labelled_count for each in records.parity), default=0)
    counts = [f"{whole(count)} images for {name}" for name, count in splits]
    if tested:
        counts.append(f"{whole(tested)} images to judge it, {_labelled(labelled, tested)}")
    if not counts:
        return ""
    source = _text(data.get("source"))
    start = f"The images come from {source}: " if source else "There are "
    labels = f"; {_how_labelled(source)}" if source and labelled else ""
    return f"{start}{join_words(counts)}{labels}."


def _splits(manifest: Mapping[str, Any]) -> list[tuple[str, int]]:
    noted = manifest.get("distillation")
    counts = noted.get("images") if isinstance(noted, Mapping) else None
    found = [(name, counts.get(key) if isinstance(counts, Mapping) else None) for name, key in _NAMES]
    told = [(name, count) for name, count in found if type(count) is int and 0 < count < _MOST_IMAGES]
    unlabelled = noted.get("unlabelled") if isinstance(noted, Mapping) else None
    if told and type(unlabelled) is int and 0 < unlabelled < _MOST_IMAGES:
        told[0] = (f"{told[0][0]} ({whole(unlabelled)} of them without a label)", told[0][1])
    return told


def _labelled(labelled: int, tested: int) -> str:
    if labelled == tested:
        return "all with a label"
    return f"{whole(labelled)} with a label" if labelled else "none with a label, so the teacher’s answers count"


def _how_labelled(source: str) -> str:
    return _BY_SOURCE if ":" in source else _BY_FOLDER


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
