"""The parts of the evidence: each is one comparison in a folder of its own below `benchmarks/results`."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.evidence.tasks import (
    MOBILE_STUDENT,
    NARROW_FASHION,
    NARROW_GLYPHS,
    WIDE_STUDENT,
    fashion_tasks,
    glyph_tasks,
    printed_tasks,
)
from edgedistill.comparison import METHODS, ComparisonPlan, Task
from edgedistill.explanation.config import ExplainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where data and teachers are."""

    glyphs: str
    glyphs_teacher: str
    fashion: str
    fashion_teacher: str
    printed: str
    printed_digits: str
    printed_teacher: str


_CENTER: dict[str, Any] = {"student_normalisation": "center"}
# lambda_layer is tuned for each alike; from the fifth on, one more thing than centring is changed.
VARIANTS: dict[str, dict[str, Any]] = {
    "standardize, procrustes": {"student_normalisation": "standardize", "alignment": "procrustes"},
    "standardize, learned": {"student_normalisation": "standardize", "alignment": "learned"},
    "center, procrustes": {**_CENTER, "alignment": "procrustes"},
    "center, learned": {**_CENTER, "alignment": "learned"},
    "center, all positions": {**_CENTER, "positions": 0},
    "center, lambda rises": {**_CENTER, "lambda_schedule": "rise"},
    "center, lambda falls": {**_CENTER, "lambda_schedule": "fall"},
    "center, weight average": {**_CENTER, "ema": 0.99},
}
VIEWS = {
    label: {**METHODS["subdistill"], "lambda_layer": 1.0, "teacher_cache": views}
    for label, views in {"teacher live": "off", "8 views": "8", "4 views": "4", "1 view": "1"}.items()
}
TEMPERATURES = {
    f"{method}, T = {temperature}": {**METHODS[method], "temperature": float(temperature)}
    for method in ("subdistill", "logits")
    for temperature in (1, 4)
}


# How much each direction of a subspace counts; `variance`, as in the paper, is in the main parts.
DIRECTIONS = {
    "by relevance": {**METHODS["subdistill"], "direction_weights": "relevance"},
    "equally": {**METHODS["subdistill"], "direction_weights": "equal"},
    "PCA, equally": {**METHODS["subdistill-pca"], "direction_weights": "equal"},
}


# The parts that are the comparison, and the rivals that differ so much from seed to seed that three decide nothing.
COMPARED = ("fashion-500", "glyphs-500")
UNSTEADY = ("logits", "vkd")
ABLATIONS = ("subdistill", "subdistill-pca", "subdistill-random")
# A part of this name has more seeds of what the part without it has.
SEEDS_SUFFIX = "-seeds"
# And one of this name has the same seeds of further methods.
AUTO_SUFFIX = "-auto"

# Whose students' reasons are compared with the teacher's, on two tasks of each data set.
REASONS = "reasons"
EXPLAINED = ("subdistill", "labels", "logits", "attention-transfer", "vid", *ABLATIONS[1:])

# Seeds that choose each weight in the comparison: one seed's few hundred validation images choose by chance.
TUNE_SEEDS = 2
# All that the smallest of the four groups has.
GLYPH_VALIDATION = 285
# The students start from nothing here, and the records were made before there was patient teaching.
COMPARED_METHODS = {name: own for name, own in METHODS.items() if name not in ("as-is", "patient")}


def _plan(
    tasks: tuple[Task, ...], methods: Mapping[str, Mapping[str, Any]] = COMPARED_METHODS, **settings: Any
) -> ComparisonPlan:
    return ComparisonPlan(**{"tasks": tasks, "methods": methods, "sizes": (500,), "validation_images": 500, **settings})


def _leading(rivals: tuple[str, ...]) -> dict[str, Mapping[str, Any]]:
    return {name: METHODS[name] for name in ("subdistill", "logits", *rivals)}


def _main(places: Places) -> dict[str, Callable[[], ComparisonPlan]]:
    return {
        "fashion-500": lambda: _plan(
            fashion_tasks(places.fashion, places.fashion_teacher), lambdas=(1.0, 10.0, 100.0), tune_seeds=TUNE_SEEDS
        ),
        # So narrow that the directions of largest variance lose what the teacher knows.
        "narrow-500": lambda: _plan(
            fashion_tasks(places.fashion, places.fashion_teacher, student=NARROW_FASHION, prefix="narrow-"),
            lambdas=(1.0, 10.0),
        ),
        "printed-500": lambda: _plan(
            printed_tasks(
                places.printed, places.printed_digits, places.printed_teacher, only=("printed-footwear", "printed-tops")
            ),
            lambdas=(1.0, 10.0),
        ),
        "glyphs-500": lambda: _plan(
            glyph_tasks(places.glyphs, places.glyphs_teacher, epochs=30),
            lambdas=(1.0, 10.0, 100.0),
            tune_seeds=TUNE_SEEDS,
            validation_images=GLYPH_VALIDATION,
        ),
        "fashion-2000": lambda: _plan(
            fashion_tasks(places.fashion, places.fashion_teacher, epochs=20),
            _leading(("attention-transfer", "vid", "vkd")),
            sizes=(2000,),
            lambdas=(1.0, 10.0),
        ),
    }


def _seeds(places: Places) -> dict[str, Callable[[], ComparisonPlan]]:
    """Five seeds of SubDistill, its two ablations, whose differences are the smallest, and, in the comparison itself,
    the rivals whose verdict depends on the number of seeds; starts from the main part.
    """
    main = _main(places)

    def more(part: str) -> ComparisonPlan:
        names = (*ABLATIONS, *(UNSTEADY if part in COMPARED else ()))
        return replace(main[part](), methods={name: METHODS[name] for name in names}, seeds=(0, 1, 2, 3, 4))

    return {f"{part}{SEEDS_SUFFIX}": functools.partial(more, part) for part in main if part.endswith("-500")}


def _sufficient(places: Places) -> dict[str, Callable[[], ComparisonPlan]]:
    """SubDistill with each layer's subspace chosen on validation images, beside the two it is chosen from."""
    more = _seeds(places)
    methods = {
        "subdistill, auto": {**METHODS["subdistill"], "method": "auto"},
        **{name: METHODS[name] for name in ABLATIONS[:2]},
    }

    def chosen(part: str) -> ComparisonPlan:
        return replace(more[part](), methods=methods, reference=next(iter(methods)), tune_seeds=1)

    return {f"{part}{AUTO_SUFFIX}": functools.partial(chosen, part) for part in more}


def _further(places: Places) -> dict[str, Callable[[], ComparisonPlan]]:
    return {
        # Half the epochs: what a budget too small for the student does to each method.
        "glyphs-500-short": lambda: _plan(
            glyph_tasks(places.glyphs, places.glyphs_teacher), lambdas=(1.0, 10.0), validation_images=GLYPH_VALIDATION
        ),
        # The batch size that does best on 3000 further validation images of footwear.
        "fashion-2000-batch16": lambda: _plan(
            fashion_tasks(places.fashion, places.fashion_teacher, epochs=20),
            {"subdistill": {**METHODS["subdistill"], "batch_size": 16}},
            sizes=(2000,),
            lambdas=(1.0, 10.0),
        ),
        "printed-digits-500": lambda: _plan(
            printed_tasks(places.printed, places.printed_digits, places.printed_teacher, only=("printed-digits",)),
            {name: METHODS[name] for name in ("subdistill", "labels", "logits", "subdistill-pca")},
            lambdas=(1.0, 10.0),
        ),
        "glyphs-500-narrow": lambda: _plan(
            glyph_tasks(places.glyphs, places.glyphs_teacher, NARROW_GLYPHS, epochs=30, only=("lower-f", "cyrillic-i")),
            {name: METHODS[name] for name in (*ABLATIONS, "logits")},
            lambdas=(1.0, 10.0),
            validation_images=GLYPH_VALIDATION,
        ),
        "glyphs-2000": lambda: _plan(
            glyph_tasks(places.glyphs, places.glyphs_teacher, only=("lower-f", "lower-n", "upper-t")),
            _leading(("vkd", "similarity")),
            sizes=(2000,),
            lambdas=(10.0,),
        ),
        "glyphs-500-wide": lambda: _plan(
            glyph_tasks(places.glyphs, places.glyphs_teacher, WIDE_STUDENT, only=("lower-f",)),
            _leading(("similarity", "vid")),
            lambdas=(10.0,),
        ),
        "glyphs-500-mobile": lambda: _plan(
            glyph_tasks(places.glyphs, places.glyphs_teacher, MOBILE_STUDENT, only=("lower-f",)),
            _leading(("similarity", "vid", *ABLATIONS[1:])),
            lambdas=(10.0,),
        ),
        # Whether the rivals catch up in twice the epochs.
        "glyphs-500-mobile-long": lambda: _plan(
            glyph_tasks(places.glyphs, places.glyphs_teacher, MOBILE_STUDENT, epochs=30, only=("lower-f",)),
            _leading(("similarity",)),
            lambdas=(10.0,),
        ),
    }


def _choices(places: Places) -> dict[str, Callable[[], ComparisonPlan]]:
    """Settings of SubDistill itself, judged on validation images."""
    tops = fashion_tasks(places.fashion, places.fashion_teacher, only=("tops",))
    short = glyph_tasks(places.glyphs, places.glyphs_teacher, only=("lower-f",))
    letters = glyph_tasks(places.glyphs, places.glyphs_teacher, epochs=30, only=("lower-f",))
    first = next(iter(VARIANTS))
    return {
        "variants-tops": lambda: _plan(tops, VARIANTS, reference=first, lambdas=(1.0, 10.0, 100.0)),
        "variants-lower-f": lambda: _plan(
            letters,
            {name: VARIANTS[name] for name in list(VARIANTS)[:4]},
            reference=first,
            lambdas=(1.0, 10.0),
            validation_images=GLYPH_VALIDATION,
        ),
        **{
            f"directions-{name}": functools.partial(
                _plan,
                tasks,
                DIRECTIONS,
                reference=next(iter(DIRECTIONS)),
                lambdas=(1.0, 10.0),
                tune_seeds=3,
                validation_images=images,
            )
            for name, tasks, images in (("tops", tops, 500), ("lower-f", letters, GLYPH_VALIDATION))
        },
        "views-lower-f": lambda: _plan(short, VIEWS, reference="teacher live"),
        "temperature-tops": lambda: _plan(tops, TEMPERATURES, reference="subdistill, T = 4", lambdas=(1.0, 10.0)),
    }


def _reasons(places: Places) -> dict[str, Callable[[], ComparisonPlan]]:
    """Do students decide for the teacher's reasons? One weight for all, so that only the method differs."""
    letters = glyph_tasks(places.glyphs, places.glyphs_teacher, epochs=30, only=("lower-f", "lower-n"))
    # In bfloat16 a processor without instructions for it takes five times as long.
    whole = tuple(replace(task, settings={**task.settings, "mixed_precision": "no"}) for task in letters)
    return {
        REASONS: lambda: _plan(
            (*fashion_tasks(places.fashion, places.fashion_teacher), *whole),
            {name: METHODS[name] for name in EXPLAINED},
            lambdas=(1.0,),
            validation_images=GLYPH_VALIDATION,
            explain=ExplainConfig(),
        )
    }


def parts(places: Places) -> dict[str, Callable[[], ComparisonPlan]]:
    """Return the plans by name; one is made when it is called for, because its data may not be here."""
    return {
        **_choices(places),
        **_main(places),
        **_seeds(places),
        **_sufficient(places),
        **_further(places),
        **_reasons(places),
    }
