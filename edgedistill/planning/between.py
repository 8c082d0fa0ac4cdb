"""Sizes between a student and its teacher: the candidates for an assistant."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from torch import nn

from edgedistill.models.at_hand import missing_of_student
from edgedistill.models.names import START_UNSET
from edgedistill.models.student_names import PREFIX
from edgedistill.networks.cost import count_cost
from edgedistill.planning.candidates import Candidate, default_candidates
from edgedistill_deploy.errors import EdgeDistillError, UsageError

MOST = 2
WIDEST = 4.0  # no student is wider by a larger factor
# A candidate this near to the student or to the teacher is no step in between.
LEAST_STEP = 1.5

Build = Callable[[Candidate], nn.Module]


def candidates_between(
    student: Candidate, build: Build, image_size: tuple[int, int], student_cost: int, teacher_cost: int
) -> tuple[Candidate, ...]:
    """Return up to two candidates whose costs divide the way from student to teacher into equal factors, small first.

    They are the student itself, wider, where its family has a width; else students that a plan times, those that are
    nearest.

    Args:
        student: what stands at the lower end.
        build: makes the network of a candidate; its weights do not matter.
        image_size: (H, W).
        student_cost, teacher_cost: multiply-adds of one image.
    """
    targets = [student_cost * (teacher_cost / student_cost) ** ((step + 1) / (MOST + 1)) for step in range(MOST)]
    lowest, highest = student_cost * LEAST_STEP, teacher_cost / LEAST_STEP
    wider = [each for target in targets if (each := _widen(student, target / student_cost)) is not None]
    known = _costs(wider, build, image_size) or _costs(_others(student, image_size), build, image_size)
    usable = {each: cost for each, cost in known.items() if lowest <= cost <= highest}
    nearest = (min(usable, key=lambda each: _distance(usable[each], target)) for target in targets if usable)
    return tuple(sorted(dict.fromkeys(nearest), key=lambda each: usable[each]))


def _widen(student: Candidate, factor: float) -> Candidate | None:
    """Return the student with so many times the multiply-adds, which grow with the square of its width."""
    width = min(round(student.width * factor**0.5, 2), WIDEST)
    return replace(student, width=width) if width > student.width else None


def _others(student: Candidate, image_size: tuple[int, int]) -> Iterator[Candidate]:
    """Yield the students that a plan times, without those whose trained weights would have to be fetched."""
    for each in default_candidates(image_size):
        is_here = not any(missing_of_student(each.name, START_UNSET, each.width))
        if each != student and is_here and not each.name.startswith(PREFIX):
            yield each


def _costs(candidates: Iterable[Candidate], build: Build, size: tuple[int, int]) -> dict[Candidate, int]:
    """Return the multiply-adds of those candidates that can be built."""
    found = {}
    for each in candidates:
        try:
            found[each] = count_cost(build(each), size).multiply_adds
        except (UsageError, EdgeDistillError):  # a family without a width, or images too small for it
            continue
    return found


def _distance(cost: float, target: float) -> float:
    return max(cost, target) / min(cost, target)
