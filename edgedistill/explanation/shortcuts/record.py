"""The record of a search for shortcuts, and what it says in words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.explanation.shortcuts.criterion import (
    LEAST_EXCESS,
    LEAST_IMAGES,
    LEAST_RATIO,
    LEVEL,
    Judged,
    Suspicion,
)
from edgedistill.explanation.shortcuts.regions import Cells, Region
from edgedistill.explanation.summary import STUDENT, TEACHER
from edgedistill_deploy.records.writing import SCHEMA
from edgedistill_deploy.statistics.paired import holm
from edgedistill_deploy.wording import join_words

Record = dict[str, Any]
Labels = NDArray[np.int64]

_IN_WORDS = {TEACHER: "the teacher", STUDENT: "the expert"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A place that one class draws on, with what it does to the answers and pictures of it."""

    label: int
    place: str
    cells: Cells
    suspicions: tuple[Suspicion, ...]
    changes: Mapping[str, Any]
    pictures: Sequence[str]


def summarise(
    findings: Sequence[Finding],
    judged: Judged,
    shares: Mapping[str, NDArray[np.float64]],
    *,
    seen: Labels,
    class_names: Sequence[str],
    regions: Sequence[Region],
    described: Mapping[str, Any],
) -> Record:
    """Return the record, kind "shortcuts".

    Args:
        findings: the places that stand out.
        judged: how they were found.
        shares: of the positive relevance (N, regions), by network.
        seen: the class that the teacher sees in each image (N,).
        class_names: of the subtask.
        regions: the places that were looked at.
        described: method, its settings, and what accuracy is held against.
    """
    found = _confirm([_finding(each, class_names, regions) for each in findings])
    too_few = _too_few(judged, seen, class_names)
    return {
        "kind": "shortcuts",
        "schema": SCHEMA,
        **described,
        "evidence": "teacher's class",
        "images": len(seen),
        "split": "validation",
        "grid": list(regions[0].cells.shape),
        "regions": [each.name for each in regions],
        "criterion": {
            "level": LEVEL,
            "correction": "Holm",
            "tests": judged.tests,
            "least_excess": LEAST_EXCESS,
            "least_ratio": LEAST_RATIO,
            "least_images": LEAST_IMAGES,
        },
        "classes": _classes(shares, seen, class_names),
        "findings": found,
        "left_out": too_few,
        "sentences": list(_say(found, len(seen), judged)),
    }


def _classes(shares: Mapping[str, NDArray[np.float64]], seen: Labels, class_names: Sequence[str]) -> Record:
    """Return the mean shares by class and network, in the order of `regions`."""
    return {
        class_names[label]: {
            "images": int(np.sum(seen == label)),
            **{network: found[seen == label].mean(axis=0).tolist() for network, found in shares.items()},
        }
        for label in np.unique(seen).tolist()
    }


def _finding(found: Finding, class_names: Sequence[str], regions: Sequence[Region]) -> Record:
    return {
        "class": class_names[found.label],
        "place": found.place,
        "cells": np.argwhere(found.cells).tolist(),
        "area": float(found.cells.mean()),
        "stands_out": [
            {
                "network": each.network,
                "region": regions[each.region].name,
                "share": each.share,
                "next_class": class_names[each.next_label],
                "next_share": each.next_share,
                "p_adjusted": each.p_adjusted,
            }
            for each in found.suspicions
        ],
        **found.changes,
        "pictures": list(found.pictures),
    }


def _confirm(findings: Sequence[Record]) -> list[Record]:
    """Add to each finding whether answers rest on its place, after Holm's correction for all that is tested.

    They do where a network that draws on the place is right on fewer images of the class without it, or takes more
    images of other classes for this one with it.
    """
    tested = [
        (number, change["p"] if change.get("drop", change.get("rise")) > 0 else 1.0)
        for number, found in enumerate(findings)
        for network in _networks_of(found)
        for change in (found["inpainted"][network]["of_class"], found["pasted"][network])
    ]
    adjusted = holm([p for _, p in tested])
    resting = {number for (number, _), p in zip(tested, adjusted, strict=True) if p < LEVEL}
    return [{**found, "answers_rest_on_it": number in resting} for number, found in enumerate(findings)]


def _networks_of(found: Record) -> list[str]:
    return list(dict.fromkeys(each["network"] for each in found["stands_out"]))


def _too_few(judged: Judged, seen: Labels, class_names: Sequence[str]) -> list[str]:
    names = [name for label, name in enumerate(class_names) if label not in judged.labels]
    if not names:
        return []
    which = "them" if len(names) > 1 else "it"
    few = f"the teacher sees {which} in fewer than {LEAST_IMAGES} of these {len(seen)} images, too few to tell"
    return [f"{join_words(names)}: {few}; more --images can help"]


def _say(findings: Sequence[Record], images: int, judged: Judged) -> Iterable[str]:
    if len(judged.labels) < 2:
        yield "places of one class cannot be told from those of others: fewer than two classes have enough images"
    elif not findings:
        yield (
            f"no place speaks for one class alone, on {images} images; a mark that is spread over the image, or that "
            "several classes have, would not be found this way"
        )
    for found in sorted(findings, key=lambda each: not each["answers_rest_on_it"]):
        yield _say_place(found)
        yield from _say_effect(found)
        if not found["answers_rest_on_it"]:
            yield (
                f"{found['class']}: as far as these images tell, its answers do not rest on this place; it may be an "
                "artefact of the maps, or be one sign among several"
            )


def _say_place(found: Record) -> str:
    networks = _networks_of(found)
    most = max(found["stands_out"], key=lambda each: float(each["share"]))
    who = join_words([_IN_WORDS[name] for name in networks])
    where = found["place"] if most["region"] == found["place"] else f"{found['place']} ({most['region']} above all)"
    return (
        f"{found['class']}: {who} {'look' if len(networks) > 1 else 'looks'} at {where} for this class and for no "
        f"other: {most['share']:.0%} of what speaks for it, and {most['next_share']:.0%} for {most['next_class']}, "
        "which comes next; see the pictures"
    )


def _say_effect(found: Record) -> Iterable[str]:
    for network in _networks_of(found):
        name = _IN_WORDS[network]
        own, other = found["inpainted"][network]["of_class"], found["inpainted"][network]["others"]
        pasted = found["pasted"][network]
        yield (
            f"{found['class']}: without this place {name} is right on {own['after']:.0%} of its images instead of "
            f"{own['before']:.0%}, and on {other['after']:.0%} of the others instead of {other['before']:.0%}"
        )
        yield (
            f"{found['class']}: with this place copied onto them, {name} takes {pasted['after']:.0%} of the others for "
            f"{found['class']} instead of {pasted['before']:.0%}"
        )
